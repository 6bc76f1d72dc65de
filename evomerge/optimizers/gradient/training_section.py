"""What training by gradient took and gave, epoch by epoch, from what it kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import inf

from evomerge.nouns.run_record import RunRecord
from evomerge.nouns.score_text import number
from evomerge.nouns.section import FAILED, Section
from evomerge.nouns.trial import Trial
from evomerge.optimizers.gradient.gradient_settings import GradientSettings
from evomerge.optimizers.gradient.lessons import lessons_in, read_lesson
from evomerge.optimizers.search_context import Effort, Lesson


@dataclass(frozen=True)
class TrainedEpoch:
    """One epoch of a run.

    Attributes:
        link: Which of the run's optimizers trained it, from 0.
        number: Which epoch, from 1.
        lesson: What it gave and took.
        trial: Its trial; None where it was not scored yet.
        loss: What it minimised, the terms by their weights.
        score: Of its trial; None where it failed, or was not scored yet.
        is_kept: Whether the best epoch so far is this one, or went on from it.
    """

    link: int
    number: int
    lesson: Lesson
    trial: Trial | None
    loss: float
    score: float | None
    is_kept: bool = False

    @property
    def after(self) -> int:
        """Epoch it went on from; 0 is the start."""
        return self.number - 1 if self.lesson.after is None else self.lesson.after

    @property
    def is_best(self) -> bool:
        """Whether none before it, the start included, scored more."""
        to_beat = self.lesson.to_beat
        return self.score is not None and (to_beat is None or -self.score <= to_beat)


def training_of(run: RunRecord) -> list[TrainedEpoch]:
    """Every epoch that was kept, in order.

    Raises:
        LedgerError: what was kept of one is broken.
    """
    found = []
    for link, folder in run.kept_by("gradient"):
        weights = GradientSettings.model_validate(run.genome.optimizer.links[link].settings).losses
        own, trials = [], _trials(run, link)
        for number_, path in lessons_in(folder):
            trial = trials.get(number_)
            lesson, scores = (
                read_lesson(path),
                () if trial is None else run.leaderboard.scores(trial),
            )
            loss = sum(getattr(weights, name, 0.0) * term for name, term in lesson.losses.items())
            score = scores[0].value if scores else None
            own.append(TrainedEpoch(link, number_, lesson, trial, loss, score))
        found += _with_kept(own)
    return found


def _with_kept(epochs: list[TrainedEpoch]) -> list[TrainedEpoch]:
    """The epochs of a link, those marked that the best of them stands on."""
    kept: set[int] = set()
    number, most = 0, -inf
    for epoch in epochs:  # one may have begun before the one before it was scored
        is_more = epoch.score is not None and epoch.score >= most
        if epoch.is_best and (is_more or epoch.lesson.to_beat is None):
            number, most = epoch.number, most if epoch.score is None else epoch.score
    while number:
        kept.add(number)
        number = min(epochs[number - 1].after, number - 1)
    return [replace(epoch, is_kept=epoch.number in kept) for epoch in epochs]


def _trials(run: RunRecord, link: int) -> dict[int, Trial]:
    """Epoch -> its trial, of one of the run's optimizers."""
    own = ((trial.candidate.origin, trial) for trial in run.leaderboard.trials)
    return {
        origin.numbers["epoch"]: trial
        for origin, trial in own
        if origin.link == link and "epoch" in origin.numbers
    }


def training_section(run: RunRecord) -> Section | None:
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
        (
            "optimizer, epoch" if _are_several(epochs) else "epoch",
            *terms,
            "score",
            "",
            "passes",
            "tokens",
            "seconds",
        ),
        tuple(_rows(epochs, terms)),
        (*_parting(epochs), _total(total, len(epochs))),
        {
            "epochs": [_data(epoch) for epoch in epochs],
            "total": asdict(replace(total, seconds=round(total.seconds, 3))),
        },
    )


def _rows(epochs: list[TrainedEpoch], terms: list[str]) -> Iterator[tuple[str, ...]]:
    for epoch in epochs:
        lesson, effort = epoch.lesson, epoch.lesson.effort
        losses = (f"{lesson.losses[t]:.4g}" if t in lesson.losses else "" for t in terms)
        whose = f"{epoch.link + 1}, " if _are_several(epochs) else ""
        yield (
            f"{whose}{epoch.number}",
            *losses,
            _score(epoch),
            "" if epoch.is_kept or epoch.trial is None else "taken back",
            f"{effort.n_passes:,}",
            f"{effort.n_tokens:,}",
            f"{effort.seconds:.1f}",
        )


def _are_several(epochs: list[TrainedEpoch]) -> bool:
    """Whether several optimizers of the run trained them."""
    return len({epoch.link for epoch in epochs}) > 1


def _score(epoch: TrainedEpoch) -> str:
    if epoch.trial is None:
        return "-"
    return FAILED if epoch.score is None else number(epoch.score)


def _parting(epochs: list[TrainedEpoch]) -> Iterator[str]:
    """Says where the loss falls and the score with it, twice in a row."""
    for link in dict.fromkeys(epoch.link for epoch in epochs):
        own = {epoch.number: epoch for epoch in epochs if epoch.link == link}
        for first, second in pairwise(own.values()):
            if _parts(first, own.get(first.after)) and _parts(second, own.get(second.after)):
                whose = f" of optimizer {link + 1}" if _are_several(epochs) else ""
                yield (
                    f"From epoch {first.number}{whose} on the loss falls and the score with it: "
                    "what is learned is not what is scored. Look at the targets of the tasks, take "
                    "more documents, or a smaller learning_rate."
                )
                break


def _parts(epoch: TrainedEpoch, before: TrainedEpoch | None) -> bool:
    """Whether it has a lower loss than the one it went on from, and a lower score."""
    if before is None or epoch.score is None or before.score is None:
        return False
    return epoch.loss < before.loss and epoch.score < before.score


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
        "score": epoch.score,
        "after": epoch.after,
        "is_kept": epoch.is_kept,
        **effort,
        "seconds": round(epoch.lesson.effort.seconds, 3),
    }
