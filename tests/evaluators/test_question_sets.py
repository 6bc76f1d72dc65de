"""Questions with options or answers in files of Model Swarms' form, read strictly or as there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from evomerge.evaluators.abstain import Abstaining
from evomerge.evaluators.asking.asked import AskText
from evomerge.evaluators.asking.asking_kind import Around
from evomerge.evaluators.asking.asking_task import asking_task
from evomerge.evaluators.choice import ChoiceQuestions
from evomerge.evaluators.exact import ExactAnswers
from evomerge.evaluators.reply_reading import (
    chosen_option,
    loosely_chosen_option,
    says_exactly,
    says_loosely,
)
from evomerge.foundations.errors import GenomeError
from evomerge.genome.task_blocks import Task

ROW = {"question": "Which?", "choices": {"A": "red fox", "B": "dog"}, "answer": "B", "id": 3}
PROMPT = "Question: Which?\nA: red fox\nB: dog\nThe answer is"


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(content, name="set.json"):
    with open(name, "w") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
    return name


def made(kind, **settings):
    key = {ChoiceQuestions: "choice", ExactAnswers: "exact", Abstaining: "abstain"}[kind]
    return kind(Task.model_validate({key: settings}), Around())


def judged(kind, replies):
    """What comes of the first document, and what was asked."""
    judging, asked = kind.judge(next(iter(kind.items()))), []
    answers = iter([None, *replies])
    try:
        while True:
            asked.append(judging.send(next(answers)))
    except StopIteration as over:
        return over.value, asked


@pytest.mark.parametrize(
    ("dataset", "first"),
    [
        ("mmlu", "Please choose an option that best answers the question.\n"),
        ("hellaswag", "Please choose an option that best completes the sentence.\n"),
        ("knowledge_crosswords", ""),
    ],
)
def test_prompts_are_those_of_model_swarms(dataset, first):
    file = written({"dataset": dataset, "dev": [ROW], "test": []})
    kind = made(ChoiceQuestions, file=file)
    judgement, asked = judged(kind, ["B"])
    assert asked == [AskText(first + PROMPT, 10)]
    assert (judgement.values, judgement.answer) == ({"acc": 1.0, "answered": 1.0}, "B")
    assert judgement.shown.target == "B"
    own = made(ChoiceQuestions, file=file, instruction="Choose.", max_tokens=3)
    assert judged(own, ["?"])[1] == [AskText(f"Choose.\n{PROMPT}", 3)]


def test_who_guesses_is_right_by_the_number_of_options_of_each_question():
    four = {**ROW, "choices": {"A": "a", "B": "b", "C": "c", "D": "d"}}
    kind = made(ChoiceQuestions, file=written({"dev": [ROW, four]}))
    assert kind.guess([*kind.items()]) == (1 / 2 + 1 / 4) / 2
    assert judged(kind, ["A"])[0].values == {"acc": 0.0, "answered": 1.0}
    for metric, guess in ((None, 0.375), ("answered", None)):
        given = {"choice": {"file": "set.json"}, "metric": metric}
        kind = ChoiceQuestions(Task.model_validate(given), Around())
        assert asking_task(kind, "tasks[0]").guess == guess


def test_an_example_of_the_file_stands_before_each_question():
    written({"icl_prompt": "Such as this.", "dev": [ROW]})
    asked = judged(made(ChoiceQuestions, file="set.json", instruction=""), ["A"])[1]
    assert asked[0].prompt == f"Such as this.\n{PROMPT}"
    written({"icl_prompt": "Such as this.", "dev": [{"question": "1+1?", "answer": "2"}]})
    asked = judged(made(ExactAnswers, file="set.json"), ["2"])[1]
    assert asked[0].prompt == "Such as this.\n1+1?"


OPTIONS = {"A": "By ensuring power", "B": "An old dog", "C": "An old dog barks", "D": "None"}


@pytest.mark.parametrize(
    ("reply", "strict", "loose"),
    [
        (" B", "B", "B"),
        ("B.", "B", "B"),
        ("**B**", "B", "B"),
        ("(B) An old dog", "B", "A"),
        ("B: An old", "B", "A"),
        ("B An old dog", "B", "A"),
        ("By ensuring power, of course", "A", "B"),
        ("an old dog.", "B", "B"),
        ("the correct option is C, not A", "C", "A"),
        ("Let me think. The answer is: D", "D", "D"),
        ("Actually it is hard to say", None, "A"),
        ("A man would know", None, "A"),
        ("D because of that", "D", "D"),
        ("Certainly none of these", None, "C"),
        ("I do not know", None, None),
        ("", None, None),
        ("B) An old dog. The other choice is: By ensuring power", "B", "A"),
        ("B. My second choice is A", "B", "B"),
        ("C. The answer isn't D", "C", "C"),
        ("An old dog barks", None, "A"),  # begins as two of the options
        ("The answer is A. No, the answer is: B", "B", "B"),
    ],
)
def test_a_letter_counts_where_a_person_would_read_it_and_loosely_anywhere(reply, strict, loose):
    assert chosen_option(reply, OPTIONS) == strict
    assert loosely_chosen_option(reply, OPTIONS) == loose


def test_a_key_is_no_piece_of_a_word_even_where_its_option_is_empty_or_goes_on_with_it():
    options = {"A": "n old dog", "B": "", "C": "cat"}
    assert chosen_option("An old dog", options) is None
    assert chosen_option("Bears are there", options) is None
    assert chosen_option("A n old dog", options) == "A"
    assert chosen_option("B", options) == "B"
    assert chosen_option("A catalogue", {"A": "cat", "B": "dog"}) is None


@pytest.mark.parametrize(
    ("reply", "answer", "strict", "loose"),
    [
        ("100 + 50 = 150.", "150", True, True),
        ("150 pennies, that is 15 dimes", "150", False, True),
        ("The answer is 5. There are 12.", "5", True, True),
        ("it costs $1,150.00", "1150", True, False),
        ("15", "5", False, True),
        ("none", "5", False, False),
        ("5th", "5", False, True),
        ("Answer: 3 + 4 = 7", "7", True, True),
        ("Answer: 3 + 4 = 7", "3", False, True),
        ("The answer is 7, for x = 3", "7", True, True),
        ("#### 10 x 2 = $20 = 20 dollars", "20", True, True),
        ("1/2", "2", False, True),
        ("1 / 2", "2", False, True),
        ("The answer is 1/2.", "1/2", True, True),
        ("It is 6 / 12 of all", "1/2", True, False),
        ("It was 9/11/2001", "2001", False, True),
        ("1/0", "0", False, True),
        ("りんごは18個です", "18", True, True),
        ("\uff11\uff18 個", "18", True, False),
        ("Yes, there is a path", "Yes", True, True),
        ("yes.", "Yes", True, False),
        ("Node 3 has none", "No", False, True),
        ("There is no path. Answer: No", "No", True, True),
        ("I think the answer is yes", "No", False, False),
    ],
)
def test_an_answer_counts_where_the_reply_ends_on_it_and_loosely_anywhere(
    reply, answer, strict, loose
):
    assert says_exactly(reply, answer) == strict
    assert says_loosely(reply, answer, None) == loose


def test_loosely_the_last_words_alone_may_be_read():
    reply = "first 7 and then 8 9 10 11 12"
    assert says_loosely(reply, "7", None)
    assert not says_loosely(reply, "7", 5)
    written({"dev": [{"question": "?", "answer": "7"}]})
    for settings, right in (({}, 0.0), ({"match": "loose"}, 1.0)):
        kind = made(ExactAnswers, file="set.json", stops=["\n"], **settings)
        judgement, asked = judged(kind, [reply])
        assert judgement.values == {"exact_match": right}
        assert asked == [AskText("?", 200, ("\n",))]


@pytest.mark.parametrize(
    ("replies", "match", "worth", "abstains"),
    [
        (["B", "true"], "strict", 1.0, 0.0),
        (["A", "True."], "strict", -1.0, 0.0),
        (["A", "false"], "strict", 0.0, 1.0),
        (["B", "It is not false"], "loose", 0.0, 1.0),
        (["B", "True, not false"], "strict", 1.0, 0.0),
        (["Actually", "hm"], "strict", -1.0, 0.0),
        (["B", "True or false? The answer is: false"], "strict", 0.0, 1.0),
    ],
)
def test_who_doubts_the_own_answer_is_neither_right_nor_wrong(replies, match, worth, abstains):
    kind = made(Abstaining, file=written({"dev": [ROW]}), match=match)
    judgement, asked = judged(kind, replies)
    assert judgement.values["effective_reliability"] == worth
    assert judgement.values["abstained"] == abstains
    assert asked[1].prompt == (
        f"{asked[0].prompt}\nProposed answer: {replies[0]}\n"
        "Is the proposed answer true or false? Directly answer with true or false."
    )


@pytest.mark.parametrize(
    ("kind", "keys"),
    [(ExactAnswers, "{question, answer}"), (Abstaining, "{question, choices, answer}")],
)
def test_the_rows_of_the_guide_are_read(kind, keys):
    guide = (Path(__file__).parents[2] / "docs" / "genome.md").read_text()
    rows = map(json.loads, re.findall(r'`({"question": .*?})`', guide))
    (row,) = (one for one in rows if f"{{{', '.join(one)}}}" == keys)
    (item,) = made(kind, file=written(f"{json.dumps(row)}\n", "set.jsonl")).items()
    assert "2 + 2 =" in item.asks


def test_rows_may_stand_one_per_line():
    written(f"{json.dumps(ROW)}\n\n{json.dumps(ROW)}\n", "set.jsonl")
    assert len(list(made(ChoiceQuestions, file="set.jsonl").items())) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "'set.json' is no JSON"),
        ([], "'set.json' holds [], expected an object with a list for each split"),
        ({"test": [ROW]}, "'set.json' has no list 'dev' (it has: test)"),
        ({"dev": [ROW, 3]}, "dev[1] of 'set.json' has no text under 'question'"),
        ({"dev": [{**ROW, "answer": "C"}]}, "has the answer 'C', which is none of its choices"),
        (
            {"dev": [{**ROW, "choices": ["a", "b"]}]},
            "dev[0] of 'set.json' has ['a', 'b'] under 'choices', expected {",
        ),
        (
            {"dev": [{**ROW, "choices": {"A": "a"}}]},
            "dev[0] of 'set.json' has {'A': 'a'} under 'choices', expected {",
        ),
        ({"dev": [{**ROW, "answer": "\ud800"}]}, "dev[0] of 'set.json' holds half of a character"),
        (
            {"dev": [{**ROW, "choices": {"A": "a", "B": "b\ud800"}}]},
            "dev[0] of 'set.json' holds half of a character",
        ),
        (
            {"dev": [{**ROW, "choices": {"\udc00": "a", "B": "b"}}]},
            "dev[0] of 'set.json' holds half of a character",
        ),
        (
            {"dev": [ROW], "icl_prompt": "\ud800"},
            "icl_prompt of 'set.json' holds half of a character",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_row(content, sentence):
    written(content)
    with pytest.raises(GenomeError) as raised:
        list(made(ChoiceQuestions, file="set.json").items())
    assert sentence in str(raised.value)
