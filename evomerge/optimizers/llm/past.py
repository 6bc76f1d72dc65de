"""What a search has found so far, as a language model is told it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.evaluation import Evaluation, Metric
from evomerge.nouns.space import Space
from evomerge.optimizers.llm.prompt import Example
from evomerge.optimizers.search_context import SearchContext

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PastTrial:
    """One trial whose loss is known.

    Attributes:
        genotype: Shape (n_dims,).
        loss: ``inf`` where it failed.
        metrics: Of the search tasks.
        origin: Where it comes from.
    """

    genotype: Array
    loss: float
    metrics: tuple[Metric, ...]
    origin: str


@dataclass(frozen=True)
class _Generation:
    """One generation in short: its name, its best loss, and the best of those before it."""

    name: str
    best: float
    before: float

    @property
    def line(self) -> str:
        if not math.isfinite(self.best):
            return f"{self.name}: every trial failed"
        if not math.isfinite(self.before):
            return f"{self.name}: best score {-self.best:.4g}"
        gained = self.before - self.best
        what = f"improved by {gained:.2g}" if gained > 0 else "no improvement"
        return f"{self.name}: best score {-self.best:.4g}, {what}"


@dataclass
class Past:
    """All trials so far.

    Attributes:
        space: What is searched.
        context: What is known of it.
        trials: In the order in which they were told.
    """

    space: Space
    context: SearchContext
    trials: list[PastTrial] = field(default_factory=list)
    _generations: list[_Generation] = field(default_factory=list)

    def add(
        self,
        genotypes: Array,
        losses: Array,
        evaluations: Sequence[Evaluation | None],
        origin: str,
    ) -> None:
        """Remembers trials; ``evaluations`` is empty where nobody knows them."""
        seen = list(evaluations) or [None] * len(genotypes)
        for genotype, loss, evaluation in zip(genotypes, losses, seen, strict=True):
            metrics = self._metrics(evaluation)
            self.trials.append(PastTrial(np.array(genotype), float(loss), metrics, origin))

    def add_generation(
        self,
        genotypes: Array,
        losses: Array,
        evaluations: Sequence[Evaluation | None],
        name: str,
    ) -> None:
        """Remembers a generation of the search itself."""
        before = min((generation.best for generation in self._generations), default=math.inf)
        self._generations.append(_Generation(name, float(losses.min()), before))
        self.add(genotypes, losses, evaluations, name)

    def _metrics(self, evaluation: Evaluation | None) -> tuple[Metric, ...]:
        """The metrics that the search is about, all where nobody says which."""
        tasks = set(self.context.brief.tasks)
        metrics = evaluation.metrics if evaluation is not None else ()
        return tuple(m for m in metrics if not tasks or str(m.key) in tasks)

    @property
    def best(self) -> PastTrial | None:
        """The best trial so far, the first of equals; None while all have failed."""
        finite = [trial for trial in self.trials if math.isfinite(trial.loss)]
        return min(finite, key=lambda trial: trial.loss, default=None)

    @property
    def has_improved(self) -> bool:
        """Whether the last generation beat those before it.

        Models, average and whatever was made elsewhere do not count: while one of them leads, the
        noise would stay large however well the generations do.
        """
        last = self._generations[-1]
        return last.best < last.before

    @property
    def lower_is_better(self) -> frozenset[str]:
        """Tasks whose metric is better when lower."""
        metrics = (metric for trial in self.trials for metric in trial.metrics)
        return frozenset(str(m.key) for m in metrics if not m.higher_is_better)

    def knows(self, genotype: Array, near: float) -> bool:
        """Whether a trial lies within ``near`` of a genotype in every coordinate."""
        return any(np.abs(trial.genotype - genotype).max() <= near for trial in self.trials)

    def examples(self, count: int) -> list[Example]:
        """The best trials so far, the best first, each point once."""
        ranked = sorted(self.trials, key=lambda trial: trial.loss)  # stable: first of equals
        each: dict[bytes, PastTrial] = {}
        for trial in ranked:
            each.setdefault(trial.genotype.tobytes(), trial)
        best = [trial for trial in each.values() if math.isfinite(trial.loss)]
        return [self._example(trial) for trial in best[:count]]

    def parents(self) -> dict[str, Example]:
        """Model -> how it scores alone, where each model is a point of the space."""
        models, experts = self.context.brief.models, self.context.experts
        if experts is None or len(experts) != len(models):
            return {}
        return {
            model: self._example(trial)
            for model, expert in zip(models, experts, strict=True)
            for trial in self.trials[: self._n_elsewhere]
            if np.array_equal(trial.genotype, expert)
        }

    @property
    def _n_elsewhere(self) -> int:
        """How many trials were made before the search."""
        first = (i for i, trial in enumerate(self.trials) if trial.origin != "before the search")
        return next(first, len(self.trials))

    def history(self, count: int) -> list[str]:
        """A line for each of the last generations, the oldest first."""
        return [generation.line for generation in self._generations[-count:]] if count else []

    def _example(self, trial: PastTrial) -> Example:
        tasks = {str(metric.key): metric.value for metric in trial.metrics}
        score = 0.0 - trial.loss  # no minus before a zero
        return Example(self.space.decode(trial.genotype), score, tasks, trial.origin)
