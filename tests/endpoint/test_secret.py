"""A key is found in a text however it is written, and ordinary texts stay what they are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.foundations.secret import HIDDEN, WITHHELD, Secret
from tests.endpoint.disguises import DISGUISED, KEY, PLAIN, escaped
from tests.endpoint.leaks import leaks

SECRET = Secret(KEY)


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_where_a_key_stands_plainly_it_is_cut_out(text):
    cleaned = SECRET.clean(text)
    assert HIDDEN in cleaned
    assert not any(KEY[i : i + 8] in cleaned for i in range(len(KEY) - 7))


@pytest.mark.parametrize("text", DISGUISED.values(), ids=DISGUISED)
def test_a_text_with_a_key_in_disguise_is_withheld(text):
    assert SECRET.clean(text) == WITHHELD
    assert SECRET.clean(f"My thoughts on 0.25: {text} and so on.") == WITHHELD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a weight of 0.5",
        json.dumps({"thought": "because", "mean": {"layers.0.weight": 0.123456789}}),
        KEY[:7],
        f"{KEY[:7]} {KEY[9:16]}",
        "%zz &nope; \\q \\u12 &#9999999999; %",
        "\ud800 half a character",
        "&#" + "9" * 5000,  # more digits than Python makes a number of
        "\\u{" + "0" * 5000,
    ],
)
def test_a_text_without_the_key_stays_as_it_is(text):
    assert Secret("zz-another-key-9876").clean(text) == text


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("lm-studio", '{"model": "lmstudio-community/Llama-3-8B", "by": "LM Studio"}'),
        ("not-needed", "This is not needed."),
        ("sk-no-key-required", "NO KEY IS REQUIRED: none"),
        ("local-key", "a local key"),
        ("parameters", "the Para-meters"),
    ],
)
def test_words_that_local_servers_are_given_for_a_key_withhold_nothing(word, text):
    assert Secret(word).clean(text) == text


def test_eight_characters_are_a_key_and_less_are_none():
    assert Secret("k3y-4567").clean("a k3y-4567 b") == f"a {HIDDEN} b"
    assert Secret("EMPTY").clean("EMPTY words") == "EMPTY words"
    assert Secret("").clean("anything") == "anything"


@settings(max_examples=40)
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


# The other decoder, by which the tests of misbehaving servers look for leaks

OTHERS = ("octal", "JavaScript", "code points", "numbers", "decimal", "full width", "mathematical")
COMMON = {n: t for n, t in DISGUISED.items() if not any(other in n for other in OTHERS)}


@pytest.mark.parametrize("text", {**PLAIN, **COMMON}.values(), ids={**PLAIN, **COMMON})
def test_a_leak_would_be_seen(text):
    assert leaks(text, KEY)
    assert leaks(json.dumps({"attempts": [{"reply": text}, 1]}, indent=1), KEY)
