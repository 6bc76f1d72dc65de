"""The models that go into a merge, among the trials of a run."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.foundations.errors import RunError
from evomerge.nouns.origin import OriginKind
from evomerge.nouns.trial import Trial


def is_parent(trial: Trial) -> bool:
    """Whether a trial is a model that goes into the merge."""
    return trial.candidate.origin.kind is OriginKind.MODEL


def refuse_unscored(trials: Sequence[Trial], *, where: str) -> None:
    """Does nothing where a parent was scored.

    Args:
        trials: The baselines.
        where: The run folder.

    Raises:
        RunError: every parent failed: so would what is made of them.
    """
    parents = [trial for trial in trials if is_parent(trial)]
    if all(trial.outcome.evaluation is None for trial in parents):
        raise RunError(
            f"every model failed, the first with: {parents[0].outcome.failure}",
            where=where,
            fix="Mend what failed (`evomerge show RUN --failed` lists all); then add --fork "
            "NEW_RUN to the same command, which tries them again.",
        )
