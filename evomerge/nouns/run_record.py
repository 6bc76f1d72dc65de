"""What sections of the report read of a recorded run; some stand in rooms above ``run/``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from evomerge.genome.schema import Genome
from evomerge.nouns.evaluation import Evaluation, Outcome
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.trial import Trial


class TrialsRecord(Protocol):
    """The trials on the search tasks, and the rule that orders them."""

    @property
    def objective(self) -> Objective:
        """Metrics -> scores."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All finished trials, in order of their ids."""

    def losses(self, trial: Trial) -> Any:
        """Shape (n_objectives,); ``inf`` where the trial failed."""

    def scores(self, trial: Trial) -> tuple[Score, ...]:
        """Of the search tasks; none where the trial failed."""


class RunRecord(Protocol):
    """A run folder, finished or not."""

    @property
    def genome(self) -> Genome:
        """What was searched."""

    @property
    def folder(self) -> Path:
        """The run folder."""

    @property
    def leaderboard(self) -> TrialsRecord:
        """The trials on the search tasks."""

    @property
    def finals(self) -> Mapping[str, Objective]:
        """Split -> its objective, for the splits that have results."""

    def kept_by(self, optimizer: str) -> Iterator[tuple[int, Path]]:
        """Position and folder of each optimizer of a name, where it keeps its things."""

    def outcomes(self, split: str) -> Mapping[int, Outcome]:
        """Trial id -> what came of it on a split."""

    def evaluation(self, split: str, trial_id: int) -> Evaluation | None:
        """What a trial did on a split, documents included; None where it has no scores there."""

    def members(self, split: str) -> Mapping[str, Sequence[str]]:
        """Task -> the names its documents go by, for the groups among the tasks."""
