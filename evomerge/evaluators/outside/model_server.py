"""A server of the model that is judged, for one program and one trial: OpenAI's API on loopback."""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from evomerge.evaluators.asking.asked import AskModel
from evomerge.evaluators.outside.openai_form import MODEL, Ask, chat, completion
from evomerge.evaluators.outside.openai_request import RefusedError

HOST = "127.0.0.1"
_MOST_BYTES = 1 << 26  # of a request
_SECONDS = 60.0  # that a request may take to arrive
_WAYS: Mapping[str, Callable[[Mapping[str, Any], Ask], dict[str, Any]]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completion,
}


@dataclass(frozen=True, eq=False)
class Inquiry:
    """Requests that a client waits for.

    Attributes:
        asked: To the model, at least one.
        answers: Set by whoever has them.
    """

    asked: tuple[AskModel, ...]
    answers: Future[Sequence[Any]] = field(default_factory=Future)


class ModelServer:
    """Listens from now on; every request is a thread that waits until the model has answered.

    Args:
        hear: Gets each question, in the thread that waits.

    Attributes:
        token: Without which nobody is answered; in no file and no log.
        url: Where it is.
    """

    def __init__(self, hear: Callable[[Inquiry], None]) -> None:
        self.token = secrets.token_urlsafe(32)
        self._server = _Server((HOST, 0), _Handler)
        self._server.token, self._server.ask = self.token, self._ask
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._hear = hear
        self._open: set[Inquiry] = set()
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listens no more; those who wait are told that the model is gone."""
        self._is_closed = True
        self._server.shutdown()
        self._server.server_close()
        for question in list(self._open):
            question.answers.cancel()
        self._server.hear_no_more()
        self._thread.join()

    def _ask(self, asked: Sequence[AskModel]) -> Sequence[Any]:
        if not asked:
            return ()
        question = Inquiry(tuple(asked))
        self._open.add(question)
        try:
            if self._is_closed:
                question.answers.cancel()
            else:
                self._hear(question)
            return question.answers.result()
        finally:
            self._open.discard(question)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    token: str
    ask: Ask
    is_over: bool = False

    def __init__(self, *given: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*given)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remembers who is connected: clients keep connections open, and ask again on them."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """See :meth:`process_request`."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def hear_no_more(self) -> None:
        """Whoever is connected may still be answered, and asks no more."""
        self.is_over = True  # what arrives before its thread wakes would be read all the same
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nobody's mistake."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = _SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # theirs
        """Nothing of a request is written anywhere."""

    def do_GET(self) -> None:  # http.server's name
        if self._is_allowed():
            one = {"id": MODEL, "object": "model", "created": 0, "owned_by": "evomerge"}
            if self.path.rstrip("/") == "/v1/models":
                self._send(200, {"object": "list", "data": [one]})
            else:
                self._refuse(404, f"nothing is at {self.path}")

    def do_POST(self) -> None:  # http.server's name
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            self.close_connection = True
            self._refuse(413, f"Content-Length is {length!r}, expected up to {_MOST_BYTES}")
            return
        body = self.rfile.read(int(length))
        if self._is_allowed():
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        way = _WAYS.get(self.path.rstrip("/"))
        if way is None:
            self._refuse(404, f"nothing is at {self.path}; there are {', '.join(_WAYS)}")
            return
        try:
            given = json.loads(body)
            if not isinstance(given, dict):
                raise RefusedError("the request is no JSON object")
            found = way(given, self.server.ask)
        except (ValueError, RecursionError, RefusedError) as error:
            self._refuse(400, str(error))
        except BaseException:  # the trial is over: cancelled, or failed
            self._refuse(503, "the model is gone")
        else:
            self._send(200, found)

    def _is_allowed(self) -> bool:
        if self.server.is_over:
            raise ConnectionAbortedError
        given = self.headers.get("Authorization", "").encode()
        if hmac.compare_digest(given, f"Bearer {self.server.token}".encode()):
            return True
        self._refuse(401, "the key is not that of this server (OPENAI_API_KEY)")
        return False

    def _refuse(self, status: int, why: str) -> None:
        kinds = {401: "authentication_error", 503: "server_error"}
        kind = kinds.get(status, "invalid_request_error")
        self._send(status, {"error": {"message": why, "type": kind, "param": None, "code": None}})

    def _send(self, status: int, content: Mapping[str, Any]) -> None:
        data = json.dumps(content).encode()
        with suppress(OSError):  # the client is gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
