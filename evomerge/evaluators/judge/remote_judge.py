"""A judge behind an endpoint: several requests at a time, asked again where one comes to nothing.

A judgment is kept as soon as it is there, whatever becomes of the others. What is on its way when
nobody waits for it any more, as a trial ended, is kept too, and not asked again meanwhile. A
request says by its ``Idempotency-Key`` which it is, so that a server that knows of such keys can
answer a second one, of whose first one no answer came, by what it found before.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, ClassVar, Protocol

from evomerge.endpoint.chat import NO_MODEL, ChatAnswer, Message
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.evaluators.judge.asked_once import AskedOnce, Request
from evomerge.evaluators.judge.kept_judgments import KeptJudgments, Remark
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import RunError

FIRST_WAIT = 1.0  # seconds after a request that came to nothing; doubled each time
LONGEST_WAIT = 60.0  # seconds, where the server names none
MOST_PATIENCE = 600.0  # seconds that a server may ask for; who asks for more has no answer
_MANY = 4  # requests of which not one is answered: that is no answer's fault
_LASTING = ("no connection", "key refused", "unusable key", "HTTP status 404")
_LIMITED = "rate limit"
# Statuses of requests that may be answered yet, or were not looked at; None: nothing came back.
_OPEN = (None, 408, 409, 425, 429, 502, 503, 504)


class Answering(Protocol):
    """What a judge is asked through: one request, once."""

    def complete(
        self, messages: Sequence[Message], seconds: float, idempotency_key: str
    ) -> ChatAnswer:
        """The answer to messages, within so many seconds.

        Raises:
            NoAnswerError: there is none.
        """


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


class RemoteJudge(AskedOnce):
    """Whoever answers at an endpoint.

    Args:
        name: What its judgments stand on, JSON: server, model, and what is asked of it beside
            messages.
        connect: The way to it.
        limits: How it is asked and waited for.
        where: Its address, for messages.
    """

    waits: ClassVar[bool] = True

    def __init__(
        self,
        name: Sequence[Any],
        connect: Callable[[], Answering],
        limits: RequestLimits,
        where: str,
    ) -> None:
        super().__init__(lambda: name)
        self._connect = connect
        self._limits = limits
        self._where = where
        self._call: _Call | None = None

    def give_up(self) -> None:
        """See :meth:`Outsider.give_up`."""
        super().give_up()
        if self._call is not None:
            self._call.end()

    def _judge(self, asked: Mapping[str, Request], deadline: Deadline) -> Mapping[str, str]:
        waiting = deque(asked.items())
        call = self._call = _Call(self._connect(), self._limits, self._kept, deadline, waiting)
        for _ in range(min(self._limits.parallel, len(asked))):
            Thread(target=call.work, daemon=True).start()
        try:
            failures = call.failures(len(asked))
        finally:
            self._on_their_way = call.end()
            self._call = None
        prompts = {one.messages for one in asked.values()}  # repeats ask the same
        self._refuse(list(failures.values()), len(prompts), is_all=len(failures) == len(asked))
        return {key: failure.cause for key, failure in failures.items()}

    def _refuse(self, failures: Sequence[NoAnswerError], n_prompts: int, *, is_all: bool) -> None:
        """Where nobody judges any more, the next candidate would have no judgment either.

        What an answer may have caused is its candidate's: a prompt that is too long, filtered,
        refused, or takes too long.
        """
        ends = [one for one in failures if one.cause in _LASTING]
        if is_all and not any(one.is_too_long for one in failures):
            is_out = len(failures) >= _MANY and all(one.may_pass for one in failures)
            has_said_nothing = n_prompts > 1 and not self._kept.remarks
            is_limited = failures[0].cause == _LIMITED
            ends += failures if is_out or is_limited or has_said_nothing else ()
        if ends:
            raise RunError(
                f"no judgment could be had ({ends[0].reason}{_asked_wait(ends[0])})",
                where=self._where,
                fix="Mend it, then give the same command again: no judgment is lost.",
            )


class _EndedError(Exception):
    """Whoever waited for a batch waits no more."""


@dataclass
class _Call:
    """One batch, and those who ask."""

    judge: Answering
    limits: RequestLimits
    kept: KeptJudgments
    deadline: Deadline
    waiting: deque[tuple[str, Request]]
    done: SimpleQueue[tuple[str, Any]] = field(default_factory=SimpleQueue)
    is_over: Event = field(default_factory=lambda: Event())
    lock: Lock = field(default_factory=Lock)
    asking: set[str] = field(default_factory=set)  # what is on its way
    late: frozenset[str] = frozenset()  # what was when it was over
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

    def end(self) -> frozenset[str]:
        """Those who ask stop as soon as they can; what is on its way, which is kept if it comes."""
        with self.lock:
            if not self.is_over.is_set():
                self.late = frozenset(self.asking)
                self.is_over.set()
        self.done.put(("", _EndedError()))
        return self.late

    def work(self) -> None:
        """Asks one after the other, until there is no more to ask."""
        while (own := self._next()) is not None:
            key, request = own
            came: BaseException | None
            try:
                came = self._asked(key, request)
            except BaseException as error:  # raised again in the thread that waits
                came = error
            with self.lock:
                self.asking.remove(key)
            if key in self.late:
                self.kept.give_back([key])
            self.done.put((key, came))

    def _next(self) -> tuple[str, Request] | None:
        """What is asked next; None where nothing is."""
        with self.lock:
            if self.is_over.is_set() or not self.waiting:
                return None
            own = self.waiting.popleft()
            self.asking.add(own[0])
            return own

    def _asked(self, key: str, one: Request) -> NoAnswerError | None:
        """Asks until there is an answer; why there is none."""
        failure = NoAnswerError("given up", cause="given up")
        messages = [{"role": turn.role, "content": turn.content} for turn in one.messages]
        wait = 0.0
        for attempt in range(self.limits.attempts):
            if self._is_over_after(wait):
                break
            try:
                # As long as any other, for it is kept even if its trial is over before.
                seconds, request = self.limits.seconds, self.kept.request_key(key)
                answer = self.judge.complete(messages, seconds, request)
            except NoAnswerError as error:
                failure, wait = error, self._wait(error, attempt)
                if _is_answered(error):  # a server may keep what it said, too
                    self.kept.failed(key)
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


def _asked_wait(failure: NoAnswerError) -> str:
    """What is said of a server that asks for more patience than there is."""
    if failure.wait is None or failure.wait <= MOST_PATIENCE:
        return ""
    return f"; it asks to wait {failure.wait:g} seconds, and {MOST_PATIENCE:g} are waited for"


def _is_answered(failure: NoAnswerError) -> bool:
    """Whether it is the server's own word on a request, so that no other one comes of it."""
    return failure.cause == NO_MODEL or failure.status not in _OPEN


def _remark(answer: ChatAnswer) -> Remark:
    return Remark(answer.text, answer.cause, answer.prompt_tokens, answer.completion_tokens)
