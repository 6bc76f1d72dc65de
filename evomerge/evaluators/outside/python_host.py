"""Calls a function of the user's, in a process of its own, with a handle of the model.

It is started as a script, and imports nothing of evomerge: the function finds the process as any
script does. Requests and results are JSON, each a message of a pipe.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

_LONGEST = 500  # characters of an error
_HOTTEST = 1e6  # at which all tokens are alike
_ROLES = ("system", "user", "assistant")


class Model:
    """The model that is judged, as a function is given it.

    A prompt is a text, which is what one user says, or a list of messages of a chat, each a
    mapping with ``role`` and ``content``. Templates are applied as for all tasks of the genome.

    Args:
        ask: Sends requests, and waits for their answers.
    """

    def __init__(self, ask: Callable[[list[Any]], list[Any]]) -> None:
        self._ask = ask

    def generate(
        self,
        prompts: Sequence[Any],
        max_tokens: int = 256,
        stop: str | Sequence[str] = (),
        temperature: float = 0.0,
        draw: int = 0,
    ) -> list[str]:
        """What the model writes after each prompt.

        Args:
            prompts: Any number; they are answered together, equal ones once.
            max_tokens: At most, from 1.
            stop: Texts that end it, none of them empty; it is cut before the first of them.
            temperature: 0 for the likeliest tokens; else tokens are drawn, seeded.
            draw: Which of several drawn texts.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}, expected at least 1")
        if not 0.0 <= temperature <= _HOTTEST:
            raise ValueError(f"temperature is {temperature}, expected a number from 0")
        stops = [stop] if isinstance(stop, str) else list(stop)
        if not all(isinstance(one, str) and one for one in stops):
            raise ValueError(f"stop is {stop!r}, expected texts that are not empty")
        how = [int(max_tokens), stops, float(temperature), int(draw)]
        return self._ask([["text", _prompt(one), *how] for one in _several(prompts)])

    def loglikelihoods(self, pairs: Sequence[tuple[Any, str]]) -> list[float]:
        """The log-likelihood of each continuation after its prompt, in nats.

        Args:
            pairs: Prompt and continuation; blanks between them belong to the continuation.
        """
        return self._ask([["likelihood", _prompt(one), _whole(after)] for one, after in pairs])

    def next_token_probabilities(
        self, prompts: Sequence[Any], top: int = 20
    ) -> list[dict[str, float]]:
        """The likeliest next tokens after each prompt: text to probability, likeliest first.

        Args:
            prompts: Any number.
            top: How many tokens of each.
        """
        if top < 1:
            raise ValueError(f"top is {top}, expected at least 1")
        found = self._ask([["tokens", _prompt(one), int(top)] for one in _several(prompts)])
        return [_summed(tokens) for tokens in found]


def _summed(tokens: list[tuple[str, float]]) -> dict[str, float]:
    """Tokens that read the same are one."""
    found: dict[str, float] = {}
    for text, probability in tokens:
        found[text] = found.get(text, 0.0) + probability
    return found


def _several(prompts: Sequence[Any]) -> Sequence[Any]:
    if isinstance(prompts, (str, Mapping)):
        raise TypeError("prompts is one prompt, expected a list of them")
    return prompts


def _prompt(given: Any) -> Any:
    if isinstance(given, str):
        return _whole(given)
    if not given or isinstance(given, Mapping):
        raise TypeError(f"a prompt is {given!r}, expected a text or a list of messages")
    roles = [one["role"] for one in given]
    if not {*_ROLES}.issuperset(roles):
        raise ValueError(f"roles are {roles}, expected {', '.join(_ROLES)}")
    return [[one["role"], _whole(one["content"])] for one in given]


def _whole(text: Any) -> str:
    """A text that can be written; half of a character has no code, and is refused."""
    str(text).encode()
    return str(text)


def plain(value: Any) -> Any:
    """A result as JSON has it: arrays of numpy and torch as lists."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(own) for own in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"it returned a {type(value).__name__}, expected numbers")


def told(error: BaseException, own: str) -> str:
    """An error in one line, and the place in the user's file where it arose."""
    parts = f"{type(error).__name__}: ", str(error)  # which may have no text
    text = " ".join("".join(parts).split()).rstrip(": ")[:_LONGEST]
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename != __file__]
    ours = [one for one in frames if one.filename == own] or frames
    return (
        f"{text} ({os.path.basename(ours[-1].filename)}, line {ours[-1].lineno})" if ours else text
    )


def main(handle: int, name: str, file: str, folder: str) -> None:
    """Waits for calls until the pipe closes.

    Args:
        handle: File descriptor of the pipe.
        name: ``package.module:function``.
        file: Of the module.
        folder: Where Python finds it.
    """
    line = Connection(handle)
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    sys.path.append(folder)

    def say(**message: Any) -> None:
        line.send_bytes(json.dumps(message).encode())

    def ask(requests: list[Any]) -> list[Any]:
        say(asks=requests)
        answers: list[Any] = json.loads(line.recv_bytes())
        return answers

    module, _, function = name.partition(":")
    while True:
        try:
            given = json.loads(line.recv_bytes())
        except EOFError:
            return
        try:
            called = getattr(importlib.import_module(module), function)
            say(result=plain(called(Model(ask), *given)))
        except EOFError:
            return
        # A function that calls sys.exit() says what it has to say no better.
        except BaseException as error:
            say(error=told(error, file))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
