"""Finds a key in what a run left behind, with a decoder of its own that owes evomerge nothing."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote


def plain_leaks(text: str, key: str) -> list[str]:
    """Stretches of eight characters of a key that stand in a text; quick, for long ones."""
    return [key[i : i + 8] for i in range(len(key) - 7) if key[i : i + 8] in text]


def leaks(text: str, key: str) -> list[str]:
    """Stretches of eight characters of a key that can be read in a text, in any way known here."""
    pieces = [key[i : i + 8] for i in range(len(key) - 7)]
    dense = {piece: _dense(piece) for piece in pieces if len(_dense(piece)) == 8}
    found = set()
    for reading in _readings(text):
        found |= {piece for piece in pieces if piece in reading}
        letters = _dense(reading)
        both = f"{letters} {letters[::-1]}"
        found |= {piece for piece, letters in dense.items() if letters in both}
    return sorted(found)


def _dense(text: str) -> str:
    return re.sub(r"[\W_]", "", text.casefold(), flags=re.ASCII)


def _readings(text: str) -> Iterator[str]:
    """The text, what its escapes say, one inside the other, and what each of these codes."""
    known = {text}
    new = known
    for _ in range(3):
        new = {reading for one in new for reading in _opened(one)} - known
        known |= new
    for reading in known:
        yield reading
        yield from _uncoded(reading)


def _opened(text: str) -> Iterator[str]:
    yield html.unescape(text)
    yield unquote(text)
    for names_or_values in zip(*_leaves(text), strict=True):
        yield "".join(names_or_values)
    yield re.sub(
        r"\\+(?:x(..)|u(....)|U0000(....))",
        lambda found: chr(int(found[1] or found[2] or found[3], 16)),
        re.sub(r"\\+[xuU](?![0-9a-fA-F]{2})", "", text),
    )


def _uncoded(text: str) -> Iterator[str]:
    for run in re.findall(r"(?:[0-9a-fA-F]{2}[\s:]?){8,}", text):
        yield bytes.fromhex(re.sub(r"[\s:]", "", run)).decode("latin-1")
    joined = re.sub(r"\\+n|\s", "", text).replace("-", "+").replace("_", "/")
    for run in re.findall(r"[A-Za-z0-9+/]{10,}", joined):
        for start in range(4):
            part = run[start:]
            yield base64.b64decode(part[: len(part) // 4 * 4]).decode("latin-1")


def _leaves(text: str) -> Iterator[tuple[str, str]]:
    """The names and the values of JSON, of each line that is some, and of JSON in JSON."""
    for part in (text, *text.splitlines()):
        try:
            data = json.loads(part)
        except (ValueError, RecursionError):
            continue
        yield from _strings(data)


def _strings(data: Any) -> Iterator[tuple[str, str]]:
    if isinstance(data, str):
        yield "", data
        try:
            inner = json.loads(data)
        except (ValueError, RecursionError):
            return
        yield from _strings(inner)
    elif isinstance(data, dict):
        for name, value in data.items():
            yield name, ""
            yield from _strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from _strings(value)
