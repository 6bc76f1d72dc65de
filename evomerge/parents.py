"""Whether the parents' scores leave anything to search: if not, why, and what they answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evomerge.errors import RunError
from evomerge.trial import Document, Sample, Trial, TrialState

Answers = Mapping[tuple[str, int], Mapping[str, float]]


def is_parent(trial: Trial) -> bool:
    """Whether a trial is a model that goes into the merge."""
    return trial.candidate.origin.startswith("model ")


def why_hopeless(parents: Sequence[Trial], documents: Mapping[int, Sequence[Document]]) -> str:
    """One sentence if no merge of these parents can be told from another, else "".

    Args:
        parents: Trials of the models.
        documents: Trial id -> per-document results.
    """
    scored = [trial for trial in parents if trial.outcome.state is TrialState.COMPLETE]
    if not scored:
        return f"every model failed, the first with: {parents[0].outcome.failure}"
    if len(scored) < 2:
        return ""
    first, *others = (_values(trial, documents[trial.candidate.trial_id]) for trial in scored)
    if any(other != first for other in others):
        return ""
    return f"all {len(scored)} models score the same on every document of the search tasks"


def refuse_hopeless(
    parents: Sequence[Trial], documents: Mapping[int, Sequence[Document]], *, where: str
) -> None:
    """Does nothing where merges of the parents can be told apart.

    Args:
        parents: Trials of the models.
        documents: Trial id -> per-document results.
        where: The run folder.

    Raises:
        RunError: they cannot; with a few answers for people to look at.
    """
    reason = why_hopeless(parents, documents)
    if not reason:
        return
    has_scores = any(t.outcome.state is TrialState.COMPLETE for t in parents)
    mend = (
        "Look at models, chat template, answer format and the metric's filter"
        if has_scores
        else "Mend what failed (`evomerge show RUN --failed` lists all)"
    )
    samples = next((t.outcome.evaluation.samples for t in parents if t.outcome.evaluation), ())
    shown = f" What a model answered:\n{samples_text(samples)}" if samples else ""
    raise RunError(
        f"{reason}; no search can tell their merges apart" if has_scores else reason,
        where=where,
        fix=f"{mend}; then start anew with another --run-dir.{shown}",
    )


def samples_text(samples: Sequence[Sample]) -> str:
    """The samples as people read them, one line each for prompt and answer."""
    return "\n".join(
        f"  {sample.task}, document {sample.doc_id}\n"
        f"    prompt ... {sample.prompt[-_SHOWN:]!r}\n"
        f"    answer     {sample.answer[:_SHOWN]!r}"
        for sample in samples
    )


_SHOWN = 100  # characters


def _values(trial: Trial, documents: Sequence[Document]) -> Answers | Sequence[object]:
    """Per-document values; the metrics alone where a task gives none per document."""
    if documents:
        return {(d.task, d.doc_id): dict(d.values) for d in documents}
    evaluation = trial.outcome.evaluation
    return [(m.key, m.value) for m in evaluation.metrics] if evaluation else []
