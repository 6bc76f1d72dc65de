"""What the best trial answered to a few documents, beside a model it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evomerge.nouns.evaluation import Sample
from evomerge.nouns.parents import is_parent
from evomerge.nouns.section import Section
from evomerge.nouns.trial import Trial
from evomerge.run.recorded_run import RecordedRun

_SHOWN = 80  # characters of each text


@dataclass(frozen=True)
class _Pair:
    """A document with two answers."""

    sample: Sample
    answer: str


def answers_section(run: RecordedRun) -> Section | None:
    """A row per document whose prompt was kept; nothing where none was, or no merge was best."""
    best, parent = next(iter(run.winners), None), _parent(run)
    if best is None or parent is None or best.candidate.is_baseline:
        return None
    pairs = list(_pairs(run, best, parent))
    if not pairs:
        return None
    trial_id, name = best.candidate.trial_id, str(parent.candidate.origin)
    return Section(
        "answers",
        f"what trial {trial_id} answers beside {name}",
        ("task", "document", "prompt", "target", name, f"trial {trial_id}"),
        tuple(
            (
                pair.sample.task,
                str(pair.sample.doc_id),
                _end(pair.sample.prompt),
                *map(_start, (pair.sample.target, pair.sample.answer, pair.answer)),
            )
            for pair in pairs
        ),
        (f"Every answer of a trial: `evomerge show RUN --answers {trial_id}`.",),
        {
            "trial": trial_id,
            "parent": parent.candidate.trial_id,
            "documents": [
                {
                    "task": pair.sample.task,
                    "document": pair.sample.doc_id,
                    "prompt": pair.sample.prompt,
                    "target": pair.sample.target,
                    "parent": pair.sample.answer,
                    "trial": pair.answer,
                }
                for pair in pairs
            ],
        },
    )


def _parent(run: RecordedRun) -> Trial | None:
    """The best of the models, with answers of which more than their number was kept."""
    ranked = [trial for trial in run.leaderboard.ranked() if is_parent(trial)]
    return next((t for t in ranked if t.outcome.evaluation and t.outcome.evaluation.samples), None)


def _pairs(run: RecordedRun, best: Trial, parent: Trial) -> Iterator[_Pair]:
    answers = {(one.task, one.doc_id): one.answer for one in run.documents(best.candidate.trial_id)}
    evaluation = parent.outcome.evaluation
    for sample in evaluation.samples if evaluation is not None else ():
        answer = answers.get((sample.task, sample.doc_id))
        if isinstance(answer, int):
            yield _Pair(sample, f"option {answer + 1}")
        elif answer is not None:
            yield _Pair(sample, answer)


def _end(text: str) -> str:
    """The end of a prompt, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"…{line[-_SHOWN:]}"


def _start(text: str) -> str:
    """The beginning of an answer, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
