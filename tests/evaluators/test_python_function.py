"""A Python function of the user's as judge: what it is given, what it returns, how it fails."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from evomerge.evaluators.asking import language_gate
from evomerge.evaluators.built_model import BuiltModel
from evomerge.evaluators.composite import evaluator_for
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, GenomeError, RunError, TrialTimeoutError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from tests.evaluators.ended_processes import has_gone

MODULE = """
import json, math, os, sys, time

PROMPTS = ["the quick brown", "a lazy dog", "five dozen jugs"]
print("imported")


def length(model, documents=None):
    prompts = PROMPTS if documents is None else [one["prompt"] for one in documents]
    return [len(text) for text in model.generate(prompts, max_tokens=5)]


def everything(model):
    import numpy
    chat = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"}]
    first, again = model.generate([PROMPTS[0], chat], max_tokens=4, stop="zzz")
    drawn = model.generate([PROMPTS[0]] * 2, max_tokens=4, temperature=3.0, draw=1)
    likely, = model.next_token_probabilities([PROMPTS[1]], top=5)
    ours, theirs = model.loglikelihoods([(PROMPTS[1], next(iter(likely))), (PROMPTS[1], " dog")])
    assert drawn[0] == drawn[1] and model.generate([]) == []
    assert list(likely.values()) == sorted(likely.values(), reverse=True) and len(likely) == 5
    return {"score": numpy.float32(0.5), "prompt": "p", "target": "t",
            "answer": json.dumps([first, again, likely, theirs])}


calls = 0


def fewer_each_time(model):
    global calls
    calls += 1
    return [1.0] * (4 - calls)


def children(model):
    global calls
    calls += 1
    if calls == 1:
        return 1.0
    pid = os.fork()
    if not pid:
        time.sleep(600)
    open("child", "w").write(str(pid))
    time.sleep(600)


def sleeper(model):
    with open("there", "w") as file:
        file.write(str(os.getpid()))
    os.rename("there", "here")
    time.sleep(600)


FAILING = {
    "nan": lambda: math.nan,
    "text": lambda: ["good"],
    "nothing": lambda: [],
    "none": lambda: None,
    "raises": lambda: {}["none"],
    "exits": lambda: sys.exit(3),
    "dies": lambda: os._exit(4),
    "strange": lambda: {1, 2},
    "beyond": lambda: [0.5, 1.5],
    "endless": lambda: 10**400,
}
ASKING = {
    "half": lambda model: model.generate(["a\\ud800"]),
    "half_after": lambda model: model.loglikelihoods([("a", "\\udc00")]),
    "no_stop": lambda model: model.generate(["a"], stop=["b", ""]),
    "frost": lambda model: model.generate(["a"], temperature=-1),
    "nowhere": lambda model: model.generate(["a"], temperature=math.nan),
    "robot": lambda model: model.generate([[{"role": "robot", "content": "a"}]]),
}


def __getattr__(name):
    return lambda model: ASKING[name](model) if name in ASKING else FAILING[name]()
