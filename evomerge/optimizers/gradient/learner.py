"""Differentiable merging: learns the weights by back-propagation instead of trial and error.

Source: Gauthier-Caron et al., Merging in a bottle: differentiable adaptive merging (2024),
arXiv:2410.08371 (DAM); arXiv:2407.20999 (MoFO).
Differs: one number per model and place of the recipe instead of one per column, so that the
result is a recipe (``granularity: column`` has one per column); numbers in float64, those of
columns in float32, where bfloat16 rounds away most steps; by default the answers of the search
tasks teach, where DAM has the sources teach (``losses: {nll: 0, kl: 1}``), and learning rate,
schedule, epochs, batch and filter are others: docs/optimizers.md has a block with DAM's.
Every epoch is a trial and compared with the best so far, the start included, which is a trial of
its own where nobody scored it. One that scores less may lie in a valley: it is followed as long as
the next ones score more and more. Where they do not, all of them are taken back: the next epoch
begins where the best ended, with half the learning rate. Where others score, the next epoch is
trained meanwhile: it goes on from the last one, which counts as good until it is scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.counted import counted
from evomerge.foundations.errors import LedgerError, Problem, RunError
from evomerge.foundations.reading import is_folder
from evomerge.foundations.seeding import stream_seed
from evomerge.genome.schema import Genome, OptimizerLink
from evomerge.nouns.origin import proposed
from evomerge.nouns.space import Space
from evomerge.optimizers.base import Optimizer, OptimizerSettings
from evomerge.optimizers.gradient.gradient_obstacles import all_obstacles, all_oddities
from evomerge.optimizers.gradient.gradient_settings import GradientSettings
from evomerge.optimizers.gradient.lessons import from_bytes, name_of, to_bytes
from evomerge.optimizers.search_context import Lesson, Trainer

Array = NDArray[np.float64]
_OWN_RECIPES = {"column": "a checkpoint", "tensor": "a recipe with a filter per tensor"}
_NEAR = 1e-9  # a coordinate that was a value in between is as good as the same


@dataclass(frozen=True, eq=False)
class _Place:
    """Where an epoch can begin.

    Attributes:
        loss: Of its trial.
        epoch: Which epoch ended there, from 1; 0 is the start.
        genotype: Shape (n_dims,).
        state: What the epoch left; None at the start.
        after: Epoch it went on from.
    """

    loss: float
    epoch: int
    genotype: Array
    state: bytes | None = None
    after: int = 0

    def is_as_good_as(self, other: _Place) -> bool:
        """Whether it scores, and no less."""
        return bool(np.isfinite(self.loss)) and self.loss <= other.loss


class Gradient(Optimizer):
    """Proposes where each epoch of training ends."""

    Settings: ClassVar[type[OptimizerSettings]] = GradientSettings
    trains: ClassVar[bool] = True
    with_others_out: ClassVar[str] = (
        "the next epoch, on from the end of the last one, which counts as good until it is scored; "
        "waits while its start is scored"
    )
    continuous_only: ClassVar[bool] = True
    learns_by_trials: bool = False  # but by texts; the scores say what is taken back
    needs_tokens: bool = True
    settings: GradientSettings

    @classmethod
    def obstacles(cls, space: Space, genome: Genome, settings: Any) -> Iterator[Problem]:
        """Where there is no gradient, or no one model to train."""
        yield from super().obstacles(space, genome, settings)
        yield from all_obstacles(space, genome, settings)

    @classmethod
    def oddities(
        cls, space: Space, link: OptimizerLink, settings: Any, n_before: int
    ) -> Iterator[Problem]:
        """Epochs that nobody waits for, steps that leave every range, prompts nobody reads."""
        yield from super().oddities(space, link, settings, n_before)
        yield from all_oddities(space, link, settings)

    @classmethod
    def unmeant(cls, settings: GradientSettings) -> Problem | None:
        """Finer weights than those of the space."""
        finer = settings.granularity
        if finer not in _OWN_RECIPES:
            return None
        what = f"what it learns per {finer} is scored as {_OWN_RECIPES[finer]}"
        return Problem(what, "granularity")

    def _start(self) -> None:
        self._n_asked = 0  # epochs
        self._known: list[_Place] = []  # trials made before
        self._best = _Place(np.inf, 0, self.space.initial)
        self._tip = self._best  # where the next epoch begins
        self._scored: dict[int, _Place] = {}  # epoch -> its end, without its state
        self._unscored: dict[int, _Place] = {}  # number of a genotype that is out -> its end
        self._is_begun = False
        self._n_retreats = 0  # since the best
        self._lesson: Lesson | None = None  # of the last epoch; None while the start is tried

    @property
    def _n_epochs(self) -> int:
        """As many as the schedule is for; a budget may end the training before."""
        return self.settings.epochs

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are over."""
        return self._n_asked >= self._n_epochs

    @property
    def is_at_start(self) -> bool:
        """While the start is tried that the first epoch is compared with."""
        return self._is_begun and self._lesson is None

    @property
    def can_ask(self) -> bool:
        """Whether there is a start, so that epochs can follow one another."""
        return not self._out or self._lesson is not None

    @property
    def most_out(self) -> int:
        """All epochs: the next one is trained while those before it are scored."""
        return self._n_epochs

    @property
    def hears_apart(self) -> bool:
        """Each epoch is told by itself."""
        return True

    @property
    def activity(self) -> str:
        """Which epoch is next; nothing where it was paid for before."""
        is_next = self._is_begun or self._known_start() is not None
        if not is_next or self._is_paid_for:
            return ""
        n_lost = self._n_asked - self._tip.epoch
        again = f" anew, {counted(n_lost, 'epoch')} taken back" if n_lost else ""
        return f"epoch {self._n_asked + 1} of {self._n_epochs}: training{again}"

    @property
    def _is_paid_for(self) -> bool:
        """Whether the next epoch is kept, and goes on from where it is to."""
        kept = self.context.artifacts.recall(self._name)
        return kept is not None and self._goes_on(from_bytes(kept, self._name))

    def _goes_on(self, lesson: Lesson) -> bool:
        return lesson.after in (None, self._tip.epoch)

    @property
    def _name(self) -> str:
        """Of what is kept of the next epoch."""
        return name_of(self._n_asked + 1)

    def _learn(self, genotypes: Array, losses: Array) -> None:
        if not self._is_begun:  # it trains what it began with
            found = zip(losses.tolist(), genotypes, strict=True)
            self._known += [_Place(loss, 0, one) for loss, one in found if np.isfinite(loss)]

    def _ask(self) -> Array:
        if not self._is_begun:
            start, self._is_begun = self._known_start(), True
            if start is None:
                self.origins = (proposed("start"),)
                return self._going_out(_Place(np.inf, 0, self.space.initial))
            self._best = self._tip = start
        kept = self.context.artifacts.recall(self._name)
        lesson = None if kept is None else self._found(kept)
        if lesson is None or not self._goes_on(lesson):
            lesson = self._trained()
        self._n_asked = epoch = self._n_asked + 1
        self._lesson = lesson
        self.origins = (proposed(f"epoch {epoch}", epoch=epoch, is_taught=True),)
        if epoch >= min(self._n_epochs, self.context.budget or self._n_epochs):
            self.context.end_training()
        after = self._tip.epoch
        return self._going_out(_Place(np.inf, epoch, lesson.genotype, lesson.state, after))

    def _going_out(self, place: _Place) -> Array:
        """Has a place scored, under a genotype that is nobody else's who is out.

        Different models that no point of the space means may have the same one nearest to them.
        """
        genotype = place.genotype
        inwards = np.where(genotype < 0.5, 1.0, 0.0)
        while any(np.array_equal(genotype, one.genotype) for one in self._unscored.values()):
            genotype = np.nextafter(genotype, inwards)
        self._tip = self._unscored[self._out.n_asked] = replace(place, genotype=genotype)
        return np.array(genotype[None])

    def _known_start(self) -> _Place | None:
        """Where it begins, if that was scored: the best trial, or the start that it must have."""
        keeps_start = self.context.begins_at_best or self.context.keeps_start
        start = self.space.initial
        own = [
            place
            for place in self._known
            if not keeps_start or np.abs(place.genotype - start).max() < _NEAR
        ]
        least = min((place.loss for place in own), default=np.inf)
        best = [place for place in own if place.loss == least]
        return min(best, key=lambda one: float(np.abs(one.genotype - start).sum()), default=None)

    def _trained(self) -> Lesson:
        """The next epoch; kept before anyone hears of it."""
        seed = stream_seed(self.seed, "optimizer", "epoch", self._n_asked)
        tip, pace = self._tip, 0.5**self._n_retreats
        lesson = self._trainer().epoch(self._n_asked, tip.genotype, tip.state, seed, pace)
        to_beat = self._best.loss if np.isfinite(self._best.loss) else None
        lesson = replace(lesson, to_beat=to_beat, after=tip.epoch)
        self.context.artifacts.keep(self._name, to_bytes(lesson))
        return lesson

    def _found(self, kept: bytes) -> Lesson:
        """An epoch that was paid for before, its folder in place."""
        lesson = from_bytes(kept, self._name)
        if lesson.genotype.shape != (self.space.n_dims,):
            raise LedgerError(
                f"{len(lesson.genotype)} coordinates, expected {self.space.n_dims}",
                where=self._name,
                fix="Put back the file that this run wrote, or remove it.",
            )
        run_dir = self.context.folder or Path()
        if lesson.folder is not None and not is_folder(run_dir / lesson.folder):
            self._trainer().restore(lesson)
        return lesson

    def _trainer(self) -> Trainer:
        """Asked for every time: the model it trains may be another one by now."""
        if self.context.trainer is None:
            raise RunError(
                "there is no model to train here",
                where="optimizer.name",
                fix="Use one worker and weights of whole models, or cma_es.",
            )
        return self.context.trainer(self.settings)

    def _tell(self, genotypes: Array, losses: Array) -> None:
        """Goes on from the epoch, or from the best where it led nowhere."""
        (number,) = self._heard
        place = replace(self._unscored.pop(number), loss=float(losses[0]))
        if place.epoch == 0:
            self._begin(place)
            return
        self._scored[place.epoch] = replace(place, state=None)  # which may be large
        line = self._line_to(self._tip)
        if place.is_as_good_as(self._best):
            self._best, self._n_retreats = place, 0
            if place.epoch not in line:  # it was given up too early
                self._tip = place
        elif place.epoch in line and not self._leads_on(place, line):
            self._tip = self._best
            self._n_retreats += 1

    def _leads_on(self, place: _Place, line: set[int]) -> bool:
        """Whether what goes on from a place that is not the best may be the best yet, or is."""
        if place.epoch < self._best.epoch and self._best.epoch in line:
            return True
        if not np.isfinite(place.loss) or place.after == self._best.epoch:
            return bool(np.isfinite(place.loss))
        before = self._scored.get(place.after)
        return before is None or not before.is_as_good_as(place)

    def _line_to(self, tip: _Place) -> set[int]:
        """The epochs that a place stands on, itself among them; the start is 0."""
        after = {one.epoch: one.after for one in (*self._scored.values(), *self._unscored.values())}
        found = {tip.epoch}
        while min(found):
            found.add(after[min(found)])
        return found

    def _begin(self, start: _Place) -> None:
        """At the start, or at a better trial where the start was only the nearest to one."""
        places = [start] if self.context.keeps_start else [start, *self._known]
        self._best = self._tip = min(places, key=lambda place: place.loss)

    def recipe_config(self, row: int) -> dict[str, Any] | None:
        """The recipe of the last epoch where no point of the space means it."""
        config = None if self._lesson is None else self._lesson.config
        return None if config is None else dict(config)
