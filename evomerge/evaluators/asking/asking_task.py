"""A task of a kind that asks: its documents, those that are scored, and the metric read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from evomerge.evaluators.asking.asked import AskOther, AskText
from evomerge.evaluators.asking.asking_kind import AskingKind, Item
from evomerge.evaluators.asking.language_gate import IN_LANGUAGE, LanguageGate
from evomerge.evaluators.asking.rounds import Hearing
from evomerge.evaluators.chosen_documents import sampled_documents
from evomerge.evaluators.kind_of_task import Measure
from evomerge.evaluators.task_contents import TaskContents
from evomerge.evaluators.task_facts import PartFacts, TaskFacts
from evomerge.foundations.canonical import digest
from evomerge.foundations.errors import GenomeError, Problem, nearest
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import MetricKey

FILTER = "none"
FEW = 8  # documents that are looked at for what all of them ask


@dataclass(frozen=True)
class AskingTask:
    """A task whose files have been read.

    Attributes:
        kind: Judges its documents.
        key: The metric read from it.
        items: The documents that are scored.
        numbers: Which of all documents they are, counted from 0.
        n_available: Documents of the task.
    """

    kind: AskingKind[Any]
    key: MetricKey
    items: tuple[Item[Any], ...]
    numbers: tuple[int, ...]
    n_available: int

    @property
    def name(self) -> str:
        """As the genome has it."""
        return self.key.task

    @cached_property
    def gate(self) -> LanguageGate | None:
        """What replies have to be in; None: in any language."""
        return LanguageGate(self.kind.languages) if self.kind.languages else None

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What it reports, the one that is read first."""
        known = measures_of(self.kind)
        first = [one for one in known if one.name == self.key.metric]
        return (*first, *(one for one in known if one not in first))

    def shortened(self, n_items: int) -> AskingTask:
        """The same with its first documents alone."""
        return replace(self, items=self.items[:n_items], numbers=self.numbers[:n_items])

    def hearings(self) -> list[Hearing]:
        """Its documents, to be judged."""
        askings, gate = self.kind.askings(self.items, self.numbers), self.gate
        if gate is not None and not self.kind.gates_itself:
            askings = ((own, gate.passed(asking, self.measures)) for own, asking in askings)
        return [Hearing(self.name, tuple(numbers), asking) for numbers, asking in askings]

    @property
    def identity(self) -> str:
        """Digest of what its scores stand on."""
        documents = [list(self.numbers), [item.stands_for for item in self.items]]
        gate = [] if self.gate is None else self.gate.stands_on
        return digest([self.key.metric, *documents, *self.kind.stands_on(), *gate])

    @property
    def contents(self) -> TaskContents:
        """Its documents for rules that compare them; blanks and capitals make no other question."""
        return TaskContents(
            self.name,
            self.name,
            tuple(
                (digest(" ".join(item.asks.split()).casefold()), digest(item.stands_for))
                for item in self.items
            ),
        )

    @property
    def facts(self) -> TaskFacts:
        """What is known of it before a model is scored."""
        part = PartFacts(
            name=self.name,
            n_available=self.n_available,
            n_documents=len(self.items),
            rows_per_document=self.kind.rounds * self._rows,
            n_fewshot=0,
            is_fewshot_scored=False,
            max_new_tokens=self.kind.max_new_tokens,
            is_sampled=any(
                isinstance(one, AskText) and one.temperature > 0 for one in self.opening
            ),
        )
        teaches = any(self.kind.lesson(item) is not None for item in self.items)
        return TaskFacts(
            self.key,
            self.measures[0].higher_is_better,
            (part,),
            teaches=teaches,
            wants_folder=self.kind.wants_folder,
        )

    @cached_property
    def guess(self) -> float | None:
        """What answers drawn at random score by the metric that is read; None: nobody knows."""
        is_first = self.key.metric == self.kind.measures[0].name
        return self.kind.guess(self.items) if is_first else None

    @cached_property
    def opening(self) -> list[Any]:
        """What the first few documents ask first."""
        known: list[Any] = []
        for hearing in self.shortened(FEW).hearings():
            known += hearing.go_on({})
            hearing.asking.close()
        return known

    @property
    def _rows(self) -> float:
        """Rows of forward passes in a round, per document."""
        of_model = [one for one in self.opening if not isinstance(one, AskOther)]
        return len(of_model) / len(self.items[:FEW])


def asking_task(kind: AskingKind[Any], where: str) -> AskingTask | list[Problem]:
    """A task with its files read, or what is wrong with it.

    Args:
        kind: Of the task.
        where: Its key path in the genome.
    """
    task = kind.task
    measures = {one.name: one for one in measures_of(kind)}
    metric, _, of = (task.metric or next(iter(measures))).partition(",")
    if metric not in measures or of.strip() not in ("", FILTER):
        what = f"got {task.metric!r}{nearest(metric, [*measures])} (it has: {', '.join(measures)})"
        return [Problem(what, f"{where}.metric")]
    if kind.languages:
        gate = LanguageGate(kind.languages)
        problems = list(gate.unknown() if kind.gates_itself else gate.problems(measures[metric]))
        if problems:
            return [placed(one, f"{where}.{task.kind}") for one in problems]
    try:
        items = tuple(kind.items())
        if not items:
            raise GenomeError("it has no document", fix="Name a file that has some.")
    except GenomeError as error:
        return [placed(problem, f"{where}.{task.kind}") for problem in error.problems]
    numbers = _numbers(task, len(items), kind.around.seed, where)
    if isinstance(numbers, Problem):
        return [numbers]
    key = MetricKey(task.name, metric, FILTER)
    return AskingTask(kind, key, tuple(items[n] for n in numbers), tuple(numbers), len(items))


def measures_of(kind: AskingKind[Any]) -> tuple[Measure, ...]:
    """What a task can report."""
    return (*kind.measures, *((IN_LANGUAGE,) if kind.languages else ()))


def placed(problem: Problem, where: str) -> Problem:
    """A kind tells the key below its own; the genome has all above it."""
    return replace(problem, where=f"{where}.{problem.where}" if problem.where else where)


def _numbers(task: Task, n_available: int, seed: int, where: str) -> Sequence[int] | Problem:
    """Which documents are scored."""
    chosen = sampled_documents(task, task.name, n_available, seed, where)
    return range(n_available)[: task.limit] if chosen is None else chosen
