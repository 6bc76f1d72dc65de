"""Judges who are asked for no judgment twice, whoever they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.evaluators.asking.asked import Message, Outsider
from evomerge.evaluators.judge.kept_judgments import KeptJudgments, Remark
from evomerge.foundations.canonical import digest
from evomerge.foundations.deadline import Deadline


@dataclass(frozen=True)
class Request:
    """What one judgment is asked with.

    Attributes:
        messages: System and user.
        repeat: Which of several judgments of the same.
    """

    messages: tuple[Message, ...]
    repeat: int = 0


class AskedOnce(Outsider):
    """A judge; two with the same name are one.

    Args:
        name: What its judgments stand on, JSON: the model, and how it is asked.
    """

    def __init__(self, name: Sequence[Any]) -> None:
        self._name = digest(list(name))
        self._kept = KeptJudgments()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AskedOnce) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)

    def answers(self, asked: Sequence[Request], deadline: Deadline) -> list[Remark]:
        """See :meth:`Outsider.answers`; what cannot be had is a remark without text.

        Raises:
            TrialTimeoutError: the deadline is over.
            RunError: nobody judges.
        """
        self._kept.refresh()
        keys = [self._key(one) for one in asked]
        pairs = zip(keys, asked, strict=True)
        open_ones = {key: one for key, one in pairs if self._kept.get(key) is None}
        lacking = self._judge(open_ones, deadline) if open_ones else {}
        return [self._kept.get(key) or Remark("", lacking[key]) for key in keys]

    def keep_in(self, kept: KeptJudgments) -> None:
        """Has what it said, and will say, kept elsewhere too."""
        if kept is not self._kept:
            kept.take(self._kept)
            self._kept = kept

    @abstractmethod
    def _judge(self, asked: Mapping[str, Request], deadline: Deadline) -> Mapping[str, str]:
        """Has requests judged, and what is said kept.

        Args:
            asked: By the key under which a remark is kept.
            deadline: Of the trial.

        Returns:
            Why there is no judgment, for those that have none.
        """

    def _key(self, one: Request) -> str:
        return digest([self._name, [list(turn) for turn in one.messages], one.repeat])
