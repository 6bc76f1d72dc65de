"""What OpenAI's API means by a request, put to the model, and its answer in that form.

What is asked for and not offered is refused, never left out: streams, tools, other samplers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from evomerge.evaluators.asking.asked import (
    AskModel,
    AskPlaces,
    AskText,
    AskTokens,
    LikelyToken,
    Message,
    Places,
    Prompt,
    Tokens,
)
from evomerge.inference.base import CutText, Written

MODEL = "candidate"  # as it is called
Ask = Callable[[Sequence[AskModel]], Sequence[Any]]
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


class RefusedError(Exception):
    """A request that cannot be answered; the text says why."""


@dataclass(frozen=True)
class _Wish:
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


@dataclass(frozen=True)
class _Along:
    """What was read along a text.

    Attributes:
        first: Its first token.
        prompt: The text of its prompt.
        tokens: At each place what stands there, and the likeliest tokens.
    """

    first: LikelyToken
    prompt: str
    tokens: Sequence[tuple[LikelyToken, tuple[LikelyToken, ...]]]


@dataclass(frozen=True)
class _Chosen:
    """Reads at each place the token that stands there, and the likeliest ones.

    Attributes:
        n_prompt: Tokens of the prompt.
        top: How many likeliest ones.
        last: What stands at the last place, if anything does.
    """

    n_prompt: int
    top: int
    last: tuple[int, ...]

    def __call__(self, places: Places) -> _Along:
        """As it is told."""
        read, found = _texts_of(places), []
        stands = (*places.tokens[places.first :], *self.last)
        for token, row in zip(stands, places.log_probabilities, strict=False):
            values, rivals = row.topk(min(self.top, len(row)))
            pairs = zip(rivals.tolist(), values.tolist(), strict=True)
            own = LikelyToken(token, read(token), float(row[token]))
            found.append((own, tuple(LikelyToken(t, read(t), value) for t, value in pairs)))
        first = LikelyToken(places.tokens[0], read(places.tokens[0]), 0.0)
        prompt = str(places.tokenizer.decode(list(places.tokens[: self.n_prompt])))
        return _Along(first, prompt, found)


def _texts_of(places: Places) -> Callable[[int], str]:
    def read(token: int) -> str:
        return str(places.tokenizer.decode([token]))

    return read


@dataclass(frozen=True)
class _Written:
    """What came of a prompt: how many tokens it has, its texts, what was read along each."""

    n_read: int
    texts: Sequence[Written]
    along: Sequence[_Along]


def chat(body: Body, ask: Ask) -> dict[str, Any]:
    """``/v1/chat/completions``.

    Raises:
        RefusedError: it is not offered, or of another form.
    """
    wish = _wish(body, "chat")
    if wish.is_echo:
        raise RefusedError("echo is for completions")
    (own,) = _written([_messages(body.get("messages"))], wish, ask)
    choices = []
    for index, one in enumerate(own.texts):
        choice = _choice(index, one)
        choice["message"] = {"role": "assistant", "content": str(one)}
        if wish.top is not None:
            choice["logprobs"] = {"content": [_chat_token(*t) for t in own.along[index].tokens]}
        choices.append(choice)
    return _whole("chat.completion", choices, [own])


def completion(body: Body, ask: Ask) -> dict[str, Any]:
    """``/v1/completions``; prompts are read as they stand, or come as tokens.

    Raises:
        RefusedError: it is not offered, or of another form.
    """
    wish, prompts = _wish(body, "completion"), _prompts(body.get("prompt"))
    found, choices = _written(prompts, wish, ask), list[dict[str, Any]]()
    for prompt, own in zip(prompts, found, strict=True):
        for index, one in enumerate(own.texts):
            choice = _choice(len(choices), one)
            choice["text"] = str(one)
            if wish.is_echo:
                before = prompt if isinstance(prompt, str) else own.along[index].prompt
                choice["text"] = before + str(one)
            if wish.top is not None:
                choice["logprobs"] = _listed(own.along[index], is_echo=wish.is_echo)
            choices.append(choice)
    return _whole("text_completion", choices, found)


def _written(prompts: Sequence[Prompt], wish: _Wish, ask: Ask) -> list[_Written]:
    """Has texts written after each prompt: room is looked at, then they are written, then read."""
    plain, n = wish.is_plain, len(wish.draws)
    sizes = [
        (len(tokens), longest) for tokens, longest in ask([AskTokens(p, plain) for p in prompts])
    ]
    room = min(longest - own for own, longest in sizes)
    most = min(wish.usual, room) if wish.max_tokens is None else wish.max_tokens
    if not min(most, 1) <= most <= room:
        raise RefusedError(
            f"{max(own for own, _ in sizes)} tokens of a prompt and {most} to be written are more "
            f"than the {sizes[0][1]} that the model reads"
        )
    how = (most, wish.stops, wish.temperature)
    asked = [AskText(p, *how, draw, plain) for p in prompts for draw in wish.draws]
    texts = ask(asked) if most else [Written("", ())] * len(asked)
    along: Sequence[_Along] = ()
    if wish.top is not None or wish.is_echo:
        along = ask(
            [
                AskPlaces(
                    one.prompt,
                    _Chosen(sizes[index // n][0], wish.top or 0, text.tokens[-1:]),
                    text.tokens[:-1],
                    wish.is_echo,
                    plain,
                )
                for index, (one, text) in enumerate(zip(asked, texts, strict=True))
            ]
        )
    return [
        _Written(size, texts[i * n : i * n + n], along[i * n : i * n + n])
        for i, (size, _) in enumerate(sizes)
    ]


def _choice(index: int, text: Written) -> dict[str, Any]:
    reason = "length" if isinstance(text, CutText) or not text.tokens else "stop"
    return {"index": index, "finish_reason": reason, "logprobs": None}


def _whole(kind: str, choices: list[dict[str, Any]], found: Sequence[_Written]) -> dict[str, Any]:
    n_read = sum(one.n_read for one in found)
    n_written = sum(len(text.tokens) for one in found for text in one.texts)
    usage = {
        "prompt_tokens": n_read,
        "completion_tokens": n_written,
        "total_tokens": n_read + n_written,
    }
    return {
        "id": f"{kind}-{MODEL}",
        "object": kind,
        "created": 0,
        "model": MODEL,
        "choices": choices,
        "usage": usage,
    }


def _chat_token(own: LikelyToken, rivals: Sequence[LikelyToken]) -> dict[str, Any]:
    return {**_told(own), "top_logprobs": [_told(one) for one in rivals]}


def _told(one: LikelyToken) -> dict[str, Any]:
    return {
        "token": one.text,
        "logprob": one.log_probability,
        "bytes": list(one.text.encode()),
    }


def _listed(along: _Along, *, is_echo: bool) -> dict[str, Any]:
    """Log-probabilities as completions have them; before a prompt's first token stands nothing."""
    tokens = [one.text for one, _ in along.tokens]
    numbers: list[float | None] = [one.log_probability for one, _ in along.tokens]
    tops: list[dict[str, float] | None] = [
        {one.text: one.log_probability for one in reversed(rivals)} for _, rivals in along.tokens
    ]
    if is_echo:
        tokens, numbers, tops = [along.first.text, *tokens], [None, *numbers], [None, *tops]
    ends = [0, *accumulate(map(len, tokens))]
    return {
        "tokens": tokens,
        "token_logprobs": numbers,
        "top_logprobs": tops,
        "text_offset": ends[:-1],
    }


