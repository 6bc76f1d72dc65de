"""How much of their time workers had no trial, phase by phase, and what they waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evomerge.nouns.section import Section
from evomerge.nouns.trial import Trial
from evomerge.optimizers import OPTIMIZERS
from evomerge.run.recorded_run import RecordedRun

MUCH = 0.05  # idle share from which on it is said what was waited for


@dataclass(frozen=True)
class _Phase:
    """Trials that one after the other were proposed by the same.

    Attributes:
        name: Of an optimizer, or of none.
        trials: At least one.
        why: What it waits for while trials are out.
    """

    name: str
    trials: Sequence[Trial]
    why: str

    @property
    def idle(self) -> float:
        """Seconds that workers waited before these trials were over."""
        return sum(trial.idle for trial in self.trials)

    @property
    def share(self) -> float:
        """The part of the workers' time that this was."""
        busy = sum(sum(trial.outcome.seconds.values()) for trial in self.trials)
        return self.idle / (self.idle + busy) if self.idle else 0.0


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
            yield _Phase(link.name, own, OPTIMIZERS[link.name].with_others_out)
