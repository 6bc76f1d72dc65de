"""The two ways to judge an answer: a rating of its own, or a contest with an opponent's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from evomerge.evaluators.judge.question_file import Answers, JudgedQuestion
from evomerge.evaluators.judge.rating import (
    CONTEST,
    HIGHEST,
    LOWEST,
    RATING,
    rating_in,
    share_in,
)
from evomerge.evaluators.kind_of_task import Measure

Values = Mapping[str, str]  # place of a prompt -> what stands there


class Ruling(ABC):
    """How answers are judged: by which prompts, with which texts in them, and what replies mean.

    Attributes:
        measure: What comes of it.
        output: The format of a verdict, as prompts name it.
        names: Of the prompt for a question, and of that beside reference answers.
        judged: Places of what is judged, in prompts of first turns.
    """

    measure: ClassVar[Measure]
    output: ClassVar[str]
    names: ClassVar[tuple[str, str]]
    judged: ClassVar[tuple[str, ...]]

    def prompt_name(self, turn: int, *, is_referenced: bool) -> str:
        """Of the prompt by which a turn is judged, counted from 0."""
        return f"{self.names[is_referenced]}{'-multi-turn' if turn else ''}"

    def needed_places(self, turn: int) -> list[str]:
        """Places without which a prompt shows nothing of what it has judged.

        Args:
            turn: That is judged, counted from 0.
        """
        return [f"{name}_{turn + 1}" if turn else name for name in self.judged]

    @abstractmethod
    def places(
        self, question: JudgedQuestion, turn: int, answers: Sequence[str]
    ) -> tuple[Values, ...]:
        """What stands in the prompts of one judgment, one after the other.

        Args:
            question: Whose references are those that are shown.
            turn: That is judged, counted from 0.
            answers: To all turns until then.
        """

    @abstractmethod
    def value(self, replies: Sequence[str]) -> float:
        """What the replies to these prompts say.

        Raises:
            UnreadableReplyError: one says nothing.
        """


class Grade(Ruling):
    """A rating from 1 to 10."""

    measure = Measure("rating", True, LOWEST, HIGHEST, "what the judge gives, mean over turns")
    output = RATING
    names = ("single-v1", "single-math-v1")
    judged = ("answer",)

    def places(
        self, question: JudgedQuestion, turn: int, answers: Sequence[str]
    ) -> tuple[Values, ...]:
        """See :meth:`Ruling.places`."""
        references = _references(question, turn + 1)
        if turn:
            own = {**_numbered("question", question.turns), **_numbered("answer", answers)}
            return ({**own, **references},)
        return ({"question": question.turns[0], "answer": answers[0], **references},)

    def value(self, replies: Sequence[str]) -> float:
        """See :meth:`Ruling.value`."""
        return rating_in(replies[0])


class Duel(Ruling):
    """A win, a tie or a loss against an opponent's answer, in both orders.

    Args:
        opponent: Its answers.
    """

    measure = Measure("win_rate", True, 0.0, 1.0, "wins against the opponent, a tie is half of one")
    output = CONTEST
    names = ("pair-v2", "pair-math-v1")
    judged = ("answer_a", "answer_b")

    def __init__(self, opponent: Answers) -> None:
        self._opponent = opponent

    def places(
        self, question: JudgedQuestion, turn: int, answers: Sequence[str]
    ) -> tuple[Values, ...]:
        """See :meth:`Ruling.places`."""
        other = self._opponent[question.name]
        return _pair(question, turn, answers, other), _pair(question, turn, other, answers)

    def value(self, replies: Sequence[str]) -> float:
        """See :meth:`Ruling.value`; a judge that decides by order gives half a win."""
        return (share_in(replies[0]) + 1.0 - share_in(replies[1])) / 2


def _pair(
    question: JudgedQuestion, turn: int, first: Sequence[str], second: Sequence[str]
) -> Values:
    if not turn:
        own = {"question": question.turns[0], "answer_a": first[0], "answer_b": second[0]}
        return {**own, **_references(question, 1)}
    return {
        **_numbered("question", question.turns),
        **_numbered("answer_a", first),
        **_numbered("answer_b", second),
        **_references(question, 2),
    }


def _references(question: JudgedQuestion, count: int) -> Values:
    return _numbered("ref_answer", question.references[:count])


def _numbered(name: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"{name}_{number}": text for number, text in enumerate(texts, 1)}
