"""What a run tells while it goes on; the core yields these and never prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.objective import Score
from evomerge.nouns.trial import Candidate


@dataclass(frozen=True)
class RunStarted:
    """The run is set up.

    Attributes:
        run_dir: The run folder.
        budget: Trials the optimizer will propose.
        n_dims: Length of a genotype.
        n_recorded: Trials found in the ledger and not to be repeated.
        warnings: What the user should think about.
        notes: What the user should know.
    """

    run_dir: str
    budget: int
    n_dims: int
    n_recorded: int
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preparing:
    """The run gets ready for its first trial, and it takes long.

    Attributes:
        activity: What it does.
        share: How much of that is done, from 0 to 1.
    """

    activity: str
    share: float = 0.0


@dataclass(frozen=True)
class Proposing:
    """The optimizer is at work on its next proposals, and it may take long.

    Attributes:
        activity: What it does.
        share: How much of that is done, from 0 to 1.
    """

    activity: str
    share: float = 0.0


@dataclass(frozen=True)
class TrialStarted:
    """A candidate goes to work."""

    candidate: Candidate


@dataclass(frozen=True)
class StageStarted:
    """A trial enters a stage: ``"merge"``, ``"evaluate"``."""

    trial_id: int
    stage: str


@dataclass(frozen=True)
class TrialFinished:
    """A candidate is judged, or failed.

    Attributes:
        candidate: What was tried.
        outcome: What came of it.
        scores: Score of each objective, empty where it failed.
        is_best: Whether it is the best trial so far (never for several objectives).
        was_recorded: Whether it came from the ledger rather than from work.
    """

    candidate: Candidate
    outcome: Outcome
    scores: tuple[Score, ...] = ()
    is_best: bool = False
    was_recorded: bool = False


@dataclass(frozen=True)
class FinalScored:
    """A trial was scored on a split that did not steer the search; no scores if it failed."""

    candidate: Candidate
    split: str
    scores: tuple[Score, ...]
    failure: str = ""


@dataclass(frozen=True)
class Notice:
    """Something the user should know of."""

    message: str


@dataclass(frozen=True)
class Warned:
    """Something the user should think about."""

    message: str


@dataclass(frozen=True)
class RunFinished:
    """Nothing is left to do.

    Attributes:
        reason: ``"budget"``, ``"patience"``, ``"timeout"``, ``"converged"``,
            ``"exhausted"`` or ``"stopped"``.
        n_trials: Trials in the ledger, baselines included.
    """

    reason: str
    n_trials: int


Event = (
    RunStarted
    | Preparing
    | Proposing
    | TrialStarted
    | StageStarted
    | TrialFinished
    | FinalScored
    | Notice
    | Warned
    | RunFinished
)


class Listener(Protocol):
    """Hears every event of a run; what it yields is told too."""

    def __call__(self, event: Event) -> Iterable[Event]:
        """Takes an event in."""

    def close(self) -> None:
        """The run is over, or left."""
