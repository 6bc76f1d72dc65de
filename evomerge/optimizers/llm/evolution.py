"""A language model proposes the mean of each generation, and noise is drawn around it.

Source: LLM-Evo-Merge (github.com/kwon13/LLM-Evo-Merge), after Lange et al., Large language models
as evolution strategies (2024), arXiv:2402.18381.
Differs: the model reads parameter names, ranges, models, tasks and each task's score, and replies
in natural units by name, where theirs sees integers from 0 to 100 in nested lists; it is shown
the best trials of the whole search, the parents' and the seeds' among them, not of the last
generation alone, and a fresh prompt each time, not the whole dialogue; the mean itself is a
trial, and one trial is a step from the best so far; what the model says is checked against the
space and asked for again, and where nothing usable comes, a generation is drawn around the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.errors import Problem
from evomerge.foundations.seeding import stream
from evomerge.genome.schema import Genome, OptimizerLink
from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.origin import proposed
from evomerge.nouns.space import WIDEST_STEP, Space
from evomerge.optimizers.base import Optimizer, OptimizerSettings
from evomerge.optimizers.focus import Focus
from evomerge.optimizers.llm.dialogue import (
    Attempt,
    Clock,
    Dialogue,
    Patience,
    converse,
    shortening,
)
from evomerge.optimizers.llm.llm_obstacles import advice, all_obstacles, all_oddities
from evomerge.optimizers.llm.llm_settings import LlmSettings
from evomerge.optimizers.llm.past import Past
from evomerge.optimizers.llm.prompt import Situation, fitting, messages
from evomerge.optimizers.llm.record import (
    Record,
    Usage,
    from_json,
    genotype_of,
    name_of,
    record_of,
    to_json,
)
from evomerge.optimizers.llm.reply import read_reply

Array = NDArray[np.float64]
_NEAR = 1e-3  # a mean this near to a trial, as a share of each range, is a copy of it


class Llm(Optimizer):
    """Evolution whose mean is proposed by a language model."""

    Settings: ClassVar[type[OptimizerSettings]] = LlmSettings
    clock: ClassVar[Clock] = Clock()
    with_others_out: ClassVar[str] = (
        "nothing, and waits: a generation is one reply, which follows from all of the one before"
    )
    takes_migrants: ClassVar[bool] = True
    settings: LlmSettings

    @classmethod
    def default_population_size(cls, n_dims: int) -> int:
        """``4 + 3 ln n_dims``, rounded."""
        return 4 + round(3 * math.log(n_dims))

    @classmethod
    def obstacles(cls, space: Space, genome: Genome, settings: Any) -> Iterator[Problem]:
        """A package, a key or an endpoint that is missing, or a prompt that is too long."""
        yield from super().obstacles(space, genome, settings)
        yield from all_obstacles(space, genome, settings)

    @classmethod
    def oddities(
        cls, space: Space, link: OptimizerLink, settings: Any, n_before: int
    ) -> Iterator[Problem]:
        """Settings that undo one another, and a model that its server does not list."""
        yield from super().oddities(space, link, settings, n_before)
        yield from all_oddities(settings, n_before)

    @property
    def activity(self) -> str:
        """Whom the next ``ask`` waits for, and what that has cost so far."""
        if not self._asks_model or self._kept() is not None:
            return ""
        spent = f"{self._bill.prompt_tokens + self._bill.completion_tokens:,} tokens so far"
        cost = self._bill.cost(self.settings)
        priced = "" if cost is None else f", {cost:.2f} spent"
        return f"asking {self.settings.model} for generation {self._generation} ({spent}{priced})"

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for the model."""
        return self._is_asking

    def _start(self) -> None:
        self._is_asking = False
        levels = self.space.levels
        self._levels = np.array([n or 0 for n in levels])
        self._ordered = np.array(self.space.is_ordered)
        self._past = Past(self.space, self.context)
        self._generation = 0
        self._bill = Usage()
        self._thought = ""
        self._was_silent = False
        self._told: set[str] = set()
        self._evaluations: Sequence[Evaluation | None] = ()

    # What is proposed

    def _ask(self) -> Array:
        random = stream(self.seed, "optimizer", self._generation)
        if self._generation == 0:
            return self._first(random)
        if not self._asks_model:
            return self._named(self._snapped(self._uniform(random)), "at random")
        record = self._record()
        self._bill += record.bill
        self._thought, self._was_silent = record.thought, record.was_silent
        if record.mean is None:
            return self._around_best(record.sigma, random)
        return self._around_mean(genotype_of(record.mean, self.space), record.sigma, random)

    @property
    def _asks_model(self) -> bool:
        """Whether there is anything to tell a model: not while every trial has failed."""
        return self._generation > 0 and self._past.best is not None

    def _first(self, random: np.random.Generator) -> Array:
        if self.settings.first_generation == "uniform":
            return self._named(self._snapped(self._uniform(random)), "at random")
        centres = np.tile(self.space.initial, (self.population_size, 1))
        asked = self._moved(centres, self.settings.sigma_high, random)
        if not self._past.knows(self._snapped(centres[0]), _NEAR):
            asked[0] = self._snapped(centres[0])
        return self._named(asked, "around the start")

    def _around_mean(self, mean: Array, sigma: float, random: np.random.Generator) -> Array:
        """The mean, a step from the best so far, steps from the mean."""
        centres = np.tile(mean, (self.population_size, 1))
        kinds = ["near the mean"] * self.population_size
        if self.population_size > 1 and self._past.best is not None:
            centres[1] = self._past.best.genotype
            kinds[1] = "near the best"
        asked = self._moved(centres, sigma, random)
        if not self._past.knows(self._snapped(mean), _NEAR):
            asked[0] = self._snapped(mean)
            kinds[0] = "the mean"
        return self._named(asked, *kinds)

    def _around_best(self, sigma: float, random: np.random.Generator) -> Array:
        """Steps from the best so far, where the model proposed nothing."""
        assert self._past.best is not None  # else the model is not asked
        centres = np.tile(self._past.best.genotype, (self.population_size, 1))
        return self._named(self._moved(centres, sigma, random), "fallback, near the best")

    def _named(self, asked: Array, *kinds: str) -> Array:
        kinds = kinds if len(kinds) == len(asked) else kinds * len(asked)
        self.origins = tuple(proposed(f"generation {self._generation}, {kind}") for kind in kinds)
        return asked

    def _uniform(self, random: np.random.Generator) -> Array:
        """Uniform in the view from the start."""
        drawn = random.random((self.population_size, self.space.n_dims))
        return Focus(self.space).meant(drawn)

    def _moved(self, centres: Array, sigma: float, random: np.random.Generator) -> Array:
        """A normal step from each centre; choices and counts are also drawn anew at times."""
        steps = self.space.steps / WIDEST_STEP  # 1 where the scale of a parameter is not known
        noise = sigma * steps * random.standard_normal(centres.shape)
        moved = np.clip(centres + np.where(self._ordered, noise, 0.0), 0.0, 1.0)
        is_anew = (random.random(centres.shape) < sigma) & (self._levels > 0)
        return self._snapped(np.where(is_anew, random.random(centres.shape), moved))

    def _snapped(self, genotypes: Array) -> Array:
        """Discrete coordinates in the middle of their stretch."""
        levels = np.maximum(self._levels, 1)
        middles = (np.minimum(np.floor(genotypes * levels), levels - 1) + 0.5) / levels
        return np.where(self._levels > 0, middles, genotypes)

    # What the model is asked

    def _kept(self) -> bytes | None:
        return self.context.artifacts.recall(name_of(self._generation))

    def _record(self) -> Record:
        """What the model proposes: as kept when the run was here before, else asked."""
        kept = self._kept()
        if kept is not None:
            return from_json(kept, self._generation, self.space)
        is_first = self._generation == 1  # as in the original, it counts as an improvement
        is_near = is_first or self._past.has_improved
        sigma = self.settings.sigma_low if is_near else self.settings.sigma_high
        self._is_asking = True
        dialogue = self._converse(sigma)
        self._is_asking = False
        if dialogue.proposal is None and dialogue.attempts:
            self._notify(dialogue.attempts[-1])
        record = record_of(dialogue, sigma)
        total = self._bill + record.bill
        content = to_json(record, dialogue, self._generation, self.settings, total)
        self.context.artifacts.keep(name_of(self._generation), content)
        return from_json(content, self._generation, self.space)

    def _notify(self, last: Attempt) -> None:
        """Says why nothing of the model's is used, once for each cause."""
        if last.cause not in self._told:
            self._told.add(last.cause)
            self.context.notify(
                f"{self.settings.model} at {self.settings.base_url} proposed nothing for "
                f"generation {self._generation} ({last.problem}): it is drawn around the best "
                f"trial. {advice(last.cause, self.settings)}"
            )

    def _converse(self, sigma: float) -> Dialogue:
        settings, space, brief = self.settings, self.space, self.context.brief
        situation = self._situation(sigma)
        n_all = len(situation.examples)
        # Where nobody was there last time, one request finds out whether somebody is now.
        attempts = 1 if self._was_silent else settings.max_retries

        def prompt(n_examples: int) -> list[dict[str, str]]:
            shown = situation
            if n_examples < n_all:
                examples = situation.examples[:n_examples]
                shown = replace(situation, examples=examples, history=(), thought="")
            return messages(space, brief, shown)

        return converse(
            settings.connect(),
            shortening(prompt, n_all),
            lambda text: read_reply(text, space),
            Patience(attempts, settings.request_timeout, settings.generation_timeout),
            self.clock,
        )

    def _situation(self, sigma: float) -> Situation:
        """Where the search stands, as far as a prompt has room for it."""
        situation = Situation(
            self._generation,
            sigma,
            self._past.has_improved,
            self._past.examples(self.settings.top_k),
            self._past.parents(),
            self._past.lower_is_better,
            self._past.history(self.settings.history),
            self._thought,
        )
        limit = self.settings.max_prompt_characters
        return fitting(self.space, self.context.brief, situation, limit)

    # What came of it

    def _see(self, evaluations: Sequence[Evaluation | None]) -> None:
        self._evaluations = evaluations

    def _learn(self, genotypes: Array, losses: Array) -> None:
        origin = "elsewhere" if self._generation else "before the search"
        self._past.add(genotypes, losses, self._evaluations, origin)
        self._evaluations = ()

    def _tell(self, genotypes: Array, losses: Array) -> None:
        name = f"generation {self._generation}"
        self._past.add_generation(genotypes, losses, self._evaluations, name)
        self._evaluations = ()
        self._generation += 1
