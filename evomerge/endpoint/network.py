"""Sockets for httpcore that end with their allowance: names, connections, TLS, every byte.

httpcore's own time limits hold for one read or write, so whoever sends a byte now and then holds
them for ever, and it reads interim answers and headers without end.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

try:
    import httpcore2 as httpcore
except ImportError:  # Python 3.10, for which it has its former name
    import httpcore  # type: ignore[import-not-found, no-redef]  # only one is installed

from evomerge.endpoint.address import Proxy
from evomerge.endpoint.allowance import Allowance

T = TypeVar("T")
_PIECE = 64 << 10  # bytes read at once
# Family, kind and protocol of a socket, its host's full name, and where it leads.
_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


def connections(allowance: Allowance, proxy: Proxy | None) -> httpcore.ConnectionPool:
    """Where a request is sent from.

    Args:
        allowance: Of all that its requests take together.
        proxy: Through which they go, None for none.
    """
    return httpcore.ConnectionPool(
        proxy=None if proxy is None else httpcore.Proxy(proxy.url, proxy.auth),
        network_backend=_Network(allowance),
    )


class _Network(httpcore.NetworkBackend):
    """Connections of one exchange.

    Args:
        allowance: Of all of them together.
    """

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> _Stream:
        """A connection to the first address that takes it.

        Raises:
            OSError: none does, or not in time.
        """
        addresses = self._addresses(host, port)
        for n_left in range(len(addresses), 1, -1):
            try:
                return self._connected(addresses[-n_left], self._allowance.seconds() / n_left)
            except OSError:
                self._allowance.seconds()
        return self._connected(addresses[-1], self._allowance.seconds())

    def _connected(self, address: _Address, seconds: float) -> _Stream:
        family, kind, protocol, _, target = address
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(seconds)
            connection.connect(target)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            connection.close()
            raise
        return _Plain(connection, self._allowance)

    def _addresses(self, host: str, port: int) -> Sequence[_Address]:
        """What a name stands for; looked up in a thread, as nothing else can end a look-up."""
        answers: SimpleQueue[Sequence[_Address] | Exception] = SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except Exception as error:  # raised again in the thread that asked
                answers.put(error)

        Thread(target=look_up, daemon=True).start()
        try:
            answer = answers.get(timeout=self._allowance.seconds())
        except Empty:
            raise TimeoutError from None
        if isinstance(answer, Exception):
            raise answer
        return answer


class _Stream(httpcore.NetworkStream):
    """A connection, on which another can be laid that is encrypted."""

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> _Encrypted:
        try:
            return _Encrypted(self, ssl_context, server_hostname)
        except BaseException:
            self.close()
            raise


class _Plain(_Stream):
    """Bytes as they travel."""

    def __init__(self, connection: socket.socket, allowance: Allowance) -> None:
        self._connection = connection
        self._allowance = allowance

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._connection.settimeout(self._allowance.seconds())
        found = self._connection.recv(max_bytes)
        self._allowance.take(len(found))
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                self._connection.settimeout(self._allowance.seconds())
                rest = rest[self._connection.send(rest) :]
        except TimeoutError:
            raise
        except OSError as error:  # httpcore then reads what a server said before it hung up
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._connection.close()


class _Encrypted(_Stream):
    """TLS over a stream, which may itself be TLS, as to a proxy.

    Raises:
        OSError: the other side shows no certificate that holds, or not in time.
    """

    def __init__(self, below: _Stream, context: ssl.SSLContext, host: str | None) -> None:
        self._below = below
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._coming, self._going, server_hostname=host)
        self._through(self._tls.do_handshake)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._through(lambda: self._tls.read(max_bytes))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            rest = rest[self._through(lambda: self._tls.write(rest)) :]  # noqa: B023  # used at once

    def close(self) -> None:
        self._below.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else None

    def _through(self, step: Callable[[], T]) -> T:
        """A step of TLS, with what has to come and go for it."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._below.write(self._going.read())
                found = self._below.read(_PIECE)
                self._coming.write(found) if found else self._coming.write_eof()
            else:
                self._below.write(self._going.read())
                return done
