"""The skills tasks: rows apart, from training too; files reproducible; every YAML loads."""

from __future__ import annotations

import importlib
import json
import random
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

ROOT = Path(__file__).resolve().parents[1]
TASKS_DIR = ROOT / "tasks" / "skills"
SKILLS = ("sort", "reverse", "twice")
SPLITS = ("search", "validation", "holdout")
TASK_NAMES = sorted(f"skills_{skill}_{split}" for skill in SKILLS for split in SPLITS)


def script(name: str) -> ModuleType:
    """A script of `examples/skills/`, which is no package."""
    sys.path.insert(0, str(ROOT / "examples" / "skills"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def make_data() -> ModuleType:
    return script("make_data")


@pytest.fixture(scope="module")
def make_experts() -> ModuleType:
    return script("make_experts")


def documents(skill: str, split: str) -> list[dict[str, Any]]:
    text = (TASKS_DIR / f"{skill}_{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def key(document: dict[str, Any]) -> str:
    """The letters a prompt shows, sorted: `sort b a =` -> `ab`."""
    return "".join(sorted(document["prompt"].split()[1:-1]))


def test_no_two_rows_of_any_split_or_skill_show_the_same_letters() -> None:
    keys = [key(row) for skill in SKILLS for split in SPLITS for row in documents(skill, split)]
    assert len(keys) == len(set(keys)) == 3 * (128 + 128 + 300)


@pytest.mark.parametrize("seed", range(3))
def test_training_never_shows_letters_of_the_tasks(make_data: ModuleType, seed: int) -> None:
    reserved = {key(row) for skill in SKILLS for split in SPLITS for row in documents(skill, split)}
    rows = islice(make_data.training_rows(SKILLS, random.Random(seed)), 2000)
    assert reserved.isdisjoint(row.key for row in rows)


def test_every_row_of_the_tasks_is_of_the_reserved_kind(make_data: ModuleType) -> None:
    assert all(row.is_reserved for rows in make_data.task_rows().values() for row in rows)


def test_answers_are_right() -> None:
    for split in SPLITS:
        for row in documents("sort", split):
            assert row["answer"].split() == sorted(row["prompt"].split()[1:-1])
        for row in documents("reverse", split):
            assert row["answer"].split() == row["prompt"].split()[-2:0:-1]
        for row in documents("twice", split):
            letters = row["prompt"].split()[1:-1]
            assert letters.count(row["choices"][row["label"]]) == 2
            assert sorted(row["choices"]) == sorted(set(letters))


def test_the_generator_reproduces_the_files_byte_for_byte(make_data: ModuleType) -> None:
    files = make_data.data_files()
    assert sorted(files) == sorted(path.name for path in TASKS_DIR.glob("*.jsonl"))
    for name, text in files.items():
        assert (TASKS_DIR / name).read_bytes() == text.encode()


def test_check_reports_a_file_that_differs(make_data: ModuleType, tmp_path: Path) -> None:
    from click.testing import CliRunner

    runner = CliRunner()
    assert runner.invoke(make_data.main, ["--out", str(tmp_path)]).exit_code == 0
    assert runner.invoke(make_data.main, ["--out", str(tmp_path), "--check"]).exit_code == 0
    (tmp_path / "sort_search.jsonl").write_text("{}\n", encoding="utf-8")
    result = runner.invoke(make_data.main, ["--out", str(tmp_path), "--check"])
    assert result.exit_code == 1
    assert "sort_search.jsonl: differs" in result.output


def test_every_task_loads_through_lm_eval_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(tmp_path)
    manager = TaskManager(include_path=str(ROOT / "tasks" / "skills"), include_defaults=False)
    assert manager.all_subtasks == TASK_NAMES
    assert manager.all_tags == [f"skills_{split}" for split in sorted(SPLITS)]
    for name, task in manager.load(TASK_NAMES)["tasks"].items():
        _, skill, split = name.split("_")
        rows = documents(skill, split)
        assert len(task.eval_docs) == len(rows)
        assert task.doc_to_text(task.eval_docs[0]) == rows[0]["prompt"]
        if skill == "twice":
            assert task.doc_to_choice(task.eval_docs[0]) == rows[0]["choices"]
            assert task.doc_to_target(task.eval_docs[0]) == rows[0]["label"]
        else:
            assert task.doc_to_target(task.eval_docs[0]) == rows[0]["answer"]


@pytest.mark.parametrize("skill", SKILLS)
def test_a_prompt_is_a_prefix_of_prompt_and_answer_in_tokens(
    make_data: ModuleType, make_experts: ModuleType, skill: str
) -> None:
    pytest.importorskip("transformers")
    tokenizer = make_experts.make_tokenizer()
    for row in make_data.task_rows()[skill, "search"]:
        text = f"{row.prompt} {row.answer}"
        prompt_ids, ids = tokenizer(row.prompt)["input_ids"], tokenizer(text)["input_ids"]
        assert ids[: len(prompt_ids)] == prompt_ids
        assert len(ids) - len(prompt_ids) == len(row.answer.split())
        assert tokenizer.decode(ids) == text


@pytest.fixture
def quick_training(make_experts: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Training that writes empty models at once; the list grows by a folder at each training."""
    trained: list[Path] = []

    def train_all(settings: Any, out: Path, say: Any) -> None:
        trained.append(out)
        for name in settings.folders:
            (out / name).mkdir()
            (out / name / "model.safetensors").touch()

    monkeypatch.setattr(make_experts, "train_all", train_all)
    return trained


def test_models_are_trained_once(
    make_experts: ModuleType, quick_training: list[Path], tmp_path: Path
) -> None:
    out, settings = tmp_path / "models", make_experts.Settings()
    assert make_experts.make_experts(out, settings, False, print)
    assert not make_experts.make_experts(out, settings, False, print)
    assert make_experts.make_experts(out, settings, True, print)
    assert make_experts.make_experts(out, make_experts.Settings(seed=1), False, print)
    assert len(quick_training) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_half_finished_folder_is_made_again(
    make_experts: ModuleType, quick_training: list[Path], tmp_path: Path
) -> None:
    out, settings = tmp_path / "models", make_experts.Settings()
    (tmp_path / "models.partial" / "base").mkdir(parents=True)
    make_experts.make_experts(out, settings, False, print)
    (out / "expert-sort" / "model.safetensors").unlink()
    assert make_experts.make_experts(out, settings, False, print)
    assert make_experts.recorded_digest(out) == settings.digest


@pytest.mark.usefixtures("quick_training")
def test_files_of_others_are_never_removed(make_experts: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(click.ClickException, match="did not write"):
        make_experts.make_experts(tmp_path, make_experts.Settings(), True, print)
    assert (tmp_path / "thesis.tex").exists()
