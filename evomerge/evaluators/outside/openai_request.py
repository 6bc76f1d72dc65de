"""Requests of OpenAI's API, read: what is wished of the model, or why it is refused.

What is asked for and not offered is refused, never left out: streams, tools, other samplers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.evaluators.asking.asked import Message, Prompt, Tokens
from evomerge.evaluators.task_files import is_whole

Body = Mapping[str, Any]

_READ = frozenset(
    [
        *("model", "messages", "prompt", "max_tokens", "max_completion_tokens", "temperature"),
        *("stop", "n", "seed", "logprobs", "top_logprobs", "echo", "user", "metadata", "store"),
    ]
)
# Of what is not offered, what changes nothing.
_NEUTRAL: Mapping[str, Sequence[Any]] = {
    "stream": (False,),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "parallel_tool_calls": (True, False),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
}
_NOTHING: Sequence[Any] = (None, [], {}, "")
_DEFAULT_TOKENS = {"chat": 512, "completion": 16}
_MOST_TOP = 20
_MOST_TEXTS = 128  # of a request
_MOST_TEMPERATURE = 1e6  # at which all tokens are alike; JSON has Infinity


class RefusedError(Exception):
    """A request that cannot be answered; the text says why."""


@dataclass(frozen=True)
class Wish:
    """How texts are to be written.

    Attributes:
        max_tokens: At most; None: the usual, or what there is room for.
        usual: Tokens, where nothing is said.
        stops: Texts that end them.
        temperature: 0 for the likeliest tokens.
        draws: One for each text of a prompt.
        top: Likeliest tokens that are told at each place; None: no log-probabilities.
        is_echo: Whether the prompt is repeated.
        is_plain: Whether it is read as it stands.
    """

    max_tokens: int | None
    usual: int
    stops: tuple[str, ...]
    temperature: float
    draws: tuple[int, ...]
    top: int | None
    is_echo: bool
    is_plain: bool


def wish_of(body: Body, kind: str) -> Wish:
    """How texts are to be written.

    Args:
        body: Of the request.
        kind: ``chat`` or ``completion``.

    Raises:
        RefusedError: that is not offered.
    """
    for key, value in body.items():
        if key == "stream" and value:
            raise RefusedError("stream: texts come whole here; leave it out")
        if key not in _READ and value not in (*_NOTHING, *_NEUTRAL.get(key, ())):
            raise RefusedError(f"{key} is {value!r}, which is not offered here; leave it out")
    n = _number(body, "n", 1, 1, _MOST_TEXTS)
    seed = _number(body, "seed", 0, -(2**63), 2**63)
    is_chat = kind == "chat"
    newer = "max_completion_tokens"
    limit = "max_tokens" if body.get(newer) is None else newer
    most = _number(body, limit, -1, 1 if is_chat else 0, 1 << 20)
    return Wish(
        None if most < 0 else most,
        _DEFAULT_TOKENS[kind],
        _stops(body),
        _temperature(body),
        tuple(seed * _MOST_TEXTS + index for index in range(n)),
        _top(body, is_chat),
        bool(body.get("echo")),
        not is_chat,
    )


def _stops(body: Body) -> tuple[str, ...]:
    given = body.get("stop")
    several = [] if given in _NOTHING else given if isinstance(given, list) else [given]
    if not all(isinstance(one, str) and one for one in several):
        raise RefusedError(f"stop is {given!r}, expected a text or a list of texts")
    return tuple(several)


def _temperature(body: Body) -> float:
    given = body.get("temperature")
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if given is not None and not (is_number and 0 <= given <= _MOST_TEMPERATURE):
        raise RefusedError(f"temperature is {given!r}, expected a number from 0")
    return float(given or 0.0)


def _top(body: Body, is_chat: bool) -> int | None:
    wanted = body.get("logprobs")
    if is_chat:
        return _number(body, "top_logprobs", 0, 0, _MOST_TOP) if wanted else None
    if wanted is None or wanted is False:
        return None
    return _number(body, "logprobs", 0, 0, _MOST_TOP)


def _number(body: Body, key: str, default: int, low: int, high: int) -> int:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RefusedError(f"{key} is {value!r}, expected a whole number from {low} to {high}")
    return value


def messages_of(given: Any) -> tuple[Message, ...]:
    """A chat; raises RefusedError."""
    if not isinstance(given, list) or not given:
        raise RefusedError("messages is no list of messages")
    return tuple(_message(one) for one in given)


def _message(given: Any) -> Message:
    role = given.get("role") if isinstance(given, Mapping) else None
    if role not in ("system", "developer", "user", "assistant"):
        raise RefusedError(f"a message has the role {role!r}, expected system, user or assistant")
    content = given.get("content")
    if isinstance(content, list):
        parts = [one.get("text") if isinstance(one, Mapping) else None for one in content]
        content = "".join(map(str, parts)) if None not in parts else None
    if not isinstance(content, str):
        raise RefusedError(
            "a message has no text for its content; images and tools are not offered"
        )
    return Message("system" if role == "developer" else role, _whole(content))


def prompts_of(given: Any) -> list[Prompt]:
    """One prompt or several, texts or tokens; raises RefusedError."""
    several = given if isinstance(given, list) and given and not _is_tokens(given) else [given]
    if not all(isinstance(one, str) or _is_tokens(one) for one in several):
        raise RefusedError("prompt is no text, no list of texts, and no tokens")
    return [_whole(one) if isinstance(one, str) else Tokens(tuple(one)) for one in several]


def _whole(text: str) -> str:
    if not is_whole(text):
        raise RefusedError("a text holds half of a character (a lone surrogate)")
    return text


def _is_tokens(given: Any) -> bool:
    if not isinstance(given, list) or not given:
        return False
    return all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in given)
