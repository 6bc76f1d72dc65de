"""Differentiable merging: learns the weights by back-propagation instead of trial and error.

Source: Gauthier-Caron et al., Merging in a bottle: differentiable adaptive merging (2024),
arXiv:2410.08371 (DAM); arXiv:2407.20999 (MoFO).
Differs: one number per model and place of the recipe instead of one per column, so that the
result is a recipe (``granularity: column`` has one per column); numbers in float64, those of
columns in float32, where bfloat16 rounds away most steps; by default the answers of the search
tasks teach, where DAM has the sources teach (``losses: {nll: 0, kl: 1}``), and learning rate,
schedule, epochs, batch and filter are others: docs/optimizers.md has a block with DAM's.
Every epoch is a trial; the search tasks decide between them, so that training too long loses
nothing but time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import LedgerError, Problem, RunError
from evomerge.genome.schema import Genome, OptimizerLink
from evomerge.optimizers.base import Optimizer, Settings
from evomerge.optimizers.context import Lesson, Trainer
from evomerge.optimizers.gradient_lessons import from_bytes, name_of, to_bytes
from evomerge.optimizers.gradient_obstacles import all_obstacles, all_oddities
from evomerge.optimizers.gradient_settings import GradientSettings
from evomerge.reading import is_folder
from evomerge.seeding import stream_seed
from evomerge.space import Space

Array = NDArray[np.float64]


class Gradient(Optimizer):
    """Proposes where each epoch of training ends."""

    Settings: ClassVar[type[Settings]] = GradientSettings
    continuous_only: ClassVar[bool] = True
    is_adaptive: bool = False  # the texts steer it, not the scores
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

    def _start(self) -> None:
        self._n_asked = 0
        self._best: tuple[float, Array] | None = None
        self._state: bytes | None = None
        self._genotype: Array = self.space.initial
        self._config: Mapping[str, Any] | None = None

    @property
    def _n_epochs(self) -> int:
        """As many as the schedule is for; a budget may end the training before."""
        return self.settings.epochs

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are over."""
        return self._n_asked >= self._n_epochs

    @property
    def activity(self) -> str:
        """Which epoch is next; nothing where it was paid for before."""
        if self.context.keepsakes.recall(self._name) is not None:
            return ""
        return f"epoch {self._n_asked + 1} of {self._n_epochs}: training"

    @property
    def _name(self) -> str:
        """Of what is kept of the next epoch."""
        return name_of(self._n_asked + 1)

    def _learn(self, genotypes: Array, losses: Array) -> None:
        for genotype, loss in zip(genotypes, losses.tolist(), strict=True):
            if np.isfinite(loss) and (self._best is None or loss < self._best[0]):
                self._best = (loss, genotype)

    def _ask(self) -> Array:
        if self._n_asked == 0 and self._best is not None:
            self._genotype = self._best[1]
        kept = self.context.keepsakes.recall(self._name)
        lesson = self._trained() if kept is None else self._found(kept)
        self._n_asked += 1
        self._genotype, self._state, self._config = lesson.genotype, lesson.state, lesson.config
        self.labels = (f"epoch {self._n_asked}",)
        return np.array(lesson.genotype[None])

    def _trained(self) -> Lesson:
        """The next epoch; kept before anyone hears of it."""
        seed = stream_seed(self.seed, "optimizer", "epoch", self._n_asked)
        lesson = self._trainer().epoch(self._n_asked, self._genotype, self._state, seed)
        self.context.keepsakes.keep(self._name, to_bytes(lesson))
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
        """Nothing: the texts teach."""

    def recipe_config(self, row: int) -> dict[str, Any] | None:
        """The recipe of the last epoch where no point of the space means it."""
        return None if self._config is None else dict(self._config)
