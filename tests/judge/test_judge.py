"""``judge:``: what a model answers is rated by another one, which a script plays on loopback."""

from __future__ import annotations

import pytest

from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.judge import remote_judge
from evomerge.foundations.errors import EvaluationError, RunError
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from tests.judge.judge_files import QUESTIONS, judge_task, letters, write_judge_files
from tests.scripted_llm import Script, completion, served


@pytest.fixture
def folder(tmp_path):
    return write_judge_files(tmp_path)


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch):
    monkeypatch.setattr(remote_judge, "FIRST_WAIT", 0.001)


def made(*tasks, run_dir=None, **settings):
    tasks = [Task.model_validate(one) for one in tasks]
    evaluator = evaluator_for(tasks, EvaluationBlock(**settings), ENGINES["transformers"])
    evaluator.prepare()
    evaluator.keep_in(run_dir)
    return evaluator


def test_answers_are_rated_turn_by_turn_in_the_prompts_of_the_file(folder, live_model):
    script = Script(letters)
    with served(script) as url:
        evaluation = made(judge_task(folder, url)).evaluate(live_model)
    asked = {one["messages"][0]["content"]: one for one in script.asked}
    assert len(script.asked) == 4  # two turns, and one of each other question
    assert set(asked) == {
        "you are single-v1",
        "you are single-v1-multi-turn",
        "you are single-math-v1",
    }
    assert asked["you are single-math-v1"]["messages"][1]["content"].endswith(" | sixty")
    second = asked["you are single-v1-multi-turn"]["messages"][1]["content"]
    question, answer, again, _ = second.split(" | ")
    assert (question, again) == tuple(QUESTIONS[0]["turns"])
    assert answer in [one["messages"][1]["content"].split(" | ")[1] for one in script.asked]
    assert asked["you are single-v1"]["temperature"] == 0.0
    main = evaluation.metrics[0]
    assert (str(main.key), main.n, main.higher_is_better) == ("judged/rating,none", 3, True)
    assert 1 <= main.value <= 10
    assert main.stderr > 0
    first = evaluation.documents[0]
    turns = [first.values[f"{name}_turn,none"] for name in ("first", "second")]
    assert first.values["rating,none"] == sum(turns) / 2
    assert first.values["prompt_tokens,none"] == 600
    assert "[answer 1]\n" in first.answer
    assert f"[judgment: {turns[1]:g}]\nI count." in first.answer
    assert [one.doc_id for one in evaluation.documents] == [0, 1, 2]
    assert evaluation.samples[0].prompt.startswith("the quick brown")


def test_a_judgment_is_asked_for_once_in_a_run_and_found_again(folder, live_model, tmp_path):
    script, task = Script(letters), {"url": ""}
    with served(script) as url:
        task = judge_task(folder, url)
        evaluator = made(task, run_dir=tmp_path / "run")
        first = evaluator.evaluate(live_model)
        assert evaluator.evaluate(live_model) == first
        assert made(task, run_dir=tmp_path / "run").evaluate(live_model) == first
        assert len(script.asked) == 4
        made(task, run_dir=tmp_path / "other").evaluate(live_model)
        assert len(script.asked) == 8


def test_a_rating_that_cannot_be_had_is_missing_and_too_many_fail_the_trial(folder, live_model):
    def says(text):
        if "pack my box" in text:
            return (200, completion(None, refusal="no"))
        return "Rating: [[11]]" if "sixty" in text else letters(text)

    with served(Script(says)) as url:
        task = judge_task(folder, url, most_missing=0.7)
        found = made(task).evaluate(live_model)
        told = r"2 of 3 documents of 'judged' have no rating: .*refusal \(1\).*; 50% may have none"
        with pytest.raises(EvaluationError, match=told):
            made(judge_task(folder, url, most_missing=0.5)).evaluate(live_model)
    assert found.metrics[0].n == 1
    assert "rating,none" not in found.documents[1].values
    assert "[judgment: a rating outside [1, 10]]\nRating: [[11]]" in found.documents[1].answer
    assert "[judgment: refusal]" in found.documents[2].answer


def test_failures_that_pass_are_asked_again_as_the_server_wishes(folder, live_model):
    script = Script((429, {"error": "slow"}), None, (503, {}), letters)
    script.extra["Retry-After"] = "0"
    with served(script) as url:
        found = made(judge_task(folder, url, parallel=1)).evaluate(live_model)
    assert found.metrics[0].n == 3
    assert len(script.headers) == 7


@pytest.mark.parametrize("status", [401, 404, 503])
def test_where_no_judgment_can_be_had_the_run_stops(folder, live_model, status):
    with served(Script((status, {"error": "go away"}))) as url:
        task = judge_task(folder, url, attempts=2)
        with pytest.raises(RunError, match=f"judge strict at .* no .*status {status}: go"):
            made(task).evaluate(live_model)
