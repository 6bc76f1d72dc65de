"""How far a search goes: trials, trials without a better one, seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import RunError
from evomerge.genome.words import N_FINALISTS
from evomerge.optimizers import KEPT_SECONDS
from evomerge.run.ledger.history import Ledger


@dataclass(frozen=True)
class Limits:
    """How far a search goes.

    Attributes:
        budget: Trials the optimizer proposes.
        patience: Trials without a better one, None for no such limit.
        timeout: Seconds, None for no such limit; what runs then is given up and not recorded.
        finalists: Best trials that are scored again after the search, at least.
    """

    budget: int
    patience: int | None = None
    timeout: float | None = None
    finalists: int = N_FINALISTS

    def deadline(self, ledger: Ledger, n_workers: int) -> Deadline:
        """When a search that goes on now is over; the seconds its ledger tells of are spent."""
        if self.timeout is None:
            return Deadline()
        left = self.timeout - seconds_spent(ledger, n_workers)
        return Deadline(search_end=time.monotonic() + left)

    def too_short(self) -> RunError:
        """What to say where the time was over before anything was found."""
        return RunError(
            f"the search was over after {self.timeout:g} seconds, before a single model was scored",
            where="optimizer.timeout",
            fix="Allow more: the same folder goes on.",
        )


def seconds_spent(ledger: Ledger, n_workers: int) -> float:
    """On the recorded trials and epochs, so many at once, and on waiting for others."""
    trials = ledger.trials.values()
    between = sum(KEPT_SECONDS[name](ledger.folder.optimizer) for name in KEPT_SECONDS)
    in_slots = sum(sum(trial.outcome.seconds.values()) + trial.idle for trial in trials)
    return between + in_slots / n_workers
