from __future__ import annotations

import json

import pytest

from evomerge.nouns.space import Choice, Integer, Real, Space
from evomerge.optimizers.llm.reply import ReplyError, read_reply

SPACE = Space(
    (
        Real("weight", 0.0, 1.5),
        Integer("start", 0, 6),
        Choice("method", ("linear", "ties")),
        Choice("flag", (True, False)),
    )
)
GOOD = {"weight": 0.75, "start": 3, "method": "ties", "flag": True}


def reply(mean, **beside):
    return json.dumps({"thought": "so", "mean": mean, **beside})


@pytest.mark.parametrize(
    "text",
    [
        reply(GOOD),
        reply(list(GOOD.values())),
        f"```json\n{reply(GOOD)}\n```",
        f"\n```\n{reply(GOOD)}\n```\n",
        reply({**GOOD, "start": 3.0}, confidence=1),
    ],
)
def test_a_good_reply_is_a_point_and_a_thought(text):
    proposal = read_reply(text, SPACE)
    assert proposal.point == GOOD
    assert [type(value) for value in proposal.point.values()] == [float, int, str, bool]
    assert proposal.thought == "so"


def test_the_edges_of_a_range_are_in_it():
    assert read_reply(reply({**GOOD, "weight": 1.5, "start": 0}), SPACE).point["weight"] == 1.5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the reply is empty"),
        (" \n", "the reply is empty"),
        ("I would raise the weights.", "the reply is no JSON"),
        ('{"mean": {"weight": 0.5', "the reply is no JSON"),
        (f"Sure! {reply(GOOD)}", "the reply is no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"mean": ' + "[" * 900 + "]" * 900 + "}", '"mean" is a list of 1, expected 4 values'),
        ("9" * 5000, "the reply is no JSON"),
        ("[1, 2]", "the reply is JSON, but no object"),
        ("{}", 'the object lacks the key "mean"'),
        (reply("ties"), '"mean" is neither an object nor a list'),
        (reply([0.5, 3]), '"mean" is a list of 2, expected 4 values'),
        (
            reply({"weight": 1, "weights": 2}),
            '"mean" lacks start, method, flag; "mean" holds weights',
        ),
        ('{"mean": {}, "mean": {}}', "these keys stand twice: mean"),
        (reply({**GOOD, "weight": 1.6}), r"weight is 1.6, expected a number in \[0.0, 1.5\]"),
        (reply({**GOOD, "weight": -0.01}), r"weight is -0.01, expected"),
        (reply({**GOOD, "weight": float("nan")}), "weight is NaN, expected a number"),
        (reply({**GOOD, "weight": float("inf")}), "weight is Infinity, expected a number"),
        (reply({**GOOD, "weight": 10**400}), r"weight is 10+\.\.\., expected a number"),
        (reply({**GOOD, "weight": "0.5"}), 'weight is "0.5", expected a number'),
        (reply({**GOOD, "weight": True}), "weight is true, expected a number"),
        (reply({**GOOD, "weight": None}), "weight is null, expected a number"),
        (reply({**GOOD, "start": 2.5}), r"start is 2.5, expected a whole number in \[0, 6\] whole"),
        (reply({**GOOD, "start": 7}), "start is 7, expected a whole number"),
        (reply({**GOOD, "method": "slerp"}), 'method is "slerp", expected one of "linear", "ties"'),
        (reply({**GOOD, "flag": 1}), "flag is 1, expected one of true, false"),
        (reply({**GOOD, "method": ["ties"]}), r'method is \["ties"\], expected one of'),
        (
            reply({"weight": 2, "start": 9, "method": 0, "flag": 0}),
            "weight.*; start.*; method.*; flag",
        ),
    ],
)
def test_anything_else_is_refused_with_what_to_mend(text, complaint):
    with pytest.raises(ReplyError, match=complaint):
        read_reply(text, SPACE)
