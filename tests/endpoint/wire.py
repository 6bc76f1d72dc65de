"""A server of bare sockets on loopback, so that it can misbehave below HTTP."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.scripted_llm import completion, recombined

_BIG = 1 << 16
_FOR_EVER = 15.0  # seconds: longer than any limit of a test, so that a limit that fails is seen


class Wire:
    """One request that a server has read, and the connection it came by.

    Args:
        connection: To whoever asked.
        head: Request line and headers.
        body: What came with them.
        over: Set when nobody listens any more.
        n_before: Requests that came before it.
    """

    def __init__(
        self,
        connection: socket.socket,
        head: bytes,
        body: bytes,
        over: threading.Event,
        n_before: int,
    ) -> None:
        self.connection = connection
        self.path = head.split(b" ")[1].decode()
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        self.fields = {name.lower(): value for name, value in fields.items()}
        self.key = self.fields[b"authorization"].removeprefix(b"Bearer ").decode()
        self.body = json.loads(body) if body else None
        self.n_before = n_before
        self._over = over
        self._began = time.monotonic()

    # What is said

    def say(self, *pieces: bytes | str) -> None:
        for piece in pieces:
            self.connection.sendall(piece.encode() if isinstance(piece, str) else piece)

    def drip(self, *pieces: bytes | str) -> None:
        """Says pieces in turn, for ever, with pauses that a time limit for a read outlasts."""
        while self._goes_on():
            for piece in pieces:
                self._over.wait(0.02)
                self.say(piece)

    def flood(self, piece: bytes) -> None:
        """Says a piece for ever, as fast as it is taken."""
        many = piece * max(1, _BIG // len(piece))
        while self._goes_on():
            self.say(many)

    def be_silent(self) -> None:
        self._over.wait(_FOR_EVER)

    def _goes_on(self) -> bool:
        return not self._over.is_set() and time.monotonic() < self._began + _FOR_EVER

    def reset(self) -> None:
        """Ends the connection without a farewell."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    # Bodies

    def told(self, text: Any, **fields: Any) -> bytes:
        """A body that is right but for a text: a list of models, or a completion."""
        if self.body is None:
            return json.dumps({"data": [{"id": text, "object": "model"}], **fields}).encode()
        return json.dumps({**completion(text), **fields}).encode()

    def proposed(self, thought: Any) -> bytes:
        """A proposal that can be used, with a thought of its own; in a list of models its name."""
        if self.body is None:
            return self.told(thought)
        proposal = json.loads(recombined(self.body["messages"][1]["content"]))
        return self.told(json.dumps({**proposal, "thought": thought}))


Part = Callable[[Wire], None]


def answer(body: bytes | str, status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer."""
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(raw)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + raw


@contextmanager
def misbehaving(part: Part) -> Iterator[str]:
    """A server that plays a part for every request; its base URL."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    lock, counts = threading.Lock(), iter(range(10**9))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)

        def play(connection: socket.socket) -> None:
            with connection, suppress(OSError):  # whoever asked has left, as it should
                connection.settimeout(30)
                head, body = _request(connection)
                with lock:
                    n_before = next(counts)
                part(Wire(connection, head, body, over, n_before))

        def serve() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    connection, _ = server.accept()
                    threads.append(threading.Thread(target=play, args=(connection,)))
                    threads[-1].start()

        listener = threading.Thread(target=serve)
        listener.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        finally:
            over.set()
            listener.join()
            for thread in threads:
                thread.join()


def _request(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of a request."""
    found = b""
    while b"\r\n\r\n" not in found:
        piece = connection.recv(_BIG)
        if not piece:
            raise ConnectionError
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if b"content-length" in line
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(_BIG)
    return head, body
