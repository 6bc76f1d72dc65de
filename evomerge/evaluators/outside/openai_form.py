"""Answers in the form of OpenAI's API: what a request means to the model, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from evomerge.evaluators.asking.asked import (
    AskModel,
    AskPlaces,
    AskText,
    AskTokens,
    LikelyToken,
    Places,
    Prompt,
)
from evomerge.evaluators.outside.openai_request import (
    Body,
    RefusedError,
    Wish,
    messages_of,
    prompts_of,
    wish_of,
)
from evomerge.evaluators.outside.replies import Withheld
from evomerge.inference.base import CutText, Written

MODEL = "candidate"  # as it is called
Ask = Callable[[Sequence[AskModel]], Sequence[Any]]


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
    wish = wish_of(body, "chat")
    if wish.is_echo:
        raise RefusedError("echo is for completions")
    (own,) = _written([messages_of(body.get("messages"))], wish, ask)
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
    wish, prompts = wish_of(body, "completion"), prompts_of(body.get("prompt"))
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


def _written(prompts: Sequence[Prompt], wish: Wish, ask: Ask) -> list[_Written]:
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
    is_cut = isinstance(text, CutText) or not text.tokens
    ending = "length" if is_cut else "stop"
    reason = "content_filter" if isinstance(text, Withheld) else ending
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
