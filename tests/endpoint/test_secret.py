"""A key is found in a text however it is written, and ordinary texts stay what they are."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.endpoint.secret import HIDDEN, WITHHELD, Secret

KEY = "sk-proj-Q7xT2mLw9Rv4Zc8Yb1Nd6Kf3"
SECRET = Secret(KEY)


def escaped(text, form):
    return "".join(form.format(ord(c)) for c in text)


def in_base64(text, before="", **kind):
    return base64.b64encode(f"{before}{text}, beside it".encode(), **kind).decode()


PLAIN = {
    "whole": KEY,
    "in a sentence": f"bad key {KEY}!",
    "twice": f"{KEY}{KEY}",
    "its beginning": KEY[:12],
    "its end": f"...{KEY[-9:]}",
    "both ends": f"{KEY[:8]}***{KEY[-8:]}",
    "in a field's name": json.dumps({KEY: 1}),
    "eight of it, anywhere": f"x{KEY[11:19]}x",
}
DISGUISED = {
    "JSON escapes": escaped(KEY, "\\u{:04x}"),
    "JSON escapes in capitals": escaped(KEY, "\\u{:04X}"),
    "JSON escapes of a part": escaped(KEY[5:14], "\\u{:04x}"),
    "every other character escaped": "".join(
        c if i % 2 else f"\\u{ord(c):04x}" for i, c in enumerate(KEY)
    ),
    "JSON escapes, twice": json.dumps(json.dumps(escaped(KEY, "\\u{:04x}"))),
    "Python escapes": escaped(KEY, "\\x{:02x}"),
    "long Python escapes": escaped(KEY, "\\U{:08x}"),
    "octal escapes": escaped(KEY, "\\{:03o}"),
    "JavaScript escapes": escaped(KEY, "\\u{{{:x}}}"),
    "escape() of JavaScript": escaped(KEY, "%u{:04x}"),
    "code points": escaped(KEY, "U+{:04X} "),
    "hexadecimal numbers": escaped(KEY, "0x{:02x}, "),
    "URL": escaped(KEY, "%{:02X}"),
    "URL, twice": quote(escaped(KEY, "%{:02x}")),
    "HTML": escaped(KEY, "&#{};"),
    "HTML, hexadecimal": escaped(KEY, "&#x{:x};"),
    "HTML without semicolons": escaped(KEY, "&#{} "),
    "HTML of a URL": html.escape(escaped(KEY, "&#37;{:02x}")),
    "hexadecimal": KEY.encode().hex(),
    "hexadecimal in capitals": KEY.encode().hex().upper(),
    "hexadecimal with colons": KEY.encode().hex(":"),
    "hexadecimal of a part": KEY[3:12].encode().hex(),
    "hexadecimal of capitals": KEY.upper().encode().hex(),
    "decimal codes": str(list(KEY.encode())),
    "base64": in_base64(KEY),
    "base64, a byte later": in_base64(KEY, "a"),
    "base64, two bytes later": in_base64(KEY, "ab"),
    "base64 of a part": in_base64(KEY[4:13], "abc", ),
    "base64 of a part, a byte later": in_base64(KEY[9:17], "abcd"),
    "base64 of a part, two bytes later": in_base64(KEY[20:28], "abcde"),
    "base64 for URLs": base64.urlsafe_b64encode(f"??>{KEY}~~~".encode()).decode(),
    "base64 in lines": base64.encodebytes(KEY.encode() * 3).decode(),
    "base64 in a URL": quote(in_base64(KEY)),
    "base64 in JSON lines": json.dumps(base64.encodebytes(KEY.encode() * 3).decode()),
    "base64 of capitals": in_base64(KEY.upper()),
    "capitals": KEY.upper(),
    "small letters": KEY.lower(),
    "backwards": KEY[::-1],
    "spaced out": " ".join(KEY),
    "dashed": "-".join(KEY),
    "a letter a line": "\n".join(KEY),
    "a letter a line, in JSON": json.dumps("\n".join(KEY)),
    "zero-width spaces": "\u200b".join(KEY),
    "soft hyphens": "\xad".join(KEY),
    "NUL between": "\0".join(KEY),
    "NUL between, in JSON": json.dumps("\0".join(KEY)),
    "full width": "".join(chr(ord(c) + 0xFEE0) for c in KEY),
    "mathematical letters": "".join(
        chr(0x1D400 + ord(c.lower()) - 97) if c.isalpha() else c for c in KEY
    ),
    "UTF-16 read as UTF-8": KEY.encode("utf-16-le").decode("utf-8"),
    "a list of its letters": json.dumps(list(KEY)),
    "a list of its parts": json.dumps([KEY[i : i + 5] for i in range(0, len(KEY), 5)]),
    "split over fields": json.dumps({"id": KEY[:7], "model": KEY[7:14], "x": KEY[14:]}),
    "split over fields of JSON in JSON": json.dumps(
        json.dumps({"thought": KEY[:6], "because": KEY[6:12], "so": KEY[12:18]})
    ),
    "split over names": json.dumps({KEY[i : i + 6]: i for i in range(0, len(KEY), 6)}),
    "split and escaped": json.dumps(
        json.dumps({"a": escaped(KEY[:6], "\\u{:04x}"), "b": escaped(KEY[6:12], "%{:02x}")})
    ),
    "a letter a field": json.dumps([{"token": c} for c in KEY]),
}  # fmt: skip


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_where_a_key_stands_plainly_it_is_cut_out(text):
    cleaned = SECRET.clean(text)
    assert HIDDEN in cleaned
    assert not any(KEY[i : i + 8] in cleaned for i in range(len(KEY) - 7))


@pytest.mark.parametrize("text", DISGUISED.values(), ids=DISGUISED)
@pytest.mark.parametrize("around", ["{}", "My thoughts on 0.25: {} and so on."])
def test_a_text_with_a_key_in_disguise_is_withheld(text, around):
    assert SECRET.clean(around.format(text)) == WITHHELD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a weight of 0.5",
        json.dumps({"thought": "because", "mean": {"layers.0.weight": 0.123456789}}),
        "sk-proj-",  # of every key of its kind, but eight characters: see below
        KEY[:7],
        f"{KEY[:7]} {KEY[9:16]}",
        "%zz &nope; \\q \\u12 &#9999999999; %",
        "\ud800 half a character",
    ],
)
def test_a_text_without_the_key_stays_as_it_is(text):
    assert Secret("zz-another-key-9876").clean(text) == text


def test_less_than_eight_characters_are_no_key():
    assert Secret("EMPTY").clean("EMPTY words") == "EMPTY words"
    assert Secret("").clean("anything") == "anything"


@given(st.text(max_size=200))
def test_no_text_without_the_key_is_changed(text):
    assert SECRET.clean(text) == text


@given(st.text(max_size=40), st.integers(0, len(KEY) - 8), st.text(max_size=40))
def test_eight_characters_are_found_wherever_they_stand(before, start, after):
    piece = KEY[start : start + 8]
    assert piece not in SECRET.clean(f"{before}{piece}{after}")
    assert SECRET.clean(f"{before} {escaped(piece, chr(92) + 'u{:04x}')} {after}") == WITHHELD


@given(st.text('abcsk-{}[]":,.0123456789\\u%&#x;', max_size=300))
def test_texts_made_of_escapes_are_read_to_their_end(text):
    assert isinstance(SECRET.clean(text), str)
