"""Models and merges scored on the same tasks, one after the other, outside any search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evomerge.evaluators.base import Evaluator
from evomerge.executors.worker import Worker
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import RunError
from evomerge.nouns.evaluation import Evaluation, Outcome, TrialState
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.nouns.trial import Candidate
from evomerge.recipe.plain import Recipe

if TYPE_CHECKING:
    from evomerge.merging.base import Merger
    from evomerge.merging.live_model import LiveModel

Watch = Callable[[str, float], None]  # hears what is done, and how far all of it is in [0, 1]
MakeWorker = Callable[[Mapping[str, Evaluator]], Worker]


@dataclass(frozen=True)
class Entrant:
    """What is scored.

    Attributes:
        name: What it is called beside the others.
        recipe: What gives its weights.
        make_worker: Builds what merges and scores it.
    """

    name: str
    recipe: Recipe
    make_worker: MakeWorker


@dataclass(frozen=True)
class EntrantScores:
    """What came of one of them.

    Attributes:
        entrant: Which.
        outcomes: Task -> its outcome, in the order of the tasks.
    """

    entrant: Entrant
    outcomes: Mapping[str, Outcome]

    def evaluation(self, task: str) -> Evaluation | None:
        """Metrics and documents of a task; None where it could not be scored."""
        return self.outcomes[task].evaluation

    @property
    def failures(self) -> list[str]:
        """Why tasks could not be scored; what all of them share once."""
        wrong = {name: o.failure for name, o in self.outcomes.items() if o.evaluation is None}
        if len(wrong) == len(self.outcomes) and len(set(wrong.values())) == 1:
            return [next(iter(wrong.values()))]
        return [f"{name}: {failure}" for name, failure in wrong.items()]


def side_by_side(
    entrants: Sequence[Entrant], evaluators: Mapping[str, Evaluator], watch: Watch
) -> Iterator[EntrantScores]:
    """Scores them in turn; what fails is an outcome, and the next one follows.

    Each is merged once. A task is scored by itself, so that one that fails costs no other its
    score.

    Args:
        entrants: What is scored.
        evaluators: Task -> what scores it alone; prepared.
        watch: Hears how far it is.
    """
    pace = _Pace(evaluators, len(entrants), watch)
    for number, entrant in enumerate(entrants):
        pace.begin(entrant.name, number)
        worker = entrant.make_worker(evaluators)
        worker.merger = _Kept(worker.merger)
        candidate = Candidate(number, Origin(OriginKind.MODEL, entrant.name), entrant.recipe)
        outcomes: dict[str, Outcome] = {}
        divisor = 1
        for task in evaluators:
            outcome = _outcome(worker, candidate, task, divisor, pace)
            outcomes[task], divisor = outcome, outcome.batch_divisor
            if "evaluate" not in outcome.seconds:  # there is no model, for no task
                outcomes = dict.fromkeys(evaluators, outcome)
                break
        del worker  # its models make room for the next ones
        for evaluator in evaluators.values():
            evaluator.let_go()
        yield EntrantScores(entrant, outcomes)


def _outcome(worker: Worker, candidate: Candidate, task: str, divisor: int, pace: _Pace) -> Outcome:
    stages = worker.run(candidate, task, divisor, pace.deadline)
    try:
        while True:
            pace.enter(task, next(stages))
    except StopIteration as end:
        outcome: Outcome = end.value
    # The files of this one are gone or unreadable: the others may be as they were.
    except RunError as error:
        outcome = Outcome(TrialState.FAILED, None, str(error.problems[0]), batch_divisor=divisor)
    pace.leave(task)
    return outcome


class _Kept:
    """A merger that makes a recipe's model once, however often it is asked for in a row."""

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._last: tuple[Recipe, LiveModel] | None = None

    def merge(self, recipe: Recipe, deadline: Deadline | None = None) -> LiveModel:
        """See :class:`Merger`."""
        if self._last is None or self._last[0] is not recipe:
            self._last = None  # its weights are overwritten now
            self._last = recipe, self._merger.merge(recipe, deadline)
        return self._last[1]

    def forget_structures(self, coming: Recipe | None = None) -> None:
        """See :class:`Merger`."""
        self._merger.forget_structures(coming)


def _silent() -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class _Pulse(Deadline):
    """No limit, but somebody who hears every look at it: one before each forward pass."""

    beat: Callable[[], None] = _silent

    def check(self) -> None:
        """Tells it."""
        self.beat()


class _Pace:
    """How far everything is: by documents, and inside a task by the passes of the one before."""

    def __init__(self, evaluators: Mapping[str, Evaluator], n_entrants: int, watch: Watch) -> None:
        self._sizes = {
            name: sum(facts.n_documents for facts in evaluator.facts())
            for name, evaluator in evaluators.items()
        }
        self._n_entrants = n_entrants
        self._watch = watch
        self._passes: dict[str, int] = {}  # of a task, as an earlier entrant took them
        self._done = self._beats = 0
        self._who = self._what = self._task = ""
        self.deadline = _Pulse(beat=self._beat)

    def begin(self, who: str, number: int) -> None:
        """The next entrant."""
        self._who = f"{who} ({number + 1} of {self._n_entrants})"
        self._done, self._task = number * sum(self._sizes.values()), ""
        self._what = f"{self._who}: reads and merges"
        self._tell(0.0)

    def enter(self, task: str, stage: str) -> None:
        """A stage of a task begins."""
        self._task, self._beats = task, 0
        if stage != "merge":  # which is over already, but for the first task
            self._what = f"{self._who}: {task}, {self._sizes[task]:,} documents"
            self._tell(0.0)

    def leave(self, task: str) -> None:
        """A task is done."""
        self._passes[task] = self._beats
        self._done += self._sizes[task]
        self._tell(0.0)

    def _beat(self) -> None:
        self._beats += 1
        known = self._passes.get(self._task, 0)
        self._tell(self._sizes[self._task] * min(self._beats / known, 1.0) if known else 0.0)

    def _tell(self, more: float) -> None:
        total = max(self._n_entrants * sum(self._sizes.values()), 1)
        self._watch(self._what, (self._done + more) / total)
