from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evomerge.nouns.space import Choice, Real, Space
from evomerge.optimizers.llm.prompt import (
    Example,
    Situation,
    fitting,
    messages,
    n_characters,
    shown_value,
)
from evomerge.optimizers.llm.reply import read_reply
from evomerge.optimizers.search_context import Brief
from tests.scripted_llm import recombined

SPACE = Space((Real("weight[a, layers 0-1]", 0.0, 1.5), Choice("method", ("linear", "ties"))))
BRIEF = Brief(("org/sort", "org/copy"), "org/base", "ties", ("sort/acc,none", "copy/loss,none"))
TASKS = {"sort/acc,none": 0.5, "copy/loss,none": 1.25}


def example(weight, score, origin="generation 1"):
    return Example({"weight[a, layers 0-1]": weight, "method": "ties"}, score, TASKS, origin)


SITUATION = Situation(
    2,
    0.05,
    True,
    [example(1.0, 0.5), example(0.25, 0.25)],
    parents={"org/sort": example(1.0, 0.3)},
    lower_is_better=frozenset({"copy/loss,none"}),
    history=["generation 0: best score 0.4", "generation 1: best score 0.5, improved by 0.1"],
    thought="more of a",
)


def said(situation):
    return "\n".join(message["content"] for message in messages(SPACE, BRIEF, situation))


@pytest.mark.parametrize(
    "line",
    [
        "Models: org/sort, org/copy.",
        "Their base: org/base.",
        "Merge method: ties, as in mergekit.",
        "Tasks: sort/acc,none, copy/loss,none.",
        "org/sort: score 0.3 (sort/acc,none 0.5, copy/loss,none 1.25)",
        "generation 1: best score 0.5, improved by 0.1",
        "What you thought last: more of a",
        "trial |  | generation 1 | generation 1",
        "score | higher is better | 0.5 | 0.25",
        "copy/loss,none | lower is better | 1.25 | 1.25",
        "weight[a, layers 0-1] | [0.0, 1.5] | 1 | 0.25",
        'method | "linear" or "ties" | "ties" | "ties"',
    ],
)
def test_the_prompt_tells_what_is_searched_and_where_it_stands(line):
    assert line in said(SITUATION).splitlines()


def test_the_prompt_tells_the_noise_and_whether_anything_improved():
    assert "The last generation improved on the best score of those before" in said(SITUATION)
    assert "deviation of 0.075 in plain ranges, 0.05 of the range elsewhere." in said(SITUATION)
    assert "did not improve on" in said(replace(SITUATION, has_improved=False))


def test_a_prompt_that_is_too_long_drops_history_then_examples_but_never_the_last():
    whole = n_characters(messages(SPACE, BRIEF, SITUATION))
    assert fitting(SPACE, BRIEF, SITUATION, whole) == SITUATION
    shorter = fitting(SPACE, BRIEF, SITUATION, whole - 1)
    assert (len(shorter.history), shorter.thought, len(shorter.examples)) == (1, "", 2)
    bare = n_characters(messages(SPACE, BRIEF, replace(SITUATION, history=(), thought="")))
    assert len(fitting(SPACE, BRIEF, SITUATION, bare - 1).examples) == 1
    assert len(fitting(SPACE, BRIEF, SITUATION, 1).examples) == 1


def test_what_the_table_shows_may_be_said_back():
    narrow = Space((Real("weight", 0.123456, 0.123459), Real("density", 0.001, 1.0, log=True)))
    point = {"weight": 0.123459, "density": 0.001}
    prompt = messages(narrow, Brief(), Situation(1, 0.2, True, [Example(point, 0.0)]))
    assert read_reply(recombined(prompt[1]["content"]), narrow).point == point


def test_values_have_four_digits():
    assert shown_value(Real("weight", 0.0, 1.0), 0.123456) == "0.1235"
    assert json.loads(shown_value(Choice("normalize", (True, False)), True)) is True
