"""``judge:``: what a model answers is rated by another one, which a script plays on loopback."""

from __future__ import annotations

import itertools

import pytest

from evomerge.evaluators.asking import language_gate
from evomerge.evaluators.asking.respondent import EngineRespondent
from evomerge.evaluators.judge import remote_judge
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, RunError, TrialTimeoutError
from evomerge.inference import ENGINES
from tests.judge.judge_files import (
    QUESTIONS,
    judge_evaluator,
    judge_task,
    letters,
    with_letters_judge,
    write_judge_files,
    write_rows,
)
from tests.scripted_llm import Script, completion, served, slow


@pytest.fixture
def folder(tmp_path):
    return write_judge_files(tmp_path)


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch):
    monkeypatch.setattr(remote_judge, "FIRST_WAIT", 0.001)


def test_answers_are_rated_turn_by_turn_in_the_prompts_of_the_file(folder, live_model):
    script = Script(letters)
    with served(script) as url:
        evaluation = judge_evaluator(judge_task(folder, url)).evaluate(live_model)
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
        evaluator = judge_evaluator(task, run_dir=tmp_path / "run")
        first = evaluator.evaluate(live_model)
        assert evaluator.evaluate(live_model) == first
        assert judge_evaluator(task, run_dir=tmp_path / "run").evaluate(live_model) == first
        assert len(script.asked) == 4
        judge_evaluator(task, run_dir=tmp_path / "other").evaluate(live_model)
        assert len(script.asked) == 8


def test_a_rating_that_cannot_be_had_is_missing_and_too_many_fail_the_trial(folder, live_model):
    def says(text):
        if "pack my box" in text:
            return (200, completion(None, refusal="no"))
        return "Rating: [[11]]" if "sixty" in text else letters(text)

    with served(Script(says)) as url:
        task = judge_task(folder, url, most_missing=0.7)
        found = judge_evaluator(task).evaluate(live_model)
        told = r"2 of 3 documents of 'judged' have no rating: .*refusal \(1\).*; 50% may have none"
        with pytest.raises(EvaluationError, match=told):
            judge_evaluator(judge_task(folder, url, most_missing=0.5)).evaluate(live_model)
    assert found.metrics[0].n == 1
    assert "rating,none" not in found.documents[1].values
    assert "[judgment: a rating outside [1, 10]]\nRating: [[11]]" in found.documents[1].answer
    assert "[judgment: refusal]" in found.documents[2].answer


def test_half_of_the_ratings_may_be_missing_where_half_may_be_and_one_of_two_turns_is_none(
    folder, live_model
):
    def says(text):
        return "so so" if "a lazy dog" in text else letters(text)

    with served(Script(says)) as url:
        task = judge_task(folder, url, most_missing=0.5)
        found = judge_evaluator({**task, "samples": [0, 2]}).evaluate(live_model)
    assert found.metrics[0].n == 1
    assert "rating,none" not in found.documents[0].values
    assert "rating,none" in found.documents[1].values


def test_failures_that_pass_are_asked_again_as_the_server_wishes(folder, live_model):
    script = Script((429, {"error": "slow"}), None, (503, {}), letters)
    script.extra["Retry-After"] = "0"
    with served(script) as url:
        found = judge_evaluator(judge_task(folder, url, parallel=1)).evaluate(live_model)
    assert found.metrics[0].n == 3
    assert len(script.headers) == 7


@pytest.mark.parametrize("status", [401, 404, 503])
def test_where_no_judgment_can_be_had_the_run_stops(folder, live_model, status):
    with served(Script((status, {"error": "go away"}))) as url:
        task = judge_task(folder, url, attempts=2)
        with pytest.raises(RunError, match=f"judge strict at .* no .*status {status}: go"):
            judge_evaluator(task).evaluate(live_model)


