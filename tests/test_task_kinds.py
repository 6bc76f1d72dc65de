"""Tasks of several kinds in one genome: a key names the kind, which has settings of its own."""

from __future__ import annotations

import jsonschema
import pytest

from evomerge.compiler.file_mistakes import genome_of
from evomerge.compiler.json_schema import genome_schema
from evomerge.compiler.starter import _entry, _task_entry
from evomerge.foundations.errors import GenomeError
from evomerge.genome.evolve_form import read_as_evolve
from evomerge.genome.source import parse_yaml
from evomerge.genome.task_blocks import Task
from tests.evaluators.formula import with_formula

FILE = "genome: {models: [a, b], merge_method: linear}\ntasks:\n- name: sums\n"


@pytest.fixture(autouse=True)
def _double_in_table():
    with with_formula():
        yield


def source_of(text, more=""):
    return parse_yaml(f"{FILE}- {text}\n{more}", "g.yml")


@pytest.mark.parametrize(
    ("given", "kind", "name", "own"),
    [
        ("sums", "name", "sums", "sums"),
        ({"name": "sums", "weight": 2}, "name", "sums", "sums"),
        ({"formula": "wave", "weight": 2}, "formula", "wave", "wave"),
        ({"formula": {"curve": "wave"}}, "formula", "formula", {"curve": "wave"}),
        ({"formula": {"curve": "wave", "name": "up"}}, "formula", "up", {"curve": "wave"}),
    ],
)
def test_a_key_names_the_kind_and_what_stands_under_it_names_the_task(given, kind, name, own):
    task = Task.model_validate(given)
    assert (task.kind, task.name, task.given) == (kind, name, own)
    assert task.model_copy(update={"limit": 3}).given == own
    assert Task.model_validate(task) == task


def test_tasks_of_several_kinds_stand_in_one_split():
    genome = genome_of(source_of("{formula: wave, weight: 0.1}", "limit: 4\nnum_fewshot: 2\n"))
    sums, wave = genome.split("tasks")
    assert [sums.kind, wave.kind] == ["name", "formula"]
    assert (wave.name, wave.weight, wave.limit, sums.num_fewshot) == ("wave", 0.1, 4, 2)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "formla: wave",
            "g.yml:4: tasks[1].formla: unknown evaluator 'formla'; did you mean",
        ),
        ("formula: wav", "g.yml:4: tasks[1].formula: got 'wav'; did you mean 'wave'?"),
        ("{formula: {curve: wave, phas: 1}}", "tasks[1].formula.phas: unknown key 'phas'; did you"),
        (
            "{formula: {phase: x, curve: wave}}",
            "tasks[1].formula.phase: got 'x', expected a n",
        ),
        (
            "{reward: {file: a, model: b, reward_range: [.nan, 1]}}",
            "tasks[1].reward.reward_range[0]: got nan, expected a finite number",
        ),
        (
            "{python: {run: 'a:b', low: 0, high: .inf}}",
            "tasks[1].python.high: got inf, expected a finite number",
        ),
        (
            "{divergence: {teachers: {a: b}, field: c, temperature: .inf}}",
            "tasks[1].divergence.temperature: got inf, expected a finite number",
        ),
        (
            "command: python3 judge.py",
            "tasks[1].command: got 'python3 judge.py', expected a list, or keys and values. Write "
            "[python3, judge.py].",
        ),
        ("{formula: wave, num_fewshot: 3}", "num_fewshot: a task of 'formula' has no num_fewshot"),
        (
            "{formula: wave, wieght: 3}",
            "tasks[1].wieght: unknown key 'wieght'; did you mean",
        ),
        (
            "{formula: wave, other: 3}",
            "g.yml:4: tasks[1].other: unknown key 'other' (known: language, limit,",
        ),
        (
            "{name: x, formula: wave}",
            "g.yml:4: tasks[1].formula: unknown key 'formula'",
        ),
        (
            "{formula: sums}",
            "g.yml:2: tasks: tasks stand twice: sums. If they are others, name them apart: "
            "formula: {name: ..., ...}.",
        ),
        ("{formula: [1]}", "g.yml:4: tasks[1].formula: got [1], expected keys and values"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_nearest_name(text, sentence):
    with pytest.raises(GenomeError) as raised:
        genome_of(source_of(text))
    assert any(sentence in str(problem) for problem in raised.value.problems), raised.value


def test_mistakes_of_tasks_and_engine_are_told_with_all_others():
    with pytest.raises(GenomeError) as raised:
        genome_of(source_of("formla: wave", "evaluation: {backend: transfomers}\nseed: -1\n"))
    assert [str(one).partition(": ")[0] for one in raised.value.problems] == [
        "g.yml:4", "g.yml:5", "g.yml:6",
    ]  # fmt: skip
    assert "unknown engine 'transfomers'; did you mean 'transformers'?" in str(raised.value)


def test_a_file_with_another_kind_is_not_of_mergekit_evolves_form():
    assert read_as_evolve(parse_yaml(FILE, "g.yml")).is_evolve
    kept = read_as_evolve(source_of("{formula: wave}"))
    assert not kept.is_evolve
    assert kept.data["tasks"][1] == {"formula": "wave"}


@pytest.mark.parametrize(
    ("task", "is_right"),
    [
        ("sums", True),
        ({"name": "sums", "num_fewshot": 3, "weight": 1}, True),
        ({"formula": "wave", "limit": 3}, True),
        ({"formula": {"curve": "bowl", "phase": 0.5, "name": "low"}}, True),
        ({"formula": "wave", "num_fewshot": 3}, False),
        ({"formula": {"curve": "straight"}}, False),
        ({"formula": {"curve": "wave", "slope": 1}}, False),
        ({"name": "sums", "formula": "wave"}, False),
        ({"weight": 3}, False),
    ],
)
def test_the_schema_for_editors_follows_the_table(task, is_right):
    given = {"genome": {"models": ["a", "b"], "merge_method": "linear"}, "tasks": [task]}
    assert jsonschema.Draft202012Validator(genome_schema()).is_valid(given) == is_right


def test_first_genomes_may_name_tasks_of_any_kind():
    assert _entry("sums/acc") == {"name": "sums", "metric": "acc"}
    assert _entry("formula: wave") == {"formula": "wave"}
    mapping = "formula: {curve: bowl, phase: 0.5, name: 'a: b'}"
    assert _entry(mapping) == {"formula": {"curve": "bowl", "phase": 0.5, "name": "a: b"}}
    assert _task_entry(mapping) == f"{{{mapping}}}"
    listed = "command: [sh, -c, 'echo 1']"
    assert _entry(listed) == {"command": ["sh", "-c", "echo 1"]}
    assert _task_entry(listed) == "{command: [sh, -c, echo 1]}"
    with pytest.raises(GenomeError):
        _entry("formula: {curve: bowl, curve: {}")
    assert _task_entry("formula:wave", 200).startswith("{formula: wave, limit: 200}")
