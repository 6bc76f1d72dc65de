"""Judges who are asked for no judgment twice, whoever they are."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evomerge.evaluators.asking.asked import Message, Outsider
from evomerge.evaluators.judge.kept_judgments import KeptJudgments, Remark
from evomerge.foundations.canonical import digest
from evomerge.foundations.claims import LOOKS_EVERY
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError


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
        name: Gives what its judgments stand on, JSON: the model, and how it is asked. Asked for
            when it is first heard: every byte of a model is read for it.
    """

    def __init__(self, name: Callable[[], Sequence[Any]]) -> None:
        self._told_name = name
        self._kept = KeptJudgments()
        self._is_given_up = False
        # Of those that were asked last: nobody waits for them, but they may be answered yet, and
        # are given back then.
        self._on_their_way: frozenset[str] = frozenset()

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
        self._is_given_up, self._on_their_way = False, frozenset()
        by_key = {self._key(one): one for one in asked}
        lacking: dict[str, str] = {}
        while open_ones := self._open(by_key.keys() - lacking.keys()):
            claimed = self._kept.claim(open_ones)
            try:  # who had claimed them before may have been told
                missing = self._open(claimed)
                own = {key: one for key, one in by_key.items() if key in missing}
                lacking |= self._judge(own, deadline) if own else {}
            finally:
                self._kept.give_back(claimed - self._on_their_way)
            if not claimed:
                self._wait(deadline)
        return [self._kept.get(key) or Remark("", lacking[key]) for key in by_key]

    def give_up(self) -> None:
        """See :meth:`Outsider.give_up`."""
        self._is_given_up = True

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

    @cached_property
    def _name(self) -> str:
        return digest(list(self._told_name()))

    def _open(self, keys: Collection[str]) -> set[str]:
        """Those that nobody was told yet, in any process."""
        self._kept.refresh()
        return {key for key in keys if self._kept.get(key) is None}

    def _wait(self, deadline: Deadline) -> None:
        """Leaves others time to be told.

        Raises:
            TrialTimeoutError: the deadline is over.
            EvaluationError: nobody waits for it any more.
        """
        if self._is_given_up:
            raise EvaluationError("nobody waits for the judgments any more")
        deadline.check()
        time.sleep(LOOKS_EVERY)

    def _key(self, one: Request) -> str:
        return digest([self._name, [list(turn) for turn in one.messages], one.repeat])