def test_second_turns_see_the_first_answer_in_the_models_own_template(folder, chat_model):
    heard = []
    template = chat_model.tokenizer.apply_chat_template

    def listen(messages, **settings):
        heard.append(list(messages))
        return template(messages, **settings)

    chat_model.tokenizer.apply_chat_template = listen
    with with_letters_judge():
        evaluation = judge_evaluator(judge_task(folder)).evaluate(chat_model)
    (second,) = [one for one in heard if len(one) == 3]
    assert [one["role"] for one in second] == ["user", "assistant", "user"]
    assert [second[0]["content"], second[2]["content"]] == QUESTIONS[0]["turns"]
    first = evaluation.documents[0].answer.partition("\n\n[judgment")[0]
    assert first == f"[answer 1]\n{second[1]['content']}"


def test_categories_have_their_temperatures(folder, live_model):
    seen = []

    class Watched(ENGINES["transformers"]):
        def generate(self, asked):
            seen.extend(asked)
            return super().generate(asked)

    with with_letters_judge():
        evaluator = judge_evaluator(judge_task(folder, temperatures={"extraction": 1.5}))
        evaluator.engine = Watched
        evaluator.evaluate(live_model)
    sampling = [one.generation.sampling.get("temperature", 0) for one in seen]
    assert sorted(sampling) == [0, 0.7, 0.7, 1.5]  # math, writing twice, extraction


def test_an_opponent_is_met_in_both_orders(folder, live_model, tmp_path):
    def first_wins(text):  # a judge that looks at the order alone
        return "[[A]]" if "pack my box" in text else ("[[A]]" if "A well" in text else "[[B]]")

    rows = [
        {"question_id": q["question_id"], "choices": [{"turns": ["well", "so"]}]} for q in QUESTIONS
    ]
    opponent = str(write_rows(tmp_path / "opponent.jsonl", rows))
    script = Script(first_wins)
    with served(script) as url:
        found = judge_evaluator(judge_task(folder, url, opponent=opponent)).evaluate(live_model)
    assert len(script.asked) == 8
    values = [one.values["win_rate,none"] for one in found.documents]
    assert values == [0.0, 0.0, 0.5]
    assert str(found.metrics[0].key) == "judged/win_rate,none"


def test_repeats_are_judgments_of_their_own_with_a_standard_error(folder, live_model):
    turn = itertools.count()

    def says(text):
        return f"[[{4 + 2 * (next(turn) % 2)}]]"

    with served(Script(says)) as url:
        task = judge_task(folder, url, repeats=2, parallel=1, prompt_price=2, completion_price=10)
        found = judge_evaluator(task).evaluate(live_model)
    assert [one.values["rating,none"] for one in found.documents] == [5.0] * 3
    assert [one.values["judge_stderr,none"] for one in found.documents] == [1.0] * 3
    assert found.documents[1].values["cost,none"] == 2 * (300 * 2 + 20 * 10) / 1e6
    assert found.documents[1].answer.count("[judgment: ") == 2


def test_a_trial_that_is_out_of_time_waits_no_longer_for_its_judge(folder, live_model):
    script = Script()
    script.answers = [slow(script)]
    with served(script) as url:
        evaluator = judge_evaluator(judge_task(folder, url))
        with pytest.raises(TrialTimeoutError):
            evaluator.evaluate(live_model, Deadline(0.2))


