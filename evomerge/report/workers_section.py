"""How much of their time workers had no trial, phase by phase, and what they waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evomerge.nouns.section import Section
from evomerge.nouns.trial import Trial
from evomerge.optimizers import KEPT_SECONDS, OPTIMIZERS
from evomerge.run.recorded_run import RecordedRun

MUCH = 0.05  # idle share from which on it is said what was waited for


@dataclass(frozen=True)
class _Phase:
    """Trials that one after the other were proposed by the same.

    Attributes:
        name: Of an optimizer, or of none.
        trials: At least one.
        why: What it waits for while trials are out.
        trained: Seconds of training in the place of one of the workers.
    """

    name: str
    trials: Sequence[Trial]
    why: str
    trained: float = 0.0

    @property
    def idle(self) -> float:
        """Seconds that workers waited before these trials were over."""
        return sum(trial.idle for trial in self.trials)

    @property
    def share(self) -> float:
        """The part of the workers' time that this was."""
        return self.idle / (self.idle + self.busy) if self.idle else 0.0

    @property
    def busy(self) -> float:
        """Seconds of trials and of training, of all workers together."""
        return self.trained + sum(sum(trial.outcome.seconds.values()) for trial in self.trials)


def idle_share(run: RecordedRun) -> float | None:
    """The share of the workers' time in which they had nothing to do; None where there is one."""
    phases = [*_phases(run)]
    idle = sum(phase.idle for phase in phases)
    return idle / (idle + sum(phase.busy for phase in phases)) if idle else None


def workers_section(run: RecordedRun) -> Section | None:
    """Idle time by who proposed; nothing where there was one worker."""
    phases = [*_phases(run)]
    if not any(phase.idle for phase in phases):
        return None
    head = ("trials of", "trials", "idle seconds", "idle share")
    rows = [
        (phase.name, f"{len(phase.trials)}", f"{phase.idle:.1f}", f"{phase.share:.1%}")
        for phase in phases
    ]
    notes = [f"{p.name}, while others are out: {p.why}" for p in phases if p.share > MUCH]
    data = {"phases": [dict(zip(head, row, strict=True)) for row in rows]}
    return Section("workers", "workers", head, tuple(rows), tuple(notes), data)


def _phases(run: RecordedRun) -> Iterator[_Phase]:
    """Baselines, then each optimizer that proposed anything."""
    trials = run.leaderboard.trials
    baselines = [trial for trial in trials if trial.candidate.is_baseline]
    if baselines:
        why = "nothing, and waits: the search begins when all of them are over"
        yield _Phase("baselines", baselines, why)
    for index, link in enumerate(run.genome.optimizer.links):
        own = [
            trial
            for trial in trials
            if not trial.candidate.is_baseline and trial.candidate.origin.link == index
        ]
        if own:
            why, trained = OPTIMIZERS[link.name].with_others_out, _trained(run, index, own)
            yield _Phase(link.name, own, why, trained)


def _trained(run: RecordedRun, index: int, trials: Sequence[Trial]) -> float:
    """Seconds that an optimizer trained in the place of one of several workers."""
    name = run.genome.optimizer.links[index].name
    taught = [trial for trial in trials if trial.candidate.origin.is_taught]
    if name not in KEPT_SECONDS or not taught:
        return 0.0
    kept = sum(KEPT_SECONDS[name](folder) for at, folder in run.kept_by(name) if at == index)
    n_beside = sum(trial.elapsed is not None for trial in taught)  # the rest had the only worker
    return kept * n_beside / len(taught)
