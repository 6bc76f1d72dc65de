"""Replies of a wanted form, as a whole."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from evomerge.evaluators import well_formed
from evomerge.evaluators.asking.asked import AskText
from evomerge.evaluators.asking.asking_kind import Around
from evomerge.evaluators.well_formed import FormatSettings, WellFormed
from evomerge.genome.task_blocks import Task
from evomerge.inference.base import Written


@pytest.fixture(autouse=True)
def _prompts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.json").write_text(json.dumps({"dev": [{"prompt": "Who?"}]}))


def judgement(reply, **settings):
    kind = WellFormed(Task.model_validate({"format": {"file": "p.json", **settings}}), Around())
    judging = kind.judge(next(iter(kind.items())))
    assert next(judging) == AskText("Who?", 200)
    with pytest.raises(StopIteration) as over:
        judging.send(Written(reply, (1,)))
    return over.value.value


def worth(reply, **settings):
    return judgement(reply, **settings).values["well_formed"]


PERSON = '{"name": "Ada", "age": 36, "town": null}'


@pytest.mark.parametrize(
    ("reply", "settings", "expected"),
    [
        (PERSON, {}, 1.0),
        (f"\n {PERSON}\n", {"keys": ["name", "age"]}, 1.0),
        (PERSON, {"keys": ["name", "surname"]}, 0.0),
        ("[1, 2]", {}, 1.0),
        ("[1, 2]", {"keys": []}, 0.0),
        (f"Here it is: {PERSON}", {}, 0.0),
        (f"```json\n{PERSON}\n```", {}, 0.0),
        ("[" * 100_000, {}, 0.0),
        ("", {}, 0.0),
        ("NaN", {}, 0.0),
        ('{"name": -Infinity}', {}, 0.0),
        ('{"name": "NaN"}', {}, 1.0),
        ("- one\n- two", {"pattern": r"(- .*\n?)+"}, 1.0),
        ("- one\n- two\nand so on", {"pattern": r"(- [^\n]*\n?)+"}, 0.0),
    ],
)
def test_all_of_a_reply_has_to_be_of_the_form(reply, settings, expected):
    assert worth(reply, **settings) == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"pattern": "(a"}, "is no regular expression"),
        ({"pattern": "a{4294967295}"}, "is no regular expression .repeat count too big"),
        ({"pattern": "(" * 5000 + ")" * 5000}, "a pattern of 10000 characters is nested too deep"),
        ({"pattern": "a", "keys": ["b"]}, "keys of JSON beside a pattern"),
    ],
)
def test_what_is_no_form_is_told(settings, sentence):
    with pytest.raises(ValidationError, match=sentence):
        FormatSettings.model_validate({"file": "p.json", **settings})


def test_a_pattern_that_takes_too_long_for_a_reply_does_not_fit_it(monkeypatch):
    monkeypatch.setattr(well_formed, "PATTERN_SECONDS", 0.01)
    found = judgement("a" * 60 + "b", pattern="(a|aa)+")
    assert found.values == {"well_formed": 0.0}
    assert found.answer == found.shown.answer
    assert found.answer.endswith("ab (the pattern takes more than 0.01 s)")
    assert worth("a" * 60, pattern="(a|aa)+") == 1.0
