"""The tasks of a split, whatever their kinds: who scores them, each or several kinds at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evomerge.evaluators import EVALUATORS
from evomerge.evaluators.asking.in_rounds import InRounds, Respondents
from evomerge.evaluators.base import Evaluator
from evomerge.evaluators.beside import Room, shared_room
from evomerge.evaluators.built_model import BuiltModel, Report, Scored
from evomerge.evaluators.questions import Question
from evomerge.evaluators.task_contents import TaskContents
from evomerge.evaluators.task_facts import TaskFacts
from evomerge.foundations.errors import GenomeError, Problem
from evomerge.foundations.findings import Finding
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from evomerge.foundations.deadline import Deadline
    from evomerge.inference.base import Engine
    from evomerge.merging.live_model import LiveModel

T = TypeVar("T")
_INDEX = re.compile(r"^tasks\[(\d+)\]")


def evaluator_for(
    tasks: Sequence[Task], settings: EvaluationBlock, engine: type[Engine], **given: Any
) -> Evaluator:
    """What scores some tasks: the evaluator of their kinds, or a composite of several.

    Args:
        tasks: Of one split.
        settings: How to run the model.
        engine: What runs it.
        given: What else every evaluator takes, by name.

    Raises:
        UnknownNameError: no such kind.
    """
    scorers = [_scorer(task.kind) for task in tasks]
    if len({*scorers}) == 1:
        return scorers[0](tasks, settings, engine, **given)
    parts = {}
    for scorer in dict.fromkeys(scorers):
        places = tuple(place for place, one in enumerate(scorers) if one is scorer)
        parts[places] = scorer([tasks[place] for place in places], settings, engine, **given)
    return Composite(parts, tasks, settings, engine, **given)


def _scorer(kind: str) -> type[Evaluator]:
    """Who scores a kind: it itself, or the one evaluator of all kinds that ask."""
    found = EVALUATORS[kind]
    if issubclass(found, Evaluator):
        return found
    from evomerge.evaluators.asking.asking_evaluator import AskingEvaluator  # few runs need it

    return AskingEvaluator


class Composite(Evaluator):
    """Scores tasks by several evaluators, each with the kinds that are its own, on one live model.

    Args:
        parts: Places of tasks among all of them -> the evaluator of these.
        tasks: All of them.
        given: What every evaluator takes.
    """

    def __init__(
        self,
        parts: Mapping[tuple[int, ...], Evaluator],
        tasks: Sequence[Task],
        *given: Any,
        **more: Any,
    ) -> None:
        super().__init__(tasks, *given, **more)
        self.parts = parts
        self._answering = Respondents(self)
        self.means = " with ".join(filter(None, (part.means for part in parts.values())))

    def prepare(self) -> tuple[MetricKey, ...]:
        """See :meth:`Evaluator.prepare`; documents of two kinds never share a name."""
        keys = self._in_order(lambda part: part.prepare())
        problems = list(self._overlaps())
        if problems:
            raise GenomeError.of(problems)
        return keys

    def evaluate(
        self, model: LiveModel, deadline: Deadline | None = None, batch_divisor: int = 1
    ) -> Evaluation:
        """See :meth:`Evaluator.evaluate`; what kinds ask in rounds is answered together."""
        asking = {own: part for own, part in self.parts.items() if isinstance(part, InRounds)}
        names = [task.name for task in self.tasks]
        answered = self._answering.together(asking, names, model, deadline, batch_divisor)
        found = {
            places: answered[places]
            if places in answered
            else part.evaluate(model, deadline, batch_divisor)
            for places, part in self.parts.items()
        }
        own = self._sorted({places: one.metrics[: len(places)] for places, one in found.items()})
        others = (one.metrics[len(places) :] for places, one in found.items())
        tallies = {tally.task: tally for one in found.values() for tally in one.tallies}
        return Evaluation(
            (*own, *chain.from_iterable(others)),
            tuple(chain.from_iterable(one.documents for one in found.values())),
            tuple(chain.from_iterable(one.samples for one in found.values())),
            tuple(tallies[task.name] for task in self.tasks if task.name in tallies),
        )

    def first_documents(
        self, model: LiveModel, deadline: Deadline | None = None
    ) -> tuple[Metric, ...]:
        """See :meth:`Evaluator.first_documents`."""
        return self._in_order(lambda part: part.first_documents(model, deadline))

    def let_go(self) -> None:
        """See :meth:`Evaluator.let_go`."""
        self._answering.let_go()
        for part in self.parts.values():
            part.let_go()

    def keep_in(self, run_dir: Path | None) -> None:
        """See :meth:`Evaluator.keep_in`."""
        for part in self.parts.values():
            part.keep_in(run_dir)

    def hold_to(self, identity: Mapping[str, str]) -> None:
        """See :meth:`Evaluator.hold_to`."""
        for part in self.parts.values():
            part.hold_to(identity)

    def settle(self, keys: Sequence[MetricKey]) -> None:
        """See :meth:`Evaluator.settle`."""
        for places, part in self.parts.items():
            part.settle([keys[place] for place in places])

    def identity(self) -> Mapping[str, str]:
        """See :meth:`Evaluator.identity`."""
        found = {name: one for part in self.parts.values() for name, one in part.identity().items()}
        return {task.name: found[task.name] for task in self.tasks}

    def contents(self) -> tuple[TaskContents, ...]:
        """See :meth:`Evaluator.contents`."""
        order = [task.name for task in self.tasks]
        found = chain.from_iterable(part.contents() for part in self.parts.values())
        return tuple(sorted(found, key=lambda contents: order.index(contents.task)))

    def facts(self) -> tuple[TaskFacts, ...]:
        """See :meth:`Evaluator.facts`."""
        return self._in_order(lambda part: part.facts())

    def questions(self, model: LiveModel) -> tuple[Question, ...]:
        """See :meth:`Evaluator.questions`."""
        return tuple(chain.from_iterable(part.questions(model) for part in self.parts.values()))

    def tokens_per_pass(self, device: str, longest: int) -> int:
        """See :meth:`Evaluator.tokens_per_pass`."""
        return max(part.tokens_per_pass(device, longest) for part in self.parts.values())

    def findings(self) -> Iterator[Finding]:
        """See :meth:`Evaluator.findings`."""
        for places, part in self.parts.items():
            for one in part.findings():
                yield replace(one, problem=_placed(one.problem, places))

    def room(self) -> Room:
        """See :meth:`Evaluator.room`."""
        return shared_room(part.room() for part in self.parts.values())

    def warnings(
        self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
    ) -> tuple[str, ...]:
        """See :meth:`Evaluator.warnings`; what several kinds say alike once."""
        told = (part.warnings(tokenizer, config) for part in self.parts.values())
        return tuple(dict.fromkeys(chain.from_iterable(told)))

    def score_folder(
        self, built: BuiltModel, report: Report, recorded: Collection[str] = ()
    ) -> Scored:
        """See :meth:`Evaluator.score_folder`; of the kinds that can."""
        documents: list[Document] = []
        metrics: dict[str, float] = {}
        able = [part for part in self.parts.values() if part.means]
        for index, part in enumerate(able):

            def of_all(share: float, done: int = index) -> None:
                report((done + share) / len(able))

            own, numbers = part.score_folder(built, of_all, recorded)
            documents += own
            metrics |= numbers
        return tuple(documents), metrics

    @property
    def unverifiable(self) -> frozenset[str]:
        """See :meth:`Evaluator.unverifiable`."""
        return frozenset().union(*(part.unverifiable for part in self.parts.values()))

    def _in_order(self, ask: Callable[[Evaluator], Sequence[T]]) -> tuple[T, ...]:
        """What each part gives of its tasks, in the order of all tasks.

        Raises:
            GenomeError: what is wrong with any part.
        """
        found: dict[tuple[int, ...], Sequence[T]] = {}
        problems: list[Problem] = []
        for places, part in self.parts.items():
            try:
                found[places] = ask(part)
            except GenomeError as error:
                problems += (_placed(problem, places) for problem in error.problems)
        if problems:
            raise GenomeError.of(problems)
        return self._sorted(found)

    def _sorted(self, found: Mapping[tuple[int, ...], Sequence[T]]) -> tuple[T, ...]:
        by_place = {
            place: one
            for places, own in found.items()
            for place, one in zip(places, own, strict=False)
        }
        return tuple(by_place[place] for place in sorted(by_place))

    def _overlaps(self) -> Iterator[Problem]:
        """Tasks whose documents go by a name that those of another kind have."""
        owners: dict[str, str] = {}
        for index, (task, facts) in enumerate(zip(self.tasks, self.facts(), strict=False)):
            for part in facts.parts:
                owner = owners.setdefault(part.name, task.name)
                if owner != task.name:
                    what = f"task {part.name!r} is also part of {owner!r}"
                    yield Problem(what, f"tasks[{index}]", "Drop one.")


def _placed(problem: Problem, places: Sequence[int]) -> Problem:
    """A part counts its own tasks; the genome counts all of them."""
    where = _INDEX.sub(lambda found: f"tasks[{places[int(found[1])]}]", problem.where)
    return replace(problem, where=where)
