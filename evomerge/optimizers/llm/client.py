"""A chat model behind an OpenAI-compatible endpoint; its key is read, used and forgotten.

Source: the Chat Completions API as in the ``openai`` package, which is told not to retry: that
is the dialogue's business. Bodies are read in pieces, so that neither a slow nor an endless one
holds up a run.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from evomerge.harmless import one_line

if TYPE_CHECKING:
    from openai import OpenAI

Message = dict[str, str]
_MAX_BYTES = 4 << 20  # of one answer
_LONGEST_ERROR = 4000  # characters of it that are looked at
_LONGEST_REASON = 300  # characters of what a server says of an error
_PIECE = 8  # characters of a key that must not be seen together
_NO_KEY = "none-needed"  # what a local server is given
_TALKATIVE = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")  # log what servers echo
_PROBLEMS = {  # how an answer ends -> what is wrong with it, to the model and in a word or two
    "refusal": ("you refused", "refusal"),
    "length": ("it was cut off: it is too long", "cut off"),
    "content_filter": ("it was filtered out", "filtered out"),
}
_CAUSES = {401: "key refused", 403: "key refused", 408: "time-out", 429: "rate limit"}
_WAIT = (408, 409, 425, 429)  # statuses that pass, like all from 500


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        text: Empty where it said nothing.
        problem: Why the text is not what it wanted to say, e.g. a refusal; empty if it is.
        prompt_tokens: As the server counts them, 0 where it does not.
        completion_tokens: The same of the reply.
        cause: Of the problem, in a word or two.
    """

    text: str
    problem: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cause: str = ""


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


class ChatModel(Protocol):
    """Answers messages."""

    def complete(self, messages: Sequence[Message], seconds: float) -> Answer:
        """The answer to messages, within about so many seconds.

        Raises:
            NoAnswerError: there is none.
        """

    def probe(self, seconds: float) -> tuple[str, ...]:
        """Asks for nothing but a sign of life, which costs nothing.

        Returns:
            The models it lists; empty where it lists none.

        Raises:
            NoAnswerError: nobody answers, or refuses the key.
        """


class Endpoint:
    """A model that is reached over HTTP.

    Args:
        base_url: Of the API.
        api_key_env: The environment variable that holds the key.
        model: Its name there.
        body: Further fields of each request.
        is_local: Whether it is near: then no key is due, and no proxy stands between.
    """

    def __init__(
        self,
        base_url: str,
        api_key_env: str,
        model: str,
        body: Mapping[str, Any],
        *,
        is_local: bool,
    ) -> None:
        self._base_url = base_url
        self._api_key_env = api_key_env
        self._model = model
        self._body = dict(body)
        self._is_local = is_local

    def complete(self, messages: Sequence[Message], seconds: float) -> Answer:
        """See :class:`ChatModel`."""
        end = time.monotonic() + seconds
        with self._connected(seconds) as client:
            completions: Any = client.chat.completions.with_streaming_response
            with completions.create(
                model=self._model, messages=list(messages), stream=False, extra_body=self._body
            ) as response:
                answer = _answer(_read(response.iter_bytes(), end))
        return replace(answer, text=redacted(answer.text, self._secret()))

    def probe(self, seconds: float) -> tuple[str, ...]:
        """See :class:`ChatModel`; it asks for the list of models."""
        end = time.monotonic() + seconds
        with (
            self._connected(seconds) as client,
            client.models.with_streaming_response.list() as response,
        ):
            return _listed(_read(response.iter_bytes(), end))

    def _secret(self) -> str:
        return os.environ.get(self._api_key_env, "").strip()

    @contextmanager
    def _connected(self, seconds: float) -> Iterator[OpenAI]:
        """A client for one request; whatever goes wrong with it is a ``NoAnswerError``."""
        secret = self._secret()
        try:
            import openai  # an extra

            http_client = openai.DefaultHttpxClient(
                timeout=seconds,
                trust_env=not self._is_local,
                follow_redirects=False,  # neither prompts nor the key go where nobody said
                verify=self._base_url.startswith("https:"),  # else reads certificates for nothing
            )
            client = openai.OpenAI(
                api_key=secret or _NO_KEY,
                base_url=self._base_url,
                timeout=seconds,
                max_retries=0,
                http_client=http_client,
            )
            with _quiet(), client:
                yield client
        except NoAnswerError as error:
            error.reason = redacted(error.reason, secret)
            raise
        except Exception as error:  # whatever network and packages do, the run goes on
            raise _no_answer(error, secret, seconds) from None  # the cause may quote the key


