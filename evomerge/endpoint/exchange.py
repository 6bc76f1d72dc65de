"""One request to an endpoint and what came back: all text of a server passes here, cleaned.

A body is decoded first, then cleaned of the key, then read; no status, header, failure or message
of a library leaves by another way. Redirects are not followed: neither prompts nor the key go where
nobody said.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from evomerge.endpoint.address import in_ascii, proxy_for
from evomerge.endpoint.allowance import Allowance, TooLongError
from evomerge.foundations.secret import WITHHELD, Secret
from evomerge.foundations.text_safety import one_line

_MAX_BYTES = 4 << 20  # of one answer, headers and all
_LONGEST_REASON = 300  # characters of what is told of a failure
_TALKATIVE = [  # loggers that tell headers, which may hold the key
    f"{package}.{part}"
    for package in ("httpcore", "httpcore2")
    for part in ("connection", "http11", "proxy", "socks")
]


@dataclass(frozen=True)
class Reply:
    """What came back, without the key.

    Attributes:
        status: Of HTTP.
        text: The body; JSON with its escapes read.
        data: What JSON says, None where the body is none.
        wait: Seconds that the server asks to wait, None where it names none.
        is_page: Whether it is a web page.
    """

    status: int
    text: str
    data: Any
    wait: float | None = None
    is_page: bool = False


class NoAnswerError(Exception):
    """A request came to nothing.

    Args:
        reason: Why, without any secret.
        may_pass: Whether the same request may succeed a little later.
        wait: Seconds that the server asks for, None where it names none.
        is_too_long: Whether a shorter prompt may succeed.
        status: Of HTTP, None where nobody answered.
        cause: The reason in a word or two.
    """

    def __init__(
        self,
        reason: str,
        *,
        may_pass: bool = True,
        wait: float | None = None,
        is_too_long: bool = False,
        status: int | None = None,
        cause: str = "wrong answer",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_pass = may_pass
        self.wait = wait
        self.is_too_long = is_too_long
        self.status = status
        self.cause = cause


def exchange(
    url: str,
    key: str,
    seconds: float,
    *,
    body: Mapping[str, Any] | None = None,
    is_direct: bool = False,
    idempotency_key: str = "",
) -> Reply:
    """Sends a request and reads the answer to its end, of whatever status.

    Args:
        url: Of http or https.
        key: Sent as a bearer token.
        seconds: All of it may take together, from the look-up of the name to the last byte.
        body: Sent as JSON by POST; GET without it.
        is_direct: Whether the proxies of the environment are left out.
        idempotency_key: The same where the same is asked again, of whose answer nothing is known;
            empty for none.

    Raises:
        NoAnswerError: nobody answers, not in time, with too much or with the key in disguise.
    """
    secret = Secret(key)
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # nothing unpacks to more than was counted
        "Authorization": f"Bearer {key}",
        "Connection": "close",
        "User-Agent": "evomerge",
        **({"Idempotency-Key": idempotency_key} if idempotency_key else {}),
    }
    try:
        with _hushed():
            allowance = Allowance(seconds, _MAX_BYTES)
            status, came, raw = _sent(url, headers, allowance, body, is_direct)
        reply = _reply(status, came, raw, secret)
    except Exception as error:  # whatever network and packages do, whoever asks goes on
        failure = _failure(error, secret, seconds)
    else:
        if reply.text != WITHHELD or status >= 300:
            return reply
        failure = NoAnswerError("the answer holds the key in disguise", cause="key echoed")
    raise failure  # out here it has no context: that may quote the key


def _sent(
    url: str,
    headers: dict[str, str],
    allowance: Allowance,
    body: Mapping[str, Any] | None,
    is_direct: bool,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers by name in lower case, and the whole body."""
    from evomerge.endpoint.network import connections

    found = bytearray()
    proxy = None if is_direct else proxy_for(url)
    content = None
    if body is not None:
        headers = {**headers, "Content-Type": "application/json"}
        content = json.dumps(body).encode()
    with (
        connections(allowance, proxy) as pool,
        pool.stream(
            "GET" if content is None else "POST",
            in_ascii(url),
            headers=list(headers.items()),
            content=content,
        ) as response,
    ):
        for piece in response.iter_stream():
            found += piece
        return response.status, {k.lower(): v for k, v in response.headers}, bytes(found)


def _reply(status: int, headers: Mapping[bytes, bytes], raw: bytes, secret: Secret) -> Reply:
    """What came, decoded and then cleaned."""
    packing = headers.get(b"content-encoding", b"identity").strip().lower()
    is_packed = packing not in (b"identity", b"")
    if is_packed and status < 300:
        raise NoAnswerError("the answer is compressed, though plain text was asked for")
    text = "" if is_packed else secret.clean(_read(raw))
    wait = _wait(secret.clean(_header(headers, b"retry-after")))
    is_page = "text/html" in _header(headers, b"content-type").lower()
    return Reply(status, text, _data(text), wait, is_page)


def _read(raw: bytes) -> str:
    """A body as text; one of JSON without escapes, whatever its encoding."""
    data = _data(raw)
    if data is None:
        return raw.decode("utf-8", "replace")
    return json.dumps(data, ensure_ascii=False)


def _data(text: str | bytes) -> Any:
    """What JSON says; None where it is none, or too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _header(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _wait(text: str) -> float | None:
    """Seconds, or until a date, as Retry-After has it; None for neither."""
    try:
        seconds = float(text)
    except ValueError:
        return _until(text)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
        return max((moment - datetime.now(moment.tzinfo)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _failure(error: Exception, secret: Secret, seconds: float) -> NoAnswerError:
    """What an exception means, in words without the key."""
    if isinstance(error, NoAnswerError):
        return error
    if isinstance(error, TooLongError):
        return NoAnswerError(f"the answer is longer than {_MAX_BYTES >> 20} MiB")
    if isinstance(error, TimeoutError):
        return NoAnswerError(f"no answer within {seconds:.3g} seconds", cause="time-out")
    said = shortened(secret.clean(str(error)))
    return NoAnswerError(f"no answer ({type(error).__name__}: {said})", cause="no connection")


def shortened(text: str) -> str:
    """What a server says, as a reason quotes it: the beginning, on one line."""
    return one_line(text)[:_LONGEST_REASON]


# Logs

_is_exchanging: ContextVar[bool] = ContextVar("is_exchanging", default=False)


class _Hush(logging.Filter):
    """Keeps out of every log what packages below would tell of an exchange."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_exchanging.get()


_HUSH = _Hush()


@contextmanager
def _hushed() -> Iterator[None]:
    """Lets no log tell of an exchange; other threads go on telling of theirs."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_HUSH)  # once: the same filter is not added again
    before = _is_exchanging.set(True)
    try:
        yield
    finally:
        _is_exchanging.reset(before)
