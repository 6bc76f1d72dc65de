"""Divergence from teachers: as plain transformers and the formula give it; asked for once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.evaluators import teacher_logits
from evomerge.evaluators.built_model import BuiltModel
from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.divergence import DivergenceSettings
from evomerge.foundations.errors import EvaluationError, GenomeError, RunError
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from tests.tiny_models import VOCAB_SIZE, tiny_model, tiny_tokenizer

TEXTS = {"a": ["the quick brown fox", "a lazy dog"], "b": ["pack my box with five dozen jugs"]}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    for seed, name in enumerate(TEXTS):
        tiny_model(folder / name, seed=seed + 5)
    return folder


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch, teachers):
    for name, texts in TEXTS.items():
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (tmp_path / f"{name}.jsonl").write_text(rows)
        (tmp_path / name).symlink_to(teachers / name)
    monkeypatch.chdir(tmp_path)
    teacher_logits._SHARED.clear()


def made(**settings):
    given = {"teachers": {name: f"{name}.jsonl" for name in TEXTS}, **settings}
    task = Task.model_validate({"divergence": given})
    evaluator = evaluator_for([task], EvaluationBlock(), ENGINES["transformers"])
    evaluator.prepare()
    return evaluator


def plainly(model, teacher, text, *, temperature=2.0, top_k=VOCAB_SIZE, max_tokens=512):
    """The formula, with a model of transformers each."""
    tokens = AutoTokenizer.from_pretrained(teacher).encode(text)[:max_tokens]
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(teacher)(torch.tensor([tokens])).logits[0]
        ours = model(torch.tensor([tokens])).logits[0]
    best = theirs.topk(top_k).indices
    p = (theirs.gather(1, best) / temperature).softmax(-1)
    q = (ours.gather(1, best) / temperature).softmax(-1)
    return float(temperature**2 * (p * (p / q).log()).sum(-1).mean())


@pytest.mark.parametrize(
    "settings", [{"top_k": VOCAB_SIZE}, {"top_k": 7, "temperature": 1.0, "max_tokens": 3}]
)
def test_it_is_the_mean_of_the_formula_over_places_and_documents(live_model, settings):
    found = made(**settings).evaluate(live_model)
    order = [("a", TEXTS["a"][0]), ("b", TEXTS["b"][0]), ("a", TEXTS["a"][1])]
    expected = [plainly(live_model.module, *one, **settings) for one in order]
    values = [one.values["divergence,none"] for one in found.documents]
    assert values == pytest.approx(expected, rel=1e-4)
    metrics = {one.key.metric: one for one in found.metrics}
    assert metrics["divergence"].value == pytest.approx(sum(expected) / 3, rel=1e-4)
    assert not metrics["divergence"].higher_is_better
    assert metrics["from_a"].value == pytest.approx((expected[0] + expected[2]) / 2, rel=1e-4)
    assert (metrics["from_b"].n, metrics["from_b"].stderr) == (1, None)


def test_a_teacher_is_not_apart_from_itself(live_model):
    live_model.module.load_state_dict(AutoModelForCausalLM.from_pretrained("a").state_dict())
    metrics = {one.key.metric: one.value for one in made().evaluate(live_model).metrics}
    assert metrics["from_a"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["from_b"] > 1e-3


@pytest.fixture
def loads(monkeypatch):
    """Teachers in the order in which they were loaded."""
    seen = []

    def loaded(place, role):
        seen.append(place.path)
        return original(place, role)

    original = teacher_logits.loaded_writer
    monkeypatch.setattr(teacher_logits, "loaded_writer", loaded)
    return seen


def test_teachers_are_asked_once_in_a_run_and_found_in_its_folder(live_model, loads, tmp_path):
    evaluator = made()
    evaluator.keep_in(tmp_path / "run")
    first = evaluator.evaluate(live_model)
    assert (evaluator.evaluate(live_model), sorted(loads)) == (first, ["a", "b"])
    teacher_logits._SHARED.clear()  # another process
    again = made()
    again.keep_in(tmp_path / "run")
    assert (again.evaluate(live_model), len(loads)) == (first, 2)
    for file in (tmp_path / "run").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:99])
    teacher_logits._SHARED.clear()
    damaged = made()
    damaged.keep_in(tmp_path / "run")
    assert (damaged.evaluate(live_model), len(loads)) == (first, 4)


def test_a_teacher_that_reads_other_tokens_ends_the_run(live_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained("a")
    tokenizer.add_tokens(["quick"])
    (tmp_path / "b").unlink()
    tiny_model(tmp_path / "b")
    tokenizer.save_pretrained(tmp_path / "b")
    evaluator = made(teachers={"b": "a.jsonl"})
    with pytest.raises(RunError, match="teacher b: reads 'the quick brown fox' as other tokens"):
        evaluator.evaluate(live_model)


def test_teachers_are_part_of_what_scores_stand_on(tmp_path):
    before = made(teachers={"a": "a.jsonl"}).identity()
    assert before == made(teachers={"a": "a.jsonl"}).identity()
    assert before != made(teachers={"a": "a.jsonl"}, temperature=1.0).identity()
    Path("a").unlink()
    Path("a").symlink_to(Path("b").resolve())
    assert before != made(teachers={"a": "a.jsonl"}).identity()


def test_what_keeps_a_teacher_from_being_asked_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    found = [str(one) for one in made(teachers={"empty": "a.jsonl"}).findings()]
    assert any("tasks[0].divergence.teachers.empty" in one for one in found), found
    with pytest.raises(ValidationError, match=r"is an adapter on a model, expected a whole one"):
        DivergenceSettings.model_validate({"teachers": {"a+lora": "a.jsonl"}})


def test_teachers_are_loaded_once_to_judge_a_built_model(live_model, model_folder, loads):
    evaluator = made()
    built = BuiltModel(model_folder, EvaluationBlock(), "cpu", 1)
    documents, _ = evaluator.score_folder(built, lambda share: None)
    assert sorted(loads) == ["a", "b"]
    ours = [one.values["divergence,none"] for one in evaluator.evaluate(live_model).documents]
    theirs = [one.values["divergence,none"] for one in documents]
    assert theirs == pytest.approx(ours, rel=1e-4)


def test_what_is_known_before_there_is_a_run_folder_is_kept_there(live_model, loads, tmp_path):
    evaluator = made()
    first = evaluator.evaluate(live_model)
    evaluator.keep_in(tmp_path / "run")
    teacher_logits._SHARED.clear()  # another process
    again = made()
    again.keep_in(tmp_path / "run")
    assert (again.evaluate(live_model), len(loads)) == (first, 2)


def test_the_memory_of_teachers_is_that_of_the_largest_and_of_all_they_say(tmp_path):
    small = made(teachers={"a": "a.jsonl"}, top_k=4, max_tokens=3).room()
    assert small["what teachers say in divergence"].n_bytes == 2 * 3 * 4 * 8
    tiny_model(tmp_path / "large", hidden_size=64)
    given = [
        {"divergence": {"teachers": {name: "a.jsonl"}, "name": name}} for name in ("large", "a")
    ]
    tasks = [Task.model_validate(one) for one in given]
    both = evaluator_for(tasks, EvaluationBlock(), ENGINES["transformers"])
    both.prepare()
    (large,) = (one.room() for one in [made(teachers={"large": "a.jsonl"})])
    assert both.room()["the largest teacher"] == large["the largest teacher"]
    assert large["the largest teacher"].n_bytes > small["the largest teacher"].n_bytes
    two = made(teachers={"large": "a.jsonl", "a": "a.jsonl"}).room()
    assert two["the largest teacher"].n_bytes == large["the largest teacher"].n_bytes


def test_a_device_without_room_for_a_teacher_is_told(live_model, monkeypatch):
    def short(self, device):
        raise torch.OutOfMemoryError("none left")

    evaluator = made(device="cuda")
    monkeypatch.setattr(torch.nn.Module, "to", short)
    with pytest.raises(EvaluationError, match=r"the teacher cannot be moved to cuda .*none left"):
        evaluator.evaluate(live_model)


def test_a_teacher_of_other_tokens_or_that_reads_less_is_told_before_a_run(live_model, tmp_path):
    config, tokenizer = live_model.module.config, live_model.tokenizer
    assert made().warnings(tokenizer, config) == ()
    tiny_model(tmp_path / "short", max_position_embeddings=3)
    short = made(teachers={"short": "a.jsonl", "b": "b.jsonl"})
    with pytest.raises(GenomeError) as raised:
        short.warnings(tokenizer, config)
    (problem,) = raised.value.problems
    assert problem.where == "tasks[0].divergence.teachers.short"
    assert problem.what == "short reads 3 tokens at most, and a text has 9 that are read"
    assert made(teachers={"short": "a.jsonl"}, max_tokens=3).warnings(tokenizer, config) == ()
    other = tiny_tokenizer()
    other.add_tokens(["quick"])
    (tmp_path / "b").unlink()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    other.save_pretrained(tmp_path / "b")
    with pytest.raises(GenomeError, match="b reads 'the quick brown fox' as other tokens"):
        made(teachers={"b": "a.jsonl"}).warnings(tokenizer, config)


def test_of_several_processes_one_has_a_teacher_read_and_the_others_find_it(
    live_model, loads, tmp_path
):
    evaluator, run = made(), tmp_path / "run"
    evaluator.keep_in(run)
    folder = next(iter(evaluator._kinds[0]._teachers.values()))._folder
    claimed = subprocess.run(
        [sys.executable, "-c", CLAIMED, str(folder)], capture_output=True, text=True, check=True
    )
    assert claimed.stdout == "True\n"
    first = evaluator.evaluate(live_model)
    teacher_logits._SHARED.clear()  # another process, which looked before there was anything
    again = made()
    for teacher in again._kinds[0]._teachers.values():
        teacher._folder = run / teacher_logits.FOLDER / teacher._key
    assert (again.evaluate(live_model), len(loads)) == (first, 2)


CLAIMED = """
import sys
from pathlib import Path
from evomerge.foundations.claims import Claims
print(Claims(Path(sys.argv[1]) / "claims").take(["all"]) == {"all"})
"""
