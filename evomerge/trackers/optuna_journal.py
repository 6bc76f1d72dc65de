"""The run as an Optuna study in a journal file, for ``optuna-dashboard`` and Optuna's plots.

A mirror of the ledger: nothing reads it back, and it may be deleted at any time.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, ClassVar

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from evomerge.foundations.reading import real_path
from evomerge.foundations.text_safety import one_name
from evomerge.nouns.space import Choice, Integer, Parameter
from evomerge.nouns.trial import Trial
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.recorded_run import RecordedRun
from evomerge.trackers.base import Tracker

optuna.logging.set_verbosity(optuna.logging.WARNING)  # "a new study created" is not news


class OptunaJournal(Tracker):
    """Writes trials into a run folder's ``study.journal``; begins it anew.

    Args:
        run: The run as it stands; its trials are written at once.
    """

    target: ClassVar[str] = "study.journal"

    def __init__(self, run: RecordedRun) -> None:
        self._distributions = {p.name: distribution(p) for p in run.space}
        path = run.ledger.folder.journal
        path.unlink(missing_ok=True)
        self._log = _Batched(JournalFileBackend(str(path), _LockedByTheRun(str(path))))
        objective = run.leaderboard.objective
        self._study = optuna.create_study(
            study_name=one_name(real_path(path.parent).name),
            storage=JournalStorage(self._log),
            directions=["maximize"] * objective.n_objectives,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # since Optuna 3.2, unchanged
            self._study.set_metric_names(list(objective.labels))
        self.n_written = 0
        self.update(run)

    def update(self, run: RecordedRun) -> None:
        """Adds the trials that are not in the file yet, with one write."""
        leaderboard = run.leaderboard
        for trial in leaderboard.trials[self.n_written :]:
            if self._fits(trial):
                self._study.add_trial(self._frozen(leaderboard, trial))
            self.n_written += 1
        self._log.flush()

    def _fits(self, trial: Trial) -> bool:
        """Whether it is a point of the space; a baseline may lie outside the ranges."""
        point = trial.candidate.point
        return set(point) == set(self._distributions) and all(
            distribution._contains(distribution.to_internal_repr(point[name]))
            for name, distribution in self._distributions.items()
        )

    def _frozen(self, leaderboard: Leaderboard, trial: Trial) -> FrozenTrial:
        outcome, candidate = trial.outcome, trial.candidate
        scores = leaderboard.scores(trial)
        values = [score.value for score in scores]
        attributes: dict[str, Any] = {"trial": candidate.trial_id, "origin": str(candidate.origin)}
        if scores:
            attributes["stderr"] = [score.stderr for score in scores]
            attributes["n"] = [score.n for score in scores]
        if outcome.failure:
            attributes["failure"] = outcome.failure
        return create_trial(
            state=TrialState.COMPLETE if values else TrialState.FAIL,
            values=values or None,
            params=dict(candidate.point),
            distributions=self._distributions,
            user_attrs=attributes,
        )


def distribution(parameter: Parameter) -> BaseDistribution:
    """Optuna's word for one parameter, in its natural unit."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values)
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)


class _LockedByTheRun(JournalFileOpenLock):
    """None of its own: one process has the run folder, and killed it would leave Optuna's behind.

    Optuna's is a link or a file beside the journal. A run does not go on in a folder with links.
    """

    def acquire(self) -> bool:
        """Nobody else writes."""
        return True

    def release(self) -> None:
        """Nothing is held."""


class _Batched(BaseJournalBackend):
    """Keeps log entries in memory until ``flush``: one lock and one fsync for many trials."""

    def __init__(self, file: JournalFileBackend) -> None:
        self._file = file
        self._logs: list[dict[str, Any]] = []
        self._n_flushed = 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs

    def flush(self) -> None:
        if self._n_flushed < len(self._logs):
            self._file.append_logs(self._logs[self._n_flushed :])
            self._n_flushed = len(self._logs)
