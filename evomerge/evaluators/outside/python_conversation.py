"""A function of the user's that judges: the process it lives in, and what is said to and fro."""

from __future__ import annotations

import json
import math
import os
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from evomerge.evaluators.asking.asked import (
    AskLikelihood,
    AskModel,
    AskPlaces,
    AskText,
    Likeliest,
    Message,
    Prompt,
)
from evomerge.evaluators.outside import python_host
from evomerge.evaluators.outside.conversation import (
    Answered,
    Conversation,
    Result,
    Wants,
    patience,
)
from evomerge.evaluators.outside.found_function import FoundFunction
from evomerge.evaluators.outside.guest import Guest
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, RunError, TrialTimeoutError

_MOST_BYTES = 1 << 28  # of a message
_SECONDS_TO_GO = 2.0  # between the end of its pipe and its own


class PythonProcess:
    """Where a function lives, from model to model; started when it is first called.

    Args:
        function: What is called.
        digest: Of its files when the run began.
    """

    def __init__(self, function: FoundFunction, digest: str) -> None:
        self._function, self._digest = function, digest
        self._guest: Guest | None = None
        self._line: Connection | None = None
        self._goodbye: weakref.finalize[..., PythonProcess] | None = None

    def say(self, what: Any) -> None:
        """Sends a message, to a process that waits for one.

        Raises:
            EvaluationError: it is gone.
        """
        if self._line is None:
            self._start()
        try:
            self._own_line.send_bytes(json.dumps(what).encode())
        except OSError as error:
            raise self._gone() from error

    def hear(self, deadline: Deadline) -> Any:
        """The next message.

        Raises:
            TrialTimeoutError: there is none in time; the process has been ended.
            EvaluationError: it is gone.
        """
        line = self._own_line
        try:
            while not line.poll(patience(deadline)):
                if deadline.left <= 0.0:
                    self.end()
                    raise deadline.missed() or TrialTimeoutError("took too long")
            return json.loads(line.recv_bytes(_MOST_BYTES))
        except (EOFError, OSError, ValueError) as error:
            raise self._gone() from error

    def end(self) -> None:
        """Ends it; a call after this starts another one."""
        self._guest = self._line = None
        if self._goodbye is not None:
            self._goodbye()

    @property
    def _own_line(self) -> Connection:
        if self._line is None:  # another thread has ended it
            raise EvaluationError(f"{self._function.name} was ended")
        return self._line

    def _start(self) -> None:
        """Starts it with the code that the run began with.

        Raises:
            RunError: there is other code now.
        """
        if self._function.digest != self._digest:
            raise RunError(
                f"{self._function.file.name} is not what it was when the run began",
                where=self._function.name,
                fix="Put it back, or begin another run.",
            )
        line, theirs = Pipe()
        with theirs:
            function = self._function
            place = (function.name, str(function.file), str(function.folder))
            command = (sys.executable, python_host.__file__, str(theirs.fileno()), *place)
            guest = Guest(command, os.environ, Path.cwd(), (theirs.fileno(),))
        # At the latest once nobody can call it any more.
        self._goodbye = weakref.finalize(self, _part, guest, line)
        self._guest, self._line = guest, line

    def _gone(self) -> EvaluationError:
        """Why there is no answer."""
        guest = self._guest
        status = None if guest is None else guest.wait(_SECONDS_TO_GO)
        self.end()
        how = "was ended" if guest is None or status is None else guest.how_it_ended(status)
        return EvaluationError(f"{self._function.name} {how}")


def _part(guest: Guest, line: Connection) -> None:
    guest.end()
    with suppress(OSError):
        line.close()


class PythonConversation(Conversation):
    """One call of a function.

    Args:
        task: Whose judge it is.
        process: Where it lives.
        name: Of the function, for messages.
        arguments: What it gets beside the model, JSON.
    """

    def __init__(
        self, task: str, process: PythonProcess, name: str, arguments: Sequence[Any]
    ) -> None:
        super().__init__(task)
        self._process, self._name, self._arguments = process, name, arguments
        self._is_on = False

    def turn(self, turn: Answered, deadline: Deadline) -> Wants | Result:
        """See :meth:`Conversation.turn`."""
        self._is_on = True
        if turn.answers is None:
            self._process.say(self._arguments)
        else:
            self._process.say([_told(one) for one in turn.answers])
        heard = self._process.hear(deadline)
        if "asks" in heard:
            return Wants(tuple(_asked(one) for one in heard["asks"]))
        self._is_on = False
        if "error" in heard:
            self._process.end()  # who knows in which state it is
            raise EvaluationError(f"{self._name} raised {heard['error']}")
        return Result(heard["result"])

    def end(self) -> None:
        """See :meth:`Conversation.end`; the process stays where the call is over."""
        if self._is_on:
            self._is_on = False
            self._process.end()

    def give_up(self) -> None:
        """See :meth:`Outsider.give_up`; a call that begins just now is one that is over."""
        self._is_on = False
        self._process.end()


def _asked(given: list[Any]) -> AskModel:
    """A request, as the handle writes it."""
    kind, prompt, *how = given
    if kind == "text":
        max_tokens, stops, temperature, draw = how
        return AskText(_prompt(prompt), max_tokens, tuple(stops), temperature, draw)
    if kind == "likelihood":
        return AskLikelihood(_prompt(prompt), how[0])
    return AskPlaces(_prompt(prompt), Likeliest(how[0]))


def _prompt(given: Any) -> Prompt:
    return given if isinstance(given, str) else tuple(Message(*one) for one in given)


def _told(answer: Any) -> Any:
    """An answer of the model, as the handle reads it."""
    if isinstance(answer, str):
        return str(answer)
    log_likelihood, *_ = answer
    if isinstance(log_likelihood, float):
        return log_likelihood
    return [(one.text, math.exp(one.log_probability)) for one in answer]
