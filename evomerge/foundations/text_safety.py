"""Texts of strangers, made fit to be shown: nothing in them moves a cursor, hides or starts a line.

Names, failures and answers come from files and models. A terminal obeys escape sequences, a
reader is misled by text that runs backwards, and a line break inside a name begins a line of its
own in whatever is written.
"""

from __future__ import annotations

import json
import re
import shlex

# C0 and C1 controls, line separators, marks that turn text round or are not seen, halves of
# characters. The two joiners stay: Persian, Hindi and emoji are written with them.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_BREAKS = re.compile("[\t\n]")
_PICTURES = 0x2400  # U+2400 + code is the picture of a C0 control
_UNKNOWN = "\ufffd"
_LONGEST = 400  # characters of a line that a person reads


def harmless(text: str) -> str:
    """The text with each character that a terminal obeys or hides as a visible one.

    Line breaks and tabs stay.
    """
    return _OBEYED.sub(_picture, text)


def one_line(text: str) -> str:
    """The text on one line, harmless."""
    return harmless(" ".join(text.split()))


def one_name(name: object) -> str:
    """A name as part of a line: harmless, its line breaks and tabs visible too."""
    return _BREAKS.sub(_picture, harmless(str(name)))


def argument(name: object) -> str:
    """A name as an argument of a command that a shell is given: quoted where that is needed."""
    return one_name(shlex.quote(str(name)))


def escaped(json_text: str) -> str:
    """JSON that means the same and is harmless: such characters are written by their codes."""
    return _OBEYED.sub(lambda found: json.dumps(found.group())[1:-1], json_text)


def shown(text: str) -> str:
    """The text as a message may hold it: harmless, and long lines without their middle."""
    return "\n".join(map(_shortened, harmless(text).split("\n")))


def offender(text: str) -> str:
    """The first character that is not harmless, as Python writes it; empty where all are."""
    found = _OBEYED.search(text)
    return ascii(found.group()) if found else ""


def _shortened(line: str) -> str:
    if len(line) <= _LONGEST:
        return line
    half = _LONGEST // 2
    return f"{line[:half]} (… {len(line) - 2 * half} characters …) {line[-half:]}"


def _picture(found: re.Match[str]) -> str:
    code = ord(found.group())
    return chr(_PICTURES + code) if code < ord(" ") else _UNKNOWN
