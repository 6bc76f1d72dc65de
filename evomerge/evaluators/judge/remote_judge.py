"""A judge behind an endpoint: several requests at a time, asked again where one comes to nothing.

A judgment is kept as soon as it is there, whatever becomes of the others.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Any, ClassVar, Protocol

from evomerge.endpoint.chat import ChatAnswer, Message
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.evaluators.asking.asked import Message as Turn
from evomerge.evaluators.asking.asked import Outsider
from evomerge.evaluators.judge.kept_judgments import KeptJudgments, Remark
from evomerge.foundations.canonical import digest
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import RunError

FIRST_WAIT = 1.0  # seconds after a request that came to nothing; doubled each time
LONGEST_WAIT = 60.0  # seconds, where the server names none
MOST_PATIENCE = 600.0  # seconds that a server may ask for; who asks for more has no answer
_SILENT = "time-out"


class Answering(Protocol):
    """What a judge is asked through: one request, once."""

    def complete(self, messages: Sequence[Message], seconds: float) -> ChatAnswer:
        """The answer to messages, within so many seconds.

        Raises:
            NoAnswerError: there is none.
        """


@dataclass(frozen=True)
class Request:
    """What one judgment is asked with.

    Attributes:
        messages: System and user.
        repeat: Which of several judgments of the same.
    """

    messages: tuple[Turn, ...]
    repeat: int = 0


@dataclass(frozen=True)
class RequestLimits:
    """How a judge is waited for.

    Attributes:
        parallel: Requests at a time.
        attempts: How often one is sent.
        seconds: That it may take.
    """

    parallel: int
    attempts: int
    seconds: float


class RemoteJudge(Outsider):
    """Whoever answers at an endpoint; two with the same name are one.

    Args:
        name: What its judgments stand on, JSON: model, and what is asked of it beside messages.
        connect: The way to it.
        patience: How long it is waited for.
        kept: What it has said.
        where: Its address, for messages.
    """

    waits: ClassVar[bool] = True

    def __init__(
        self,
        name: Sequence[Any],
        connect: Callable[[], Answering],
        patience: RequestLimits,
        kept: KeptJudgments,
        where: str,
    ) -> None:
        self._name = list(name)
        self._digest = digest(self._name)
        self._connect = connect
        self._patience = patience
        self._kept = kept
        self._where = where
        self._call: _Call | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteJudge) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def answers(self, asked: Sequence[Request], deadline: Deadline) -> list[Remark]:
        """See :meth:`Outsider.answers`; what cannot be had is a remark without text.

        Raises:
            TrialTimeoutError: the deadline is over.
            RunError: nobody is there, or none of the requests will ever be answered.
        """
        self._kept.refresh()
        keys = [self._key(one) for one in asked]
        open_ones = [(k, one) for k, one in zip(keys, asked, strict=True) if not self._kept.get(k)]
        failures = self._ask(open_ones, deadline) if open_ones else {}
        if len(failures) == len(open_ones) > 0:
            self._refuse(list(failures.values()))
        return [self._kept.get(key) or Remark("", failures[key].cause) for key in keys]

    def give_up(self) -> None:
        """See :meth:`Outsider.give_up`."""
        if self._call is not None:
            self._call.end()

    def _key(self, one: Request) -> str:
        return digest([self._digest, [list(turn) for turn in one.messages], one.repeat])

    def _ask(
        self, asked: Sequence[tuple[str, Request]], deadline: Deadline
    ) -> dict[str, NoAnswerError]:
        """Has all of them judged; those without an answer, and why."""
        call = self._call = _Call(
            self._connect(), self._patience, self._kept, deadline, deque(asked)
        )
        for _ in range(min(self._patience.parallel, len(asked))):
            Thread(target=call.work, daemon=True).start()
        try:
            return call.failures(len(asked))
        finally:
            call.end()
            self._call = None

    def _refuse(self, failures: Sequence[NoAnswerError]) -> None:
        """Where nobody got an answer and waiting is in vain, the next candidate gets none either.

        A prompt that is too long, and a single one that takes too long, are that candidate's.
        """
        first = failures[0]
        if any(one.is_too_long for one in failures):
            return
        if len(failures) > 1 or first.cause != _SILENT:
            raise RunError(
                f"no judgment could be had ({first.reason})",
                where=self._where,
                fix="Mend it, then give the same command again: no judgment is lost.",
            )


class _EndedError(Exception):
    """Whoever waited for a batch waits no more."""


@dataclass
class _Call:
    """One batch, and those who ask."""

    judge: Answering
    patience: RequestLimits
    kept: KeptJudgments
    deadline: Deadline
    waiting: deque[tuple[str, Request]]
    done: SimpleQueue[tuple[str, Any]] = field(default_factory=SimpleQueue)
    is_over: Event = field(default_factory=lambda: Event())
    not_before: float = 0.0  # when the server will hear of requests again

    def failures(self, n_asked: int) -> dict[str, NoAnswerError]:
        """Waits for all of them."""
        found: dict[str, NoAnswerError] = {}
        while n_asked:
            left = self.deadline.left
            try:
                key, came = self.done.get(timeout=None if left == math.inf else max(left, 0.0))
            except Empty:
                self.deadline.check()
                continue
            n_asked -= 1
            if isinstance(came, NoAnswerError):
                found[key] = came
            elif came is not None:
                raise came
        return found

    def end(self) -> None:
        """Those who ask stop as soon as they can; what still comes is kept."""
        self.is_over.set()
        self.done.put(("", _EndedError()))

    def work(self) -> None:
        """Asks one after the other, until there is no more to ask."""
        while not self.is_over.is_set():
            try:
                key, request = self.waiting.popleft()
            except IndexError:
                return
            try:
                self.done.put((key, self._asked(key, request)))
            except BaseException as error:  # raised again in the thread that waits
                self.done.put((key, error))

    def _asked(self, key: str, request: Request) -> NoAnswerError | None:
        """Asks until there is an answer; why there is none."""
        failure = NoAnswerError("given up", cause="given up")
        messages = [{"role": one.role, "content": one.content} for one in request.messages]
        wait = 0.0
        for attempt in range(self.patience.attempts):
            if self._is_over_after(wait):
                break
            try:
                seconds = max(min(self.patience.seconds, self.deadline.left), 0.0)
                answer = self.judge.complete(messages, seconds)
            except NoAnswerError as error:
                failure, wait = error, self._wait(error, attempt)
                if not error.may_pass or wait > MOST_PATIENCE:
                    break
            else:
                self.kept.keep(key, _remark(answer))
                return None
        return failure

    def _wait(self, failure: NoAnswerError, attempt: int) -> float:
        """Seconds before the next request: as the server says, to all who ask it."""
        if failure.wait is None:
            return min(FIRST_WAIT * 2.0**attempt, LONGEST_WAIT)
        if failure.wait <= MOST_PATIENCE:
            self.not_before = max(self.not_before, monotonic() + failure.wait)
        return failure.wait

    def _is_over_after(self, seconds: float) -> bool:
        """Waits, longer where the server has asked for it meanwhile."""
        end = monotonic() + seconds
        while (left := max(end, self.not_before) - monotonic()) > 0:
            if self.is_over.wait(left):
                return True
        return self.is_over.is_set()


def _remark(answer: ChatAnswer) -> Remark:
    return Remark(answer.text, answer.cause, answer.prompt_tokens, answer.completion_tokens)
