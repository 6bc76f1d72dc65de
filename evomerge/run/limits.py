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
    """On the recorded trials and epochs, and on waiting for others.

    Trials of several workers tell how long the search took with all that it did; those of one
    worker took their own time, and the epochs between them theirs.

    Args:
        ledger: What is recorded.
        n_workers: Trials at once, where that is all that is known: of ledgers that tell how long
            workers waited, and not how long the search took.
    """
    timed = [trial for trial in ledger.trials.values() if trial.elapsed is not None]
    others = [trial for trial in ledger.trials.values() if trial.elapsed is None]
    at_once = n_workers if any(trial.idle for trial in others) else 1
    alone = sum(sum(trial.outcome.seconds.values()) + trial.idle for trial in others) / at_once
    n_timed, n_others = (
        sum(trial.candidate.origin.is_taught for trial in some) for some in (timed, others)
    )
    kept = sum(KEPT_SECONDS[name](ledger.folder.optimizer) for name in KEPT_SECONDS)
    apart = n_others / (n_timed + n_others) if n_timed else 1.0  # share of epochs not in `timed`
    return sum(trial.elapsed or 0.0 for trial in timed) + alone + apart * kept
