"""A swarm from its run folder: every particle's utility over the iterations, starting and ending.

A utility is the score of a trial on the search tasks, higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from evomerge.foundations.errors import LedgerError
from evomerge.foundations.reading import is_there, read_bytes
from evomerge.genome.words import FINAL_SPLITS
from evomerge.nouns.objective import Score
from evomerge.nouns.run_record import RunRecord
from evomerge.nouns.trial import Trial
from evomerge.optimizers.swarm.particles import START

Cells = tuple[tuple[Trial | None, ...], ...]

_STARTS: TypeAdapter[Any] = TypeAdapter(dict[int, list[float]])
_SAME = 1e-12  # coordinates this near are the same place


@dataclass(frozen=True)
class SwarmHistory:
    """What each particle was in each iteration.

    Attributes:
        run: The run.
        cells: Particle, then iteration -> its trial; None where its evaluation was dropped, or
            the budget ended.
        known: The trials that were there before the swarm.
    """

    run: RunRecord
    cells: Cells
    known: tuple[Trial, ...]

    @cached_property
    def utilities(self) -> tuple[tuple[float | None, ...], ...]:
        """Particle, then iteration -> utility; None where dropped or failed."""
        return tuple(tuple(map(self.utility, row)) for row in self.cells)

    @property
    def n_iterations(self) -> int:
        """Iterations, the first particles included."""
        return len(self.cells[0])

    def utility(self, trial: Trial | None) -> float | None:
        """The utility of a trial, None without one."""
        if trial is None:
            return None
        value = -float(self.run.leaderboard.losses(trial).sum())
        return value if math.isfinite(value) else None

    @property
    def starting(self) -> list[Trial]:
        """The first particles that were scored, best first; the earlier among equals."""
        return self._ranked([row[0] for row in self.cells])

    @property
    def ending(self) -> list[Trial]:
        """Each particle's best place, best first; the earlier among equals."""
        bests = (self._ranked(row)[:1] for row in self.cells)
        return self._ranked([trial for best in bests for trial in best])

    @property
    def starting_best(self) -> Trial | None:
        """The best of the first particles and of what was known: the first of ``best_so_far``."""
        return self._best([*self.known, *(row[0] for row in self.cells)])

    @property
    def ending_best(self) -> Trial | None:
        """The best of all: the last of ``best_so_far``."""
        return self._best([*self.known, *(trial for row in self.cells for trial in row)])

    def _best(self, trials: Sequence[Trial | None]) -> Trial | None:
        ranked = self._ranked(trials)
        best = [t for t in ranked if self.utility(t) == self.utility(ranked[0])]
        return min(best, key=lambda trial: trial.candidate.trial_id, default=None)

    def _ranked(self, trials: Sequence[Trial | None]) -> list[Trial]:
        scored = [trial for trial in trials if self.utility(trial) is not None]
        return sorted(
            (trial for trial in scored if trial is not None),
            key=lambda trial: -(self.utility(trial) or 0.0),
        )

    @property
    def best_so_far(self) -> tuple[float | None, ...]:
        """The swarm's best utility after each iteration, known trials included."""
        found = [u for trial in self.known if (u := self.utility(trial)) is not None]
        bests: list[float | None] = []
        for column in zip(*self.utilities, strict=True):
            found += [utility for utility in column if utility is not None]
            bests.append(max(found, default=None))
        return tuple(bests)

    @property
    def worst(self) -> float | None:
        """The swarm's worst utility, known trials included."""
        cells = [trial for row in self.cells for trial in row]
        utilities = map(self.utility, [*self.known, *cells])
        return min((u for u in utilities if u is not None), default=None)

    def scores(self, trial: Trial) -> dict[str, Score]:
        """Split -> the score of a trial, for the splits it was scored on."""
        found = {"search": self.run.leaderboard.scores(trial)}
        for split in FINAL_SPLITS:
            evaluation = self.run.evaluation(split, trial.candidate.trial_id)
            if evaluation is not None and split in self.run.finals:
                found[split] = self.run.finals[split].scores(evaluation)
        return {split: scores[0] for split, scores in found.items() if scores}

    def scratchpad(self) -> dict[str, Any]:
        """The run as ``utility_scratchpad.json`` of the authors' code holds it.

        Null stands where they repeat the last utility of a particle that was not evaluated.
        """
        content: dict[str, Any] = {
            "g": self.best_so_far[-1],
            "g_worst": self.worst,
            "g_history": list(self.best_so_far),
        }
        for index, row in enumerate(self.utilities):
            content[f"particle_{index}_now"] = row[-1]
            content[f"particle_{index}_best"] = max(
                (utility for utility in row if utility is not None), default=None
            )
            content[f"particle_{index}_history"] = list(row)
        return content


def swarm_of(run: RunRecord) -> SwarmHistory | None:
    """The swarm of a run, None where there is none; of several the last.

    Raises:
        LedgerError: what it kept of its start is broken.
    """
    if not any(link.name == "swarm" for link in run.genome.optimizer.links):
        return None
    trials, known = _last_swarm(run)
    if not trials:
        return None
    trials |= {(row, 0): trial for row, trial in _started_at(run, known).items()}
    n_particles = 1 + max(row for row, _ in trials)
    n_iterations = 1 + max(iteration for _, iteration in trials)
    cells = tuple(
        tuple(trials.get((row, iteration)) for iteration in range(n_iterations))
        for row in range(n_particles)
    )
    return SwarmHistory(run, cells, known)


def _last_swarm(run: RunRecord) -> tuple[dict[tuple[int, int], Trial], tuple[Trial, ...]]:
    """(Particle, iteration) -> trial, and the trials before.

    An island's swarm knows no trial of the others when it begins.
    """
    trials = run.leaderboard.trials
    *_, (link, _) = run.kept_by("swarm")
    is_island = bool(run.genome.optimizer.islands)
    own = [index for index, trial in enumerate(trials) if _is_of(trial, link)]
    first = own[0] if own else 0
    numbers = ((trials[index].candidate.origin.numbers, trials[index]) for index in own)
    found = {(at["particle"], at["iteration"]): trial for at, trial in numbers}
    known = (t for t in trials[:first] if t.candidate.is_baseline or not is_island)
    return found, tuple(t for t in known if t.candidate.genotype is not None)


def _is_of(trial: Trial, link: int) -> bool:
    origin = trial.candidate.origin
    return origin.link == link and {"particle", "iteration"} <= origin.numbers.keys()


def _started_at(run: RunRecord, known: Sequence[Trial]) -> dict[int, Trial]:
    """Particle -> the known trial it began at."""
    found = {}
    for row, place in _kept_starts(run).items():
        at = next((trial for trial in known if _is_at(trial, place)), None)
        if at is not None:
            found[row] = at
    return found


def _is_at(trial: Trial, place: Sequence[float]) -> bool:
    genotype = trial.candidate.genotype
    if genotype is None or len(genotype) != len(place):
        return False
    return bool(np.abs(genotype - np.array(place)).max() <= _SAME)


def _kept_starts(run: RunRecord) -> dict[int, list[float]]:
    """What the swarm kept of its start: particle -> genotype of a known trial."""
    *_, (_, folder) = run.kept_by("swarm")
    path = folder / START
    if not is_there(path):
        return {}
    try:
        starts: dict[int, list[float]] = _STARTS.validate_json(read_bytes(path, follow=False))
    except ValueError as error:
        raise LedgerError(
            "not what a swarm keeps of its start",
            where=str(path),
            fix="Restore the file from a copy, or remove it: a run that goes on writes it anew.",
        ) from error
    return starts
