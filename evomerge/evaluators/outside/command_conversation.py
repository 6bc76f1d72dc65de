"""One run of a user's program: a server of the model beside it, until it has said its scores."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from evomerge.evaluators.asking.asked import AskFolder
from evomerge.evaluators.outside.conversation import (
    Answered,
    Conversation,
    Result,
    Wants,
    patience,
)
from evomerge.evaluators.outside.guest import Guest
from evomerge.evaluators.outside.model_server import HOST, Inquiry, ModelServer
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, TrialTimeoutError
from evomerge.foundations.scratch import scratch

_MOST_BYTES = 1 << 24  # of what a program prints
_SECONDS_TO_GATHER = 0.01  # in which clients that ask at a time are answered together
_LOOKS_EVERY = 0.25  # seconds
_HIDDEN = "***"


class CommandConversation(Conversation):
    """One run of a program.

    Args:
        task: Whose judge it is.
        command: Program and arguments.
        documents: Rows that it is to score; None: it has its own.
        wants_folder: Whether the model is written down for it.
        sets_openai: Whether OPENAI_BASE_URL and OPENAI_API_KEY lead to the model.
        check: Called before it is started.
    """

    def __init__(
        self,
        task: str,
        command: Sequence[str],
        documents: Sequence[Any] | None,
        *,
        wants_folder: bool,
        sets_openai: bool,
        check: Callable[[], None],
    ) -> None:
        super().__init__(task)
        self._command, self._documents = command, documents
        self._wants_folder, self._sets_openai = wants_folder, sets_openai
        self._check = check
        self._heard: Queue[Inquiry | None] = Queue()  # None: it has ended, or said too much
        self._waiting: list[Inquiry] = []
        self._held, self._lock = ExitStack(), threading.Lock()
        self._guest: Guest | None = None
        self._token = ""

    def turn(self, turn: Answered, deadline: Deadline) -> Wants | Result:
        """See :meth:`Conversation.turn`."""
        if turn.answers is None:
            self._check()
            folder = self._held.enter_context(scratch())
            self._folder = folder
            if self._wants_folder:
                model = folder / "model"
                model.mkdir()
                return Wants((AskFolder(str(model)),))
        if self._guest is None:
            self._start(self._folder)
        else:
            self._answer(turn.answers or ())
        return self._next(deadline)

    def end(self) -> None:
        """See :meth:`Conversation.end`."""
        with self._lock:
            self._held.close()

    def _start(self, folder: Path) -> None:
        server = ModelServer(self._heard.put)
        self._held.callback(server.close)
        self._token = server.token
        environment = {**os.environ, **self._told(server, folder)}
        environment.pop("PYTHONSAFEPATH", None)  # a script finds what lies beside it
        guest = Guest(self._command, environment, Path.cwd(), most_bytes=_MOST_BYTES)
        self._held.callback(guest.end)
        self._guest = guest
        threading.Thread(target=self._watch, args=(guest,), daemon=True).start()

    def _told(self, server: ModelServer, folder: Path) -> dict[str, str]:
        """What the program is told in its environment, and nowhere else."""
        told = {"EVOMERGE_URL": server.url, "EVOMERGE_API_KEY": server.token}
        if self._sets_openai:
            told |= {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": server.token}
        for name in ("NO_PROXY", "no_proxy"):
            told[name] = ",".join(filter(None, (os.environ.get(name), HOST)))
        if self._wants_folder:
            told["EVOMERGE_MODEL"] = str(folder / "model")
        if self._documents is not None:
            file = folder / "documents.jsonl"
            file.write_text("".join(f"{json.dumps(row)}\n" for row in self._documents))
            told["EVOMERGE_DOCUMENTS"] = str(file)
        return told

    def _watch(self, guest: Guest) -> None:
        """Tells when there is nothing more to come."""
        while guest.wait(_LOOKS_EVERY) is None and not guest.output.is_too_much:
            pass
        self._heard.put(None)

    def _next(self, deadline: Deadline) -> Wants | Result:
        """What is asked by the clients at this time, or what the program has printed."""
        while True:
            try:
                heard = self._heard.get(
                    timeout=_SECONDS_TO_GATHER if self._waiting else patience(deadline)
                )
            except Empty:
                if self._waiting:
                    return Wants(tuple(one for each in self._waiting for one in each.asked))
                if deadline.left <= 0.0:
                    self.end()
                    raise deadline.missed() or TrialTimeoutError("took too long") from None
                continue
            if heard is None:
                return Result(self._said())
            self._waiting.append(heard)

    def _answer(self, answers: Sequence[Any]) -> None:
        start, waiting, self._waiting = 0, self._waiting, []
        for question in waiting:
            stop = start + len(question.asked)
            if question.answers.set_running_or_notify_cancel():
                question.answers.set_result(answers[start:stop])
            start = stop

    def _said(self) -> Any:
        """What the program printed, as JSON.

        Raises:
            EvaluationError: it did not end well, or printed something else.
        """
        guest = self._guest
        status = None if guest is None else guest.wait(0.0)
        self.end()
        name = Path(self._command[0]).name
        if guest is None or (status is None and not guest.output.is_too_much):
            raise EvaluationError(f"{name} was ended")
        if guest.output.is_too_much:
            raise EvaluationError(
                f"{name} printed more than {_MOST_BYTES >> 20} MiB, expected scores"
            )
        if status:
            raise EvaluationError(self._plain(f"{name} {guest.how_it_ended(status)}"))
        printed = self._plain(guest.output.kept.decode("utf-8-sig", "replace").strip())
        for text in (printed, printed.rpartition("\n")[2]):
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                continue
        told = repr(printed[-80:]) if printed else "nothing"
        raise EvaluationError(f"{name} printed {told}, expected JSON, in the last line at least")

    def _plain(self, text: str) -> str:
        """Without the key of the server."""
        return text.replace(self._token, _HIDDEN) if self._token else text
