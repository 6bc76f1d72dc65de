"""A chat model behind an OpenAI-compatible endpoint; its key is read, used and forgotten.

Source: the Chat Completions API. A request is sent once: to ask again is the caller's business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evomerge.endpoint.exchange import NoAnswerError, Reply, exchange, shortened

Message = dict[str, str]
NO_MODEL = "no model there"  # cause: somebody answers, not as a model does
_NO_KEY = "none-needed"  # what a local server is given
_PROBLEMS = {  # how an answer ends -> what is wrong with it, to the model and in a word or two
    "refusal": ("you refused", "refusal"),
    "length": ("it was cut off: it is too long", "cut off"),
    "content_filter": ("it was filtered out", "filtered out"),
}
_CAUSES = {401: "key refused", 403: "key refused", 408: "time-out", 429: "rate limit"}
_WAIT = (408, 409, 425, 429)  # statuses that pass, like all from 500
_TOO_LONG = (400, 413, 422)  # statuses of a prompt that is too long


@dataclass(frozen=True)
class ChatAnswer:
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


class ChatModel(Protocol):
    """Answers messages."""

    def complete(
        self, messages: Sequence[Message], seconds: float, idempotency_key: str = ""
    ) -> ChatAnswer:
        """The answer to messages, within so many seconds.

        Args:
            messages: What was said so far.
            seconds: That it may take.
            idempotency_key: See :func:`~evomerge.endpoint.exchange.exchange`.

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

    def complete(
        self, messages: Sequence[Message], seconds: float, idempotency_key: str = ""
    ) -> ChatAnswer:
        """See :class:`ChatModel`."""
        asked = {"model": self._model, "messages": list(messages), "stream": False, **self._body}
        return _answer(self._reply("chat/completions", seconds, asked, idempotency_key))

    def probe(self, seconds: float) -> tuple[str, ...]:
        """See :class:`ChatModel`; it asks for the list of models."""
        reply = self._reply("models", seconds)
        if reply.is_page:
            raise NoAnswerError(f"what came is no list of models{_kind_of(reply)}", cause=NO_MODEL)
        return _listed(reply)

    def _reply(
        self,
        path: str,
        seconds: float,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str = "",
    ) -> Reply:
        """A reply that is no complaint."""
        flaw = flaw_of_key(self._api_key_env)
        if flaw:
            raise NoAnswerError(flaw, may_pass=False, cause="unusable key")
        url, key = f"{self._base_url}/{path}", key_in(self._api_key_env) or _NO_KEY
        reply = exchange(
            url,
            key,
            seconds,
            body=body,
            is_direct=self._is_local,
            idempotency_key=idempotency_key,
        )
        if not 200 <= reply.status < 300:
            raise _complaint(reply)
        return reply


def key_in(variable: str) -> str:
    """The key that an environment variable holds; empty where it holds none."""
    return os.environ.get(variable, "").strip()


def flaw_of_key(variable: str) -> str:
    """Why the key in an environment variable cannot be sent, without the key; empty if it can."""
    odd = re.search(r"[^\x21-\x7e]", key_in(variable))
    if odd is None:
        return ""
    return (
        f"the key in {variable} holds {odd.group()!a} at position {odd.start() + 1}, expected "
        "letters, digits and signs of ASCII without a space or line break"
    )


def _answer(reply: Reply) -> ChatAnswer:
    """What a chat completion says."""
    try:
        choice = reply.data["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        ending = choice.get("finish_reason")
        usage = reply.data.get("usage")
        counts = usage if isinstance(usage, Mapping) else {}  # the text is there all the same
        tokens = [_count(counts.get(f"{kind}_tokens")) for kind in ("prompt", "completion")]
    except (LookupError, TypeError, AttributeError):
        raise NoAnswerError(
            f"what came is no chat completion{_kind_of(reply)}", cause=NO_MODEL
        ) from None
    said = _joined(text)
    why, cause = _PROBLEMS["refusal"] if refusal else _PROBLEMS.get(str(ending), ("", ""))
    return ChatAnswer(said, why, tokens[0], tokens[1], cause)


def _joined(content: Any) -> str:
    """What a message says: a text, or a list of parts, of which those are heard that are text."""
    parts = content if isinstance(content, list) else [content]
    texts = [one.get("text") if isinstance(one, Mapping) else one for one in parts]
    return "".join(one for one in texts if isinstance(one, str))


def _kind_of(reply: Reply) -> str:
    return f" but a web page (HTTP status {reply.status}, text/html)" if reply.is_page else ""


def _listed(reply: Reply) -> tuple[str, ...]:
    """The names in a list of models; empty where the body is none."""
    try:
        names = [model["id"] for model in reply.data["data"]]
    except (LookupError, TypeError):
        return ()
    return tuple(name for name in names if isinstance(name, str))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else 0


def _complaint(reply: Reply) -> NoAnswerError:
    """What a status other than success means."""
    status = reply.status
    is_too_long = status in _TOO_LONG and ("context" in reply.text or "too long" in reply.text)
    return NoAnswerError(
        f"HTTP status {status}: {shortened(_said(reply))}",
        may_pass=status in _WAIT or status >= 500,
        wait=reply.wait,
        is_too_long=is_too_long,
        status=status,
        cause="prompt too long" if is_too_long else _CAUSES.get(status, f"HTTP status {status}"),
    )


def _said(reply: Reply) -> str:
    """The message of an error's body, the whole body where it has none."""
    error = reply.data.get("error") if isinstance(reply.data, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else reply.text