@contextmanager
def _quiet() -> Iterator[None]:
    """Lets no log tell the headers of a request or of an answer, which may hold the key."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in _TALKATIVE}
    for logger in levels:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _read(pieces: Iterator[bytes], end: float) -> bytes:
    """A body, as far as time and memory allow."""
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) > _MAX_BYTES:
            raise NoAnswerError(f"the answer is longer than {_MAX_BYTES >> 20} MiB")
        if time.monotonic() > end:
            raise NoAnswerError("the answer took too long", cause="time-out")
    return bytes(found)


def _answer(raw: bytes) -> Answer:
    """What stands in the body of a chat completion."""
    try:
        body = json.loads(raw)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        ending = choice.get("finish_reason")
        usage = body.get("usage") or {}
        tokens = [_count(usage.get(f"{kind}_tokens")) for kind in ("prompt", "completion")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise NoAnswerError("what came is no chat completion") from None
    said = text if isinstance(text, str) else ""
    why, cause = _PROBLEMS["refusal"] if refusal else _PROBLEMS.get(str(ending), ("", ""))
    return Answer(said, why, tokens[0], tokens[1], cause)


def _listed(raw: bytes) -> tuple[str, ...]:
    """The names in a list of models; empty where the body is none."""
    try:
        names = [model["id"] for model in json.loads(raw)["data"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ()
    return tuple(name for name in names if isinstance(name, str))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else 0


def _no_answer(error: Exception, secret: str, seconds: float) -> NoAnswerError:
    """What an exception of the client means, in words without the key."""
    response = getattr(error, "response", None)
    said = _shortened(redacted(str(error)[:_LONGEST_ERROR], secret))
    if response is None:
        names = " ".join(kind.__name__ for kind in type(error).__mro__)
        if "Timeout" in names:
            return NoAnswerError(f"no answer within {seconds:.3g} seconds", cause="time-out")
        cause = error.__cause__
        why = said if cause is None else _shortened(redacted(str(cause)[:_LONGEST_ERROR], secret))
        return NoAnswerError(f"no answer ({type(error).__name__}: {why})", cause="no connection")
    status = int(response.status_code)
    is_too_long = status in (400, 413, 422) and ("context" in said or "too long" in said)
    return NoAnswerError(
        f"HTTP status {status}: {said}",
        may_pass=status in _WAIT or status >= 500,
        wait=_wait(response.headers.get("retry-after", "")),
        is_too_long=is_too_long,
        status=status,
        cause="prompt too long" if is_too_long else _CAUSES.get(status, f"HTTP status {status}"),
    )


def _wait(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _shortened(text: str) -> str:
    return one_line(text)[:_LONGEST_REASON]


def redacted(text: str, secret: str) -> str:
    """The text without the secret, nor any eight characters of it in a row.

    A shorter secret is none: local servers are given words such as "EMPTY" for a key.
    """
    pieces = {secret[i : i + _PIECE] for i in range(len(secret) - _PIECE + 1)}
    is_secret = [False] * len(text)
    for i in range(len(text)) if pieces else ():
        if text[i : i + _PIECE] in pieces:
            is_secret[i : i + _PIECE] = [True] * _PIECE
    runs = groupby(zip(is_secret, text, strict=True), key=itemgetter(0))
    return "".join("[key]" if hidden else "".join(c for _, c in run) for hidden, run in runs)