"""


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULE)
    rows = [{"prompt": text} for text in ("one dog", "two", "three jugs", "four")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)


def made(*given, allowed=True):
    return evaluator_for(
        [Task.model_validate(one) for one in given],
        EvaluationBlock(),
        ENGINES["transformers"],
        permissions=Permissions(code=allowed),
    )


def test_scores_are_metrics_documents_and_samples(live_model):
    rows = {"python": {"run": "mine:length", "documents": "rows.jsonl", "name": "rows"}}
    evaluator = made({"python": "mine:length"}, {**rows, "samples": [2, 0]})
    keys, found = evaluator.prepare(), evaluator.evaluate(live_model)
    assert [str(key) for key in keys] == ["mine:length/score,none", "rows/score,none"]
    by_task = {
        name: [one for one in found.documents if one.task == name]
        for name in ("mine:length", "rows")
    }
    assert [one.doc_id for one in by_task["mine:length"]] == [0, 1, 2]
    assert [one.doc_id for one in by_task["rows"]] == [0, 2]
    for one in found.documents:
        assert one.values == {"score,none": len(one.answer)}
    own = found.metrics[0]
    values = [one.values["score,none"] for one in by_task["mine:length"]]
    assert (own.value, own.n, own.higher_is_better) == (sum(values) / 3, 3, True)
    assert own.stderr is not None
    assert found.samples[0].prompt == "the quick brown"
    assert found == evaluator.evaluate(live_model)  # in the process that lives on


def test_of_a_reply_in_another_language_a_function_is_told_nothing(live_model, monkeypatch):
    task = {"run": "mine:length", "documents": "rows.jsonl", "name": "rows"}
    plain = made({"python": task})
    plain.prepare()
    replies = [one.answer for one in plain.evaluate(live_model).documents]
    assert len({*replies}) == len(replies)
    monkeypatch.setattr(
        language_gate, "other_language", lambda text, wanted: "de" if text == replies[1] else None
    )
    gated = made({"python": {**task, "language": "ja"}}, {"python": "mine:everything"})
    gated.prepare()
    found = gated.evaluate(live_model)
    documents = [one for one in found.documents if one.task == "rows"]
    assert [one.values["score,none"] for one in documents] == [
        0 if reply == replies[1] else len(reply) for reply in replies
    ]
    assert [one.values["in_language,none"] for one in documents] == [1, 0, 1, 1]
    assert documents[1].answer == f"{replies[1]} (in de, expected ja)"
    assert gated.identity() != plain.identity()


def test_replies_that_belong_to_no_document_have_no_language_of_one(live_model):
    evaluator = made({"python": {"run": "mine:everything", "language": ["en", "ja"]}})
    evaluator.prepare()
    assert {*evaluator.evaluate(live_model).documents[0].values} == {"score,none"}


def test_a_built_model_is_judged_alike_by_transformers(live_model, model_folder):
    evaluator = made(
        {"python": "mine:length"}, {"python": {"run": "mine:everything", "repeatable": False}}
    )
    evaluator.prepare()
    built = BuiltModel(model_folder, EvaluationBlock(), "cpu", 1)
    documents, _ = evaluator.score_folder(built, lambda share: None)
    assert list(documents) == [
        one for one in evaluator.evaluate(live_model).documents if one.task == "mine:length"
    ]
    assert evaluator.unverifiable == {"python"}


def test_a_function_may_ask_everything(live_model):
    evaluator = made({"python": "mine:everything"})
    evaluator.prepare()
    found = evaluator.evaluate(live_model)
    (document,) = found.documents
    first, again, likely, theirs = json.loads(document.answer)
    assert first
    assert again
    assert 0 < sum(likely.values()) < 1
    assert theirs < 0
    assert (found.samples[0].prompt, found.samples[0].target) == ("p", "t")


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("nan", "score 0 is nan, expected a finite number"),
        ("text", "score 0 is 'good', expected a number"),
        ("none", "nothing came back, expected a number, or a list"),
        ("nothing", "0 scores came back, expected at least one"),
        ("raises", r"mine:raises raised KeyError: 'none' \(mine.py, line \d+\)"),
        ("exits", "mine:exits raised SystemExit: 3"),
        ("dies", r"mine:dies ended with exit status 4 \(imported\)"),
        ("strange", "raised TypeError: it returned a set, expected numbers"),
        ("beyond", r"score 1 is 1.5, outside \[0, 1\]"),
        ("endless", "score 0 is 1000.*, expected a finite number"),
        ("half", r"raised UnicodeEncodeError: .*surrogates not allowed \(mine.py, line \d+\)"),
        ("half_after", "raised UnicodeEncodeError: "),
        ("no_stop", r"raised ValueError: stop is \['b', ''\], expected texts that are not empty"),
        ("frost", "raised ValueError: temperature is -1, expected a number from 0"),
        ("nowhere", "raised ValueError: temperature is nan, expected a number from 0"),
        ("robot", r"raised ValueError: roles are \['robot'\], expected system, user, assistant"),
    ],
)
def test_a_function_that_fails_is_told(live_model, function, sentence):
    own = {"run": f"mine:{function}", "low": 0, "high": 1, "name": "own"}
    evaluator = made({"python": own})
    evaluator.prepare()
    with pytest.raises(EvaluationError, match=f"^own: .*{sentence}"):
        evaluator.evaluate(live_model)


def test_scores_of_every_model_are_as_many(live_model):
    evaluator = made({"python": "mine:fewer_each_time"})
    evaluator.prepare()
    evaluator.evaluate(live_model)
    with pytest.raises(EvaluationError, match="2 scores came back, expected 3"):
        evaluator.evaluate(live_model)


def test_what_does_not_end_ends_with_the_deadline_and_all_it_started(live_model, tmp_path):
    evaluator = made({"python": "mine:children"})
    evaluator.prepare()
    evaluator.evaluate(live_model)  # the process is there now
    with pytest.raises(TrialTimeoutError, match="took longer than 1 seconds"):
        evaluator.evaluate(live_model, Deadline(1.0))
    pid = int((tmp_path / "child").read_text())
    assert has_gone(pid)
    assert evaluator.evaluate(live_model).metrics[0].value == 1.0  # in another one


@pytest.fixture
def interrupted_there(tmp_path):
    """Sends Ctrl-C to this process once the function is at work."""

    def send():
        while not (tmp_path / "here").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    return threading.Thread(target=send, daemon=True)


def test_who_interrupts_a_run_waits_for_no_function(live_model, tmp_path, interrupted_there):
    evaluator = made({"python": "mine:sleeper"})
    evaluator.prepare()
    interrupted_there.start()
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(live_model)
    pid = int((tmp_path / "here").read_text())
    assert has_gone(pid)


def test_nothing_is_run_without_permission_and_all_mistakes_are_told(tmp_path):
    (tmp_path / "evil.py").write_text("open('ran', 'w')\ndef judge(model): ...\nnumber = 3\n")
    (tmp_path / "rows.py").write_text("def judge(model, rows): ...\n")
    with pytest.raises(GenomeError) as raised:
        made(
            {"python": "evil:judge"},
            {"python": "evil:jugde"},
            {"python": "evil.more:judge"},
            {"python": "evil"},
            {"python": {"run": "evil:judge", "name": "b", "documents": "none.jsonl"}},
            {"python": "evil:number"},
            {"python": {"run": "evil:judge", "name": "c", "documents": "rows.jsonl"}},
            {"python": "rows:judge"},
            {"python": "os:system"},
            allowed=False,
        ).prepare()
    told = list(map(str, raised.value.problems))
    assert (
        "tasks[0].python: would run evil:judge, which needs permission. Add --allow-code" in told[0]
    )
    assert "tasks[1].python: evil.py has no function 'jugde'; did you mean 'judge'" in told[1]
    assert any("tasks[2].python: there is no Python module 'evil.more'" in one for one in told)
    assert any(
        "tasks[3].python: got 'evil', expected package.module:function" in one for one in told
    )
    assert any("tasks[4].python.documents: no file 'none.jsonl'" in one for one in told)
    assert any("tasks[5].python: evil.py has no function 'number'" in one for one in told)
    with_rows, without = "cannot be called with a model and its doc", "with a model alone, without"
    assert any(f"tasks[6].python: evil:judge {with_rows}" in one for one in told)
    assert any("tasks[8].python: 'os' is Python's own" in one for one in told)
    assert any(f"tasks[7].python: rows:judge cannot be called {without}" in one for one in told)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "other",
    [
        {"run": "mine:everything"},
        {"run": "mine:length", "higher_is_better": False},
        {"run": "mine:length", "low": 0},
        {"run": "mine:length", "high": 9},
    ],
)
def test_another_function_direction_or_range_is_another_task(other):
    plain, own = made({"python": {"run": "mine:length", "name": "x"}}), {"name": "x", **other}
    assert plain.identity() != made({"python": own}).identity()
    assert plain.identity() == made({"python": {"run": "mine:length", "name": "x"}}).identity()


def test_the_code_is_part_of_what_scores_stand_on(live_model, tmp_path):
    task = {"python": "mine:length"}
    before, again = made(task), made(task)
    before.prepare(), again.prepare()
    assert before.identity() == again.identity()
    (tmp_path / "mine.py").write_text(MODULE + "\n# changed\n")
    after = made(task)
    after.prepare()
    assert before.identity() != after.identity()
    with pytest.raises(
        RunError, match=r"mine:length: mine.py is not what it was when the run began"
    ):
        before.evaluate(live_model)


def test_a_worker_that_is_built_anew_is_held_to_what_the_run_began_with(live_model, tmp_path):
    task = {"python": {"run": "mine:length", "documents": "rows.jsonl"}}
    first, same, later = made(task), made(task), made(task)
    first.prepare()
    for one in (first, same, later):
        one.hold_to(first.identity())
    assert same.evaluate(live_model) == first.evaluate(live_model)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "five"}\n')
    for _ in range(2):
        with pytest.raises(RunError, match=r"task python: .* is not what it was when the run"):
            later.evaluate(live_model)
