"""What a judge from outside says, turn by turn: what it wants of the model, or its result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from evomerge.evaluators.asking.asked import AskModel, Outsider
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError

_LONGEST_WAIT = 3600.0


@dataclass(frozen=True, eq=False)
class Answered:
    """What it is told; no two are the same, whatever they hold.

    Attributes:
        answers: To what it wanted last; None begins.
    """

    answers: Sequence[Any] | None = None


@dataclass(frozen=True)
class Wants:
    """Requests to the model, before it can go on."""

    asked: tuple[AskModel, ...]


@dataclass(frozen=True)
class Result:
    """What it says at the end, as JSON has it."""

    value: Any


def patience(deadline: Deadline) -> float:
    """Seconds to wait before it is looked at again: the system counts no endless ones."""
    return min(max(deadline.left, 0.0), _LONGEST_WAIT)


class Conversation(Outsider):
    """One judge in one trial. It works beside the model, in a thread of its own.

    Args:
        task: Whose judge it is, for messages: several tasks may have one program.
    """

    waits: ClassVar[bool] = True

    def __init__(self, task: str) -> None:
        self._task = task

    def answers(self, asked: Sequence[Answered], deadline: Deadline) -> Sequence[Wants | Result]:
        """See :meth:`Outsider.answers`; turns come one by one."""
        try:
            return [self.turn(one, deadline) for one in asked]
        except EvaluationError as error:
            what = error.problems[0].what
            where = "" if what.startswith(f"{self._task} ") else self._task
            raise EvaluationError(what, where=where) from error

    @abstractmethod
    def turn(self, turn: Answered, deadline: Deadline) -> Wants | Result:
        """What it says next.

        Raises:
            TrialTimeoutError: the deadline is over; it has been ended.
            EvaluationError: it failed.
            RunError: it is not the one any more that the run began with.
        """

    @abstractmethod
    def end(self) -> None:
        """Ends it where it has not come to its end; nothing happens a second time."""

    def give_up(self) -> None:
        """See :meth:`Outsider.give_up`."""
        self.end()
