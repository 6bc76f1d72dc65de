"""Evaluators whose tasks ask in rounds: those of a split are answered together, by one engine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from evomerge.evaluators.asking.respondent import EngineRespondent
from evomerge.evaluators.asking.rounds import Hearing, hear
from evomerge.evaluators.base import Evaluator
from evomerge.foundations.deadline import Deadline
from evomerge.nouns.evaluation import Evaluation

if TYPE_CHECKING:
    from evomerge.inference.base import Engine
    from evomerge.merging.live_model import LiveModel

Places = tuple[int, ...]  # of tasks, among all tasks of a split


class InRounds(Evaluator):
    """An evaluator that leaves the model to whoever answers what its tasks ask."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._answering = Respondents(self)

    @abstractmethod
    def hearings(self, model: LiveModel, engine: Engine, places: Sequence[int]) -> list[Hearing]:
        """What some of its tasks ask of a model, not yet begun.

        Args:
            model: What is scored.
            engine: Answers; bound to the model, or to that part of it which has these tasks.
            places: Of the tasks, among its own.
        """

    @abstractmethod
    def evaluation(self, heard: Sequence[Hearing]) -> Evaluation:
        """See :meth:`Evaluator.evaluate`, of the hearings of all its tasks, once they are over."""

    def evaluate(
        self, model: LiveModel, deadline: Deadline | None = None, batch_divisor: int = 1
    ) -> Evaluation:
        """See :meth:`Evaluator.evaluate`."""
        places = tuple(range(len(self.tasks)))
        names = [task.name for task in self.tasks]
        return self._answering.together({places: self}, names, model, deadline, batch_divisor)[
            places
        ]

    def let_go(self) -> None:
        """See :meth:`Evaluator.let_go`."""
        self._answering.let_go()


class Respondents:
    """Who answers the tasks of a split: an engine for each model that has some of them.

    Args:
        split: Scores the split; its engine, settings and seed are used.
    """

    def __init__(self, split: Evaluator) -> None:
        self._split = split
        # Places of tasks that one model answers -> who answers for it.
        self._respondents: dict[Places, EngineRespondent] = {}

    def together(
        self,
        evaluators: Mapping[Places, InRounds],
        names: Sequence[str],
        model: LiveModel,
        deadline: Deadline | None = None,
        batch_divisor: int = 1,
    ) -> dict[Places, Evaluation]:
        """What came of the tasks of several evaluators, whose requests go to the model together.

        Of a mixture by task, those of the tasks that one model answers.

        Args:
            evaluators: By the places of their tasks.
            names: Of the tasks at all places, whoever scores them.
            model: What is scored.
            deadline: See :meth:`Evaluator.evaluate`.
            batch_divisor: See :meth:`Evaluator.evaluate`.
        """
        deadline = deadline or Deadline()
        order = sorted(chain.from_iterable(evaluators))
        heard: dict[Places, list[Hearing]] = {own: [] for own in evaluators}
        for module, answered in model.shared_out([names[place] for place in order]):
            places = tuple(order[index] for index in answered)
            respondent = self._respondent_for(model, places)
            respondent.bind(module, deadline, batch_divisor)
            begun = {
                own: evaluator.hearings(
                    model, respondent.engine, [own.index(place) for place in places if place in own]
                )
                for own, evaluator in evaluators.items()
                if not set(own).isdisjoint(places)
            }
            hear([*chain.from_iterable(begun.values())], respondent, deadline)
            for own, hearings in begun.items():
                heard[own] += hearings
        return {own: evaluator.evaluation(heard[own]) for own, evaluator in evaluators.items()}

    def let_go(self) -> None:
        """Forgets the models."""
        self._respondents = {}

    def _respondent_for(self, model: LiveModel, places: Places) -> EngineRespondent:
        """Who answers for some tasks; made once for a tokenizer."""
        known = self._respondents.get(places)
        if known is None or known.reader.tokenizer is not model.tokenizer:
            settings = self._split.settings
            engine = self._split.engine(model.tokenizer, settings.batch_size, settings.exactness)
            known = EngineRespondent(engine, settings, self._split.seed)
            self._respondents[places] = known
        return known
