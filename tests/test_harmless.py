from __future__ import annotations

import json

import pytest

from evomerge.foundations.text_safety import escaped, harmless, offender, shown

OBEYED = (
    "\x00\x07\x08\x1b\x7f\x85\x9b\xad\u061c\u180e\u200b\u200e\u200f\u2028\u202e\u2060\u2066\u206f"
    "\ud800\ufeff\ufff9\U000e0001\U000e0041"
)
WRITTEN = {
    "a line": "a\tb\nc",
    "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "a scientist": "\U0001f469\u200d\U0001f52c",
    "Hindi": "\u0915\u094d\u200d\u0937",
    "Japanese": "\u65e5\u672c\u8a9e",
    "a mark above": "e\u0301",
}


@pytest.mark.parametrize("character", OBEYED, ids=ascii)
def test_what_a_terminal_obeys_or_nobody_sees_becomes_visible(character):
    assert character not in harmless(f"a{character}b")
    assert len(harmless(f"a{character}b")) == 3
    assert offender(f"a{character}b") == ascii(character)
    written = escaped(json.dumps({"a": f"x{character}"}, ensure_ascii=False))
    assert character not in written
    assert json.loads(written) == {"a": f"x{character}"}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_what_languages_are_written_with_stays(text):
    assert harmless(text) == text
    assert offender(text) == ""


def test_long_lines_are_shown_without_their_middle():
    long, whole = "a" * 200 + "b" * 100 + "c" * 200, "d" * 400
    short = f"{'a' * 200} (… 100 characters …) {'c' * 200}"
    assert shown(f"{long}\n{whole}\n\x1b\n{long}") == f"{short}\n{whole}\n␛\n{short}"