def test_an_interrupt_waits_for_no_judgment(folder, live_model, monkeypatch):
    script = Script()
    script.answers = [slow(script)]
    with served(script) as url:
        evaluator = judge_evaluator(judge_task(folder, url))
        generate = EngineRespondent.answers

        def interrupted(self, asked, turn):
            if turn:  # the first answers are with the judge
                raise KeyboardInterrupt
            return generate(self, asked, turn)

        monkeypatch.setattr(EngineRespondent, "answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate(live_model)


def test_servers_with_one_name_of_a_model_are_two_judges(folder, live_model, tmp_path):
    with (
        served(Script((200, completion("[[2]]")))) as one,
        served(Script((200, completion("[[9]]")))) as other,
    ):
        tasks = [judge_task(folder, url, name=name) for name, url in (("a", one), ("b", other))]
        found = judge_evaluator(*tasks, run_dir=tmp_path / "run").evaluate(live_model)
        again = judge_evaluator(tasks[1], run_dir=tmp_path / "run").evaluate(live_model)
    assert [one.value for one in found.metrics[:2]] == [2.0, 9.0]
    assert again.metrics[0].value == 9.0


def test_a_run_stops_in_the_trial_in_which_its_key_is_refused(folder, live_model, tmp_path):
    script = Script(letters, letters, (401, {"error": "no credit"}))
    with served(script) as url:
        task = judge_task(folder, url, parallel=1)
        with pytest.raises(RunError, match="no credit"):
            judge_evaluator(task, run_dir=tmp_path).evaluate(live_model)
        script.answers = [letters]
        n_before = len(script.asked)
        judge_evaluator(task, run_dir=tmp_path).evaluate(live_model)
    assert len(script.asked) == n_before + 2  # of four, two were answered before


def test_a_judge_that_is_too_slow_for_one_answer_costs_that_rating_alone(folder, live_model):
    script = Script()

    def says(text):
        if "sixty" in text:
            script.is_over.wait()
        return letters(text)

    script.answers = [says]
    with served(script) as url:
        task = judge_task(folder, url, request_timeout=0.3, attempts=1, most_missing=0.5)
        found = judge_evaluator(task).evaluate(live_model)
    assert [len(one.values) > 2 for one in found.documents] == [True, False, True]
    assert "[judgment: time-out]" in found.documents[1].answer


def test_an_answer_in_another_language_is_paid_for_by_nobody(folder, live_model, monkeypatch):
    tell = lambda text, wanted: "en"  # noqa: E731
    monkeypatch.setattr(language_gate, "other_language", tell)
    script = Script(letters)
    with served(script) as url:
        evaluator = judge_evaluator(judge_task(folder, url, language="ja"))
        found = evaluator.evaluate(live_model)
    assert script.asked == []
    assert [one.values["rating,none"] for one in found.documents] == [1.0] * 3
    assert [one.values["in_language,none"] for one in found.documents] == [0.0] * 3
    assert all(one.answer.endswith(" (in en, expected ja)") for one in found.documents)
    assert found.samples[0].prompt == QUESTIONS[0]["turns"][0]


def test_what_was_paid_for_before_an_answer_in_another_language_stays(
    folder, live_model, monkeypatch
):
    script = Script(letters)
    with served(script) as url:
        plain = judge_evaluator(judge_task(folder, url)).evaluate(live_model)
    first, second = plain.documents[0].answer.split("\n\n[answer 2]\n")
    foreign = second.partition("\n\n[judgment: ")[0]
    calls = itertools.count(1)  # three first answers are looked at, then the second of the first
    tell = lambda text, wanted: "en" if next(calls) == 4 else None  # noqa: E731
    monkeypatch.setattr(language_gate, "other_language", tell)
    script = Script(letters)
    priced = {"prompt_price": 1, "completion_price": 10}
    with served(script) as url:
        task = judge_task(folder, url, language="ja", **priced)
        found = judge_evaluator(task).evaluate(live_model)
    assert len(script.asked) == 3
    values, others = found.documents[0].values, found.documents[1].values
    assert found.documents[0].answer == (f"{first}\n\n[answer 2]\n{foreign} (in en, expected ja)")
    assert (values["in_language,none"], others["in_language,none"]) == (0.0, 1.0)
    assert (values["rating,none"], values["second_turn,none"]) == (1.0, 1.0)
    assert values["first_turn,none"] == plain.documents[0].values["first_turn,none"] > 1
    for name in ("prompt_tokens,none", "completion_tokens,none", "cost,none"):
        assert values[name] == others[name] > 0
    assert {one.n for one in found.metrics if one.key.metric != "second_turn"} == {3}