def _wish(body: Body, kind: str) -> _Wish:
    for key, value in body.items():
        if key == "stream" and value:
            raise RefusedError("stream: texts come whole here; leave it out")
        if key not in _READ and value not in (*_NOTHING, *_NEUTRAL.get(key, ())):
            raise RefusedError(f"{key} is {value!r}, which is not offered here; leave it out")
    n = _number(body, "n", 1, 1, _MOST_TEXTS)
    seed = _number(body, "seed", 0, -(2**63), 2**63)
    is_chat = kind == "chat"
    limit = "max_completion_tokens" if body.get("max_completion_tokens") else "max_tokens"
    most = _number(body, limit, -1, 1 if is_chat else 0, 1 << 20)
    stops = body.get("stop") or ()
    stops = (stops,) if isinstance(stops, str) else tuple(stops)
    if not all(isinstance(one, str) and one for one in stops):
        raise RefusedError("stop is no text, and no list of texts")
    temperature = body.get("temperature")
    if temperature is not None and not (isinstance(temperature, (int, float)) and temperature >= 0):
        raise RefusedError(f"temperature is {temperature!r}, expected a number from 0")
    return _Wish(
        None if most < 0 else most,
        _DEFAULT_TOKENS[kind],
        stops,
        float(temperature or 0.0),
        tuple(seed * _MOST_TEXTS + index for index in range(n)),
        _top(body, is_chat),
        bool(body.get("echo")),
        not is_chat,
    )


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


def _messages(given: Any) -> tuple[Message, ...]:
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
    return Message("system" if role == "developer" else role, content)


def _prompts(given: Any) -> list[Prompt]:
    several = given if isinstance(given, list) and given and not _is_tokens(given) else [given]
    if not all(isinstance(one, str) or _is_tokens(one) for one in several):
        raise RefusedError("prompt is no text, no list of texts, and no tokens")
    return [one if isinstance(one, str) else Tokens(tuple(one)) for one in several]


def _is_tokens(given: Any) -> bool:
    if not isinstance(given, list) or not given:
        return False
    return all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in given)
