"""The zoo's families: their questions, tasks and genomes, and one of each kind made untrained."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evomerge.compiler import compile_genome
from evomerge.genome import load_genome

ZOO = Path(__file__).parents[1] / "benchmarks" / "zoo"
sys.path.insert(0, str(ZOO))  # scripts import what stands beside them
from families import BASE, FAMILIES, REPORT, TUNING  # noqa: E402  # the path first
from skills import MODULUS, SKILLS, SPLIT_SIZES, TRAINING, WORDS, documents, rows  # noqa: E402
from task_files import write_tasks  # noqa: E402

sys.path.remove(str(ZOO))
NAMES = sorted(FAMILIES)


def called(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ZOO / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_four_families_are_to_tune_on_and_at_least_four_for_the_report():
    halves = [family.half for family in FAMILIES.values()]
    assert halves.count(TUNING) == 4
    assert halves.count(REPORT) >= 4
    assert {family.architecture for family in FAMILIES.values()} == {
        "llama",
        "qwen3",
        "gpt_neox",
        "gemma2",
    }


@pytest.mark.parametrize("skill", sorted(SKILLS))
def test_no_question_of_a_skill_is_in_two_splits_or_trained_on(skill):
    splits = {split: {row.prompt for row in documents(skill, split, "0")} for split in SPLIT_SIZES}
    assert {split: len(found) for split, found in splits.items()} == SPLIT_SIZES
    assert len(set().union(*splits.values())) == sum(SPLIT_SIZES.values())
    trained = rows(skill, TRAINING, "0")
    assert all(next(trained).split == TRAINING for _ in range(100))


@pytest.mark.parametrize("skill", sorted(SKILLS))
def test_questions_depend_on_their_seed_alone_and_can_be_answered(skill):
    found = documents(skill, "validation", "7")
    assert found == documents(skill, "validation", "7")
    assert found != documents(skill, "validation", "8")
    words = {word for row in found for word in f"{row.prompt} {row.answer}".split()}
    assert words <= set(WORDS)
    assert all(not row.choices or row.answer in row.choices for row in found)
    assert len({row.answer for row in found}) > 1


def test_the_answers_are_right():
    drawn = {skill: SKILLS[skill](random.Random(5)) for skill in SKILLS}
    signs = drawn["sort"].prompt.split()[1:-1]
    assert drawn["sort"].answer.split() == sorted(signs)
    _, *one, _, two, three, four, five, _ = drawn["minus"].prompt.split()
    other = [two, three, four, five]
    assert drawn["minus"].answer.split() == [
        str((int(a) - int(b)) % MODULUS) for a, b in zip(one, other, strict=True)
    ]
    _, mark, _, *shown, _ = drawn["count"].prompt.split()
    assert drawn["count"].answer == str(shown.count(mark))


@pytest.mark.parametrize("name", NAMES)
def test_a_genome_of_the_zoo_is_valid_and_asks_only_what_is_written(name, tmp_path):
    family = FAMILIES[name]
    file = tmp_path / "genome.yml"
    file.write_text(yaml.safe_dump(family.genome(tmp_path)))
    genome, _ = load_genome(file)
    assert len(genome.genome.models) == len(family.experts)
    assert family.digest != FAMILIES[NAMES[NAMES.index(name) - 1]].digest
    write_tasks(tmp_path / "tasks", name, family.skills[:1], "0")
    task = yaml.safe_load((tmp_path / "tasks" / f"{genome.tasks[0].name}.yaml").read_text())
    data = Path(task["dataset_kwargs"]["data_files"]["test"])
    assert len(data.read_text().splitlines()) == SPLIT_SIZES["search"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["neox-conflict", "llama-adapters", "gemma2-mixed", "qwen3-broken"]
)
def test_a_family_that_is_made_compiles_and_is_made_once(name, tmp_path):
    made = called("make.py", name, "-o", str(tmp_path), "--untrained")
    assert made.returncode == 0, made.stderr
    folder = tmp_path / name
    compiled = compile_genome(*load_genome(folder / "genome.yml"))
    assert compiled.merge_space.space.n_dims > 1
    assert json.loads((folder / "family.json").read_text())["half"] == FAMILIES[name].half
    before = (folder / BASE / "model.safetensors").stat().st_mtime_ns
    again = called("make.py", name, "-o", str(tmp_path), "--untrained")
    assert "is there already" in again.stderr
    assert (folder / BASE / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "llama-pair").mkdir()
    (tmp_path / "llama-pair" / "mine.txt").write_text("mine")
    made = called("make.py", "llama-pair", "-o", str(tmp_path), "--untrained")
    assert made.returncode == 1
    assert "Choose another --out" in made.stderr
    assert (tmp_path / "llama-pair" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("script", ["make.py", "look.py"])
def test_scripts_of_the_zoo_explain_themselves(script):
    shown = called(script, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "Example: python benchmarks/zoo/" in shown.stdout
