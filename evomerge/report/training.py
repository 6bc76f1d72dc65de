"""What training by gradient took and gave, epoch by epoch, from what it kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from evomerge.optimizers.context import Effort, Lesson
from evomerge.optimizers.gradient_lessons import lessons_in, read_lesson
from evomerge.report.run import RecordedRun
from evomerge.report.section import FAILED, Section
from evomerge.report.text import number
from evomerge.trial import Trial

_LABEL = re.compile(r"(?:^|, )epoch (\d{1,6})$")


@dataclass(frozen=True)
class TrainedEpoch:
    """One epoch of a run.

    Attributes:
        link: Which of the run's optimizers trained it, from 0.
        number: Which epoch, from 1.
        lesson: What it gave and took.
        trial: Its trial; None where it was not scored yet.
    """

    link: int
    number: int
    lesson: Lesson
    trial: Trial | None


def training_of(run: RecordedRun) -> list[TrainedEpoch]:
    """Every epoch that was kept, in order.

    Raises:
        LedgerError: what was kept of one is broken.
    """
    trials = _trials(run)
    found = []
    for link, folder in run.kept_by("gradient"):
        for number_, path in lessons_in(folder):
            trial = trials.pop(0) if trials and trials[0][0] == number_ else (0, None)
            found.append(TrainedEpoch(link, number_, read_lesson(path), trial[1]))
    return found


def _trials(run: RecordedRun) -> list[tuple[int, Trial]]:
    """Epoch and trial, in the order of the trials."""
    labelled = ((_LABEL.search(t.candidate.label), t) for t in run.standing.trials)
    return [(int(match[1]), trial) for match, trial in labelled if match is not None]


def training_section(run: RecordedRun) -> Section | None:
    """Losses, score and cost of each epoch."""
    epochs = training_of(run)
    if not epochs:
        return None
    terms = sorted({name for epoch in epochs for name in epoch.lesson.losses})
    total = Effort()
    for epoch in epochs:
        total += epoch.lesson.effort
    return Section(
        "training",
        "training: mean of each loss over an epoch, before its steps, and what it took",
        ("epoch", *terms, "score", "passes", "tokens", "seconds"),
        tuple(_rows(run, epochs, terms)),
        (_total(total, len(epochs)),),
        {
            "epochs": [_data(epoch) for epoch in epochs],
            "total": asdict(replace(total, seconds=round(total.seconds, 3))),
        },
    )


def _rows(
    run: RecordedRun, epochs: list[TrainedEpoch], terms: list[str]
) -> Iterator[tuple[str, ...]]:
    for epoch in epochs:
        lesson, effort = epoch.lesson, epoch.lesson.effort
        losses = (f"{lesson.losses[t]:.4g}" if t in lesson.losses else "" for t in terms)
        yield (
            str(epoch.number),
            *losses,
            _score(run, epoch.trial),
            f"{effort.n_passes:,}",
            f"{effort.n_tokens:,}",
            f"{effort.seconds:.1f}",
        )


def _score(run: RecordedRun, trial: Trial | None) -> str:
    if trial is None:
        return "-"
    scores = run.standing.scores(trial)
    return number(scores[0].value) if scores else FAILED


def _total(total: Effort, n_epochs: int) -> str:
    plural = "s" if n_epochs > 1 else ""
    taught = f"; the sources read {total.n_teacher_tokens:,}" if total.n_teacher_tokens else ""
    return (
        f"{n_epochs} epoch{plural}: {total.seconds:.1f} s, {total.n_passes:,} passes forward and "
        f"backward over {total.n_tokens:,} tokens{taught}; none of it is in the trials' seconds"
    )


def _data(epoch: TrainedEpoch) -> dict[str, object]:
    effort = asdict(epoch.lesson.effort)
    return {
        "link": epoch.link,
        "epoch": epoch.number,
        "trial": None if epoch.trial is None else epoch.trial.candidate.trial_id,
        "losses": dict(epoch.lesson.losses),
        **effort,
        "seconds": round(epoch.lesson.effort.seconds, 3),
    }
