"""Files, keys and servers of ``judge:`` before a run: everything that is wrong, in sentences."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from evomerge.evaluators.asking.asking_kind import Around
from evomerge.evaluators.judge.judge_settings import JudgeSettings
from evomerge.evaluators.judge.judge_task import Judge
from evomerge.evaluators.judge.prompt_file import prompts_in
from evomerge.evaluators.judge.question_file import questions_in
from evomerge.evaluators.judge.rating import UnreadableReplyError, rating_in, share_in
from evomerge.foundations.errors import GenomeError
from evomerge.genome.task_blocks import Task
from tests.judge.judge_files import (
    PROMPTS,
    QUESTIONS,
    judge_evaluator,
    judge_task,
    prompt,
    with_letters_judge,
    write_judge_files,
    write_rows,
)
from tests.scripted_llm import Script, served

A, B, C = QUESTIONS


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({**A, "question_id": None}, "has None under 'question_id'"),
        ({**A, "question_id": True}, "has True under 'question_id'"),
        ({**B, "question_id": 1}, "has the question_id '1' a second time"),
        ({**B, "category": " "}, "has no text under 'category', got ' ', expected one that"),
        (
            {**B, "turns": []},
            r"has \[\] under 'turns', expected a list of one or two texts \(question 2\)",
        ),
        ({**B, "turns": ["a", " "]}, r"has \['a', ' '\] under 'turns'"),
        ({**B, "turns": ["a", "b", "c"]}, r"has \['a', 'b', 'c'\] under 'turns', expected"),
        ({**B, "turns": "a"}, "has 'a' under 'turns'"),
        ({"question_id": 2, "category": "math"}, "has no 'turns', expected a list of one"),
        ({**B, "turns": ["\ud800"]}, r"has .* under 'turns'"),
        (
            {**B, "turns": ["a", "b"], "reference": ["c"]},
            r"has \['c'\] under 'reference', expected a list with a text for each of its turns",
        ),
        ({**B, "reference": "c"}, "has 'c' under 'reference', expected"),
        ([], "has no 'question_id'"),
    ],
)
def test_lines_that_are_no_questions_are_named(tmp_path, row, told):
    file = write_rows(tmp_path / "q.jsonl", [A, row, {"question_id": 9}])
    with pytest.raises(GenomeError, match=f"line 2 of .*q.jsonl' {told}") as raised:
        questions_in(str(file))
    assert "line 3 of" in str(raised.value)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"name": "x"}, "has no text under 'type', 'system_prompt', 'prompt_template', 'output"),
        (PROMPTS[0], "has the name 'single-v1' a second time"),
        (prompt("x", "{question"), "has a prompt_template that is none: expected '}'"),
        (prompt("x", "{question.x}"), "has a prompt_template that is none: {question.x} is no"),
        (prompt("x", "{}"), "is no name of a place; write {{ for a brace"),
        (prompt("x", "{a!r}"), "is no name of a place"),
    ],
)
def test_lines_that_are_no_prompts_are_named(tmp_path, row, told):
    file = write_rows(tmp_path / "p.jsonl", [PROMPTS[0], row])
    with pytest.raises(GenomeError) as raised:
        prompts_in(str(file))
    assert "line 2 of" in str(raised.value)
    assert told in str(raised.value)


def test_braces_of_answers_mean_nothing(tmp_path):
    file = write_rows(tmp_path / "p.jsonl", [prompt("x", "{{a}} {answer}", system_prompt="")])
    (message,) = prompts_in(str(file))["x"].filled({"answer": "{question} {{}"})
    assert message == ("user", "{a} {question} {{}")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"prompts": PROMPTS[1:]}, "has no prompt 'single-v1'; did you mean 'single-math-v1'"),
        (
            {"prompts": [prompt("single-v1", "{answer} {ref_answer_1}"), *PROMPTS[1:]]},
            "prompt 'single-v1' has a place {ref_answer_1} without a value (there are: question, a",
        ),
        (
            {"prompts": [prompt("single-v1", "{answer}", output_format="[[A]]"), *PROMPTS[1:]]},
            "prompt 'single-v1' has the output_format '[[A]]', expected '[[rating]]'",
        ),
        (
            {"prompts": [prompt("single-v1", "{question} {{answer}}"), *PROMPTS[1:]]},
            "prompt 'single-v1' has no place {answer}: the judge would not see what it rates",
        ),
        (
            {"prompts": [prompt("single-v1-multi-turn", "{answer_1}"), *PROMPTS[:1], *PROMPTS[2:]]},
            "prompt 'single-v1-multi-turn' has no place {answer_2}",
        ),
    ],
)
def test_prompts_that_do_not_fit_the_questions_are_told_where_they_stand(tmp_path, changed, told):
    folder = write_judge_files(tmp_path, **changed)
    with pytest.raises(GenomeError) as raised:
        judge_evaluator(judge_task(folder))
    assert [one.where for one in raised.value.problems] == ["tasks[0].judge.prompts"]
    assert told in str(raised.value)


def test_all_that_is_wrong_with_files_is_told_at_once(tmp_path):
    folder = write_judge_files(tmp_path, questions=[A, A], prompts=[{}])
    task = judge_task(folder, references="none.jsonl", opponent="gone.jsonl")
    with pytest.raises(GenomeError) as raised:
        judge_evaluator(task)
    places = [one.where.rpartition(".")[2] for one in raised.value.problems]
    assert places == ["questions", "prompts", "references", "opponent"]


def test_references_are_those_of_categories_that_are_judged_by_them(tmp_path):
    rows = [{**QUESTIONS[0], "reference": ["one", "two"]}, QUESTIONS[1]]
    task = Task.model_validate(judge_task(write_judge_files(tmp_path, questions=rows)))
    found = [item.content.references for item in Judge(task, Around()).items()]
    assert found == [(), ("sixty",)]


def test_an_opponent_has_an_answer_to_every_turn(tmp_path):
    folder = write_judge_files(tmp_path)
    rows = [{"question_id": n, "choices": [{"turns": ["well"]}]} for n in (1, 2)]
    task = judge_task(folder, opponent=str(write_rows(tmp_path / "o.jsonl", rows)))
    with pytest.raises(GenomeError, match=r"o\.jsonl' lacks answers to questions 1, c3"):
        judge_evaluator(task)


def test_prompts_of_contests_show_both_answers(tmp_path):
    pair = [prompt("pair-v2", "{answer_a}"), *(one for one in PROMPTS if one["name"] != "pair-v2")]
    folder = write_judge_files(tmp_path, questions=[C], prompts=pair)
    rows = [{"question_id": "c3", "choices": [{"turns": ["well"]}]}]
    task = judge_task(folder, opponent=str(write_rows(tmp_path / "o.jsonl", rows)))
    with pytest.raises(GenomeError, match=r"prompt 'pair-v2' has no place {answer_b}: the judge"):
        judge_evaluator(task)


def told(evaluator):
    return {one.problem.where: (one.severity.value, str(one)) for one in evaluator.findings()}


def test_check_tells_of_categories_references_keys_and_servers(tmp_path, monkeypatch):
    monkeypatch.delenv("JUDGE_API_KEY", raising=False)
    odd = [{**A, "category": "writting"}, {**B, "reference": None}]
    folder = write_judge_files(tmp_path, questions=odd)
    away = judge_task(
        folder,
        "http://judge.example.org/v1",
        api_key_env="JUDGE_API_KEY",
        temperatures={"maths": 1},
        referenced=["coding", "mth", "math"],
    )
    found = told(judge_evaluator(away))
    where = "tasks[0].judge."
    assert "JUDGE_API_KEY is not set" in found[f"{where}api_key_env"][1]
    assert found[f"{where}api_key_env"][0] == "error"
    assert "in the clear" in found[f"{where}base_url"][1]
    assert "did you mean 'math'" in found[f"{where}temperatures.maths"][1]
    assert "no question has the category 'mth'; did you" in found[f"{where}referenced[1]"][1]
    assert f"{where}referenced[0]" not in found
    assert "by 3 requests" in found[f"{where}model"][1]
    both = [str(one) for one in judge_evaluator(away).findings()]
    assert any("did you mean 'writing'" in one and "is answered at" in one for one in both)
    assert any("1 question of math has no reference answer" in one for one in both)


def test_check_asks_the_server_for_a_sign_of_life(tmp_path):
    folder = write_judge_files(tmp_path)
    (dead,) = [v for v in told(judge_evaluator(judge_task(folder))).values() if v[0] == "error"]
    assert "tasks[0].judge.base_url: http://127.0.0.1:9/v1: no answer (Connect" in dead[1]
    script = Script((200, {"data": [{"id": "stricter"}]}))
    with served(script) as url:
        found = [str(one) for one in judge_evaluator(judge_task(folder, url)).findings()]
        assert not script.asked
    assert any("lists no model 'strict'; did you mean 'stricter'" in one for one in found)
    with with_letters_judge():
        task = judge_task(folder, repeats=2)
        (only,) = judge_evaluator(task).findings()
    assert (only.severity.value, "by 8 requests" in str(only)) == ("note", True)


@pytest.mark.parametrize(
    ("reply", "rating"),
    [("[[7]]", 7.0), ("like [[5]]. Rating: [[ 8.5 ]].", 8.5), ("[[10]] [1]", 10.0)],
)
def test_the_last_rating_of_a_reply_counts(reply, rating):
    assert rating_in(reply) == rating


@pytest.mark.parametrize("reply", ["", "7", "[7]", "[[8/10]]", "[[0]]", "[[10.5]]", "[[-3]]"])
def test_what_is_no_rating_is_none(reply):
    with pytest.raises(UnreadableReplyError):
        rating_in(reply)


def test_verdicts_of_contests_are_read():
    assert [share_in(f"so [[{one}]]") for one in "ACB"] == [1.0, 0.5, 0.0]
    with pytest.raises(UnreadableReplyError):
        share_in("[[D]] A")


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"prompt_price": 1}, "prompt_price|completion_price"),
        ({"most_missing": 1}, "most_missing"),
        ({"temperatures": {"math": 3}}, "temperatures"),
        ({"api_key_env": "sk-abc"}, "api_key_env"),
        ({"extra_body": {"api_key": "x"}}, "extra_body"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"parallel": 0}, "parallel"),
        ({"attempts": 100_000_000}, "attempts"),
        ({"repeats": True}, "repeats"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, place):
    given = {"questions": "q", "prompts": "p", "model": "m", **settings}
    with pytest.raises(ValidationError, match=place):
        JudgeSettings.model_validate(given)


_TALK = "### User:\n{question_1}\n\n### Assistant A:\n{answer_1}\n\n### User:\n{question_2}\n\n"
_TOLD = "### Reference answer:\n{ref_answer_1}\n\n{ref_answer_2}\n\n"
_PAIR = "{question_1} {question_2} {answer_a_1} {answer_b_1} {answer_a_2} {answer_b_2}"
FASTCHAT = {  # the prompts that it has, with their places
    "pair-v2": "[User Question]\n{question}\n[A]\n{answer_a}\n[B]\n{answer_b}",
    "pair-v2-multi-turn": _PAIR,
    "pair-math-v1": "{question} {ref_answer_1} {answer_a} {answer_b}",
    "pair-math-v1-multi-turn": f"{_TOLD}{_PAIR}",
    "single-v1": "[Question]\n{question}\n\n[The Start]\n{answer}\n[The End]",
    "single-math-v1": "[Question]\n{question}\n\n{ref_answer_1}\n\n{answer}",
    "single-v1-multi-turn": f"{_TALK}{{answer_2}}",
    "single-math-v1-multi-turn": f"{_TOLD}{_TALK}{{answer_2}}",
}


@pytest.mark.parametrize("is_pair", [False, True])
def test_files_of_the_form_of_fastchat_are_read_as_they_are(tmp_path, is_pair):
    turns = ["Two and two?", "And two more?"]
    questions = [
        {"question_id": 81, "category": "writing", "turns": turns},
        {"question_id": 111, "category": "math", "turns": turns, "reference": ["4", "6"]},
    ]
    prompts = [
        prompt(name, place, description="Prompt for questions") for name, place in FASTCHAT.items()
    ]
    folder = write_judge_files(tmp_path, questions=questions, prompts=prompts)
    answers = [
        {
            "question_id": one["question_id"],
            "answer_id": "Qx7",
            "model_id": "vicuna",
            "choices": [{"index": 0, "turns": ["Four.", "Six."]}],
            "tstamp": 1686000000.25,
        }
        for one in questions
    ]
    file = str(write_rows(tmp_path / "vicuna.jsonl", answers))
    given = {"opponent": file} if is_pair else {"references": file}
    evaluator = judge_evaluator(judge_task(folder, probe=False, **given))
    (told,) = evaluator.findings()  # no more than a note
    assert f"judges all questions once by {8 if is_pair else 4} requests" in str(told)
