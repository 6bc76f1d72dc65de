"""Mistakes of the genome file: all at once, each with its line, its key and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evomerge.checks import unread_settings as rules
from evomerge.checks.context import CheckContext
from evomerge.cli.run import default_run_dir
from evomerge.compiler.checked import examine_stages
from evomerge.compiler.genome_file import read_genomes
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.findings import Severity
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml

EVERYTHING_WRONG = """\
genome:
  models:
    - a
    - {model: b, weight: 0.5}
    - a+b+c
  merge_method: linear
  dtyp: float32
  parameters:
    dtype: float32
    density: {range: [0, 1]}
    weight: {rnge: [0, 1], log: maybe}
  granularity: layers
  smooth: true
  tokenizer: {source: base}
  tokenizer_source: base
budget: 40
tasks:
  - {name: x, limit: true}
  - {name: y, limit: 2, samples: 3, weights: 1}
evaluation: {device: gpu}
optimizer: {name: cmaes, budget: 3.5}
merge_method: ties
"""
EXPECTED = [
    "g.yml:1: genome.layer_granularity: granularity: layers needs 1 or more.",
    "g.yml:4: genome.models[1].weight: 'weight' is no key of this block. Move it to "
    "genome.models[1].parameters.weight.",
    "g.yml:5: genome.models[2]: 'a+b+c' holds more than one '+'",
    "g.yml:7: genome.dtyp: unknown key 'dtyp'; did you mean 'dtype'?",
    "g.yml:9: genome.parameters.dtype: dtype is a key of genome, not a merge parameter. Move it "
    "to genome.dtype.",
    "g.yml:10: genome.parameters.density: merge method linear has no parameter 'density' (known: "
    "normalize, weight)",
    "g.yml:11: genome.parameters.weight.log: got 'maybe', expected true or false.",
    "g.yml:11: genome.parameters.weight.rnge: unknown key 'rnge'; did you mean 'range'?",
    "g.yml:13: genome.smooth: interpolates between the groups of layer_granularity",
    "g.yml:14: genome.tokenizer: stands beside tokenizer_source; give one of them.",
    "g.yml:16: budget: 'budget' is no key of this block. Move it to optimizer.budget.",
    "g.yml:18: tasks[0].limit: got True, expected a whole number.",
    "g.yml:19: tasks[1].weights: unknown key 'weights'; did you mean 'weight'?",
    "g.yml:19: tasks[1]: limit and samples both choose the documents; give one of them.",
    "g.yml:20: evaluation.device: got 'gpu', expected auto, cpu, cuda, cuda:1 or mps.",
    "g.yml:21: optimizer.budget: got 3.5, expected a whole number.",
    "g.yml:21: optimizer.name: unknown optimizer 'cmaes'; did you mean 'cma_es'?",
    "g.yml:22: merge_method: 'merge_method' is no key of this block. Move it to "
    "genome.merge_method.",
]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def file(text):
        (tmp_path / "g.yml").write_text(text)
        return tmp_path.joinpath("g.yml").relative_to(tmp_path)

    return file


def problems(path):
    with pytest.raises(GenomeError, match=r"g\.yml") as raised:
        read_genomes(path)
    return [str(problem) for problem in raised.value.problems]


def test_all_mistakes_of_a_genome_are_told_at_once_in_the_order_of_the_file(write):
    found = problems(write(EVERYTHING_WRONG))
    assert len(found) == len(EXPECTED)
    for got, expected in zip(found, EXPECTED, strict=True):
        assert got.startswith(expected)


def test_an_examination_raises_nothing_for_them(write):
    (examination,) = examine_stages(write(EVERYTHING_WRONG), (), None, default_run_dir)
    assert examination.has_errors
    assert [finding.severity for finding in examination.findings] == [Severity.ERROR] * len(
        EXPECTED
    )


GENOME = "genome: {{models: [a, b], base_model: c, merge_method: {}}}\ntasks: [x]\n"
MISTAKES = {
    "an unknown method": (
        GENOME.format("dare-ties"),
        "unknown merge method 'dare-ties'; did you mean 'dare_ties'?",
    ),
    "a parameter the method lacks": (
        GENOME.format("ties, parameters: {t: {range: [0, 0.5]}}"),
        "genome.parameters.t: merge method ties has no parameter 't'",
    ),
    "slices of a recipe": (
        "genome: {merge_method: passthrough, slices: [{sources: []}]}\ntasks: [arc_easy]\n",
        r"genome.slices: 'slices' of a recipe is no key of this block. Let `evomerge init "
        r"--from RECIPE` open .*encoding: slices.*seed_from.$",
    ),
    "a parameter out of its bounds": (
        GENOME.format("ties, parameters: {density: {range: [0.5, 1.4]}}"),
        r"genome.parameters.density: 1.4 is outside \[0, 1\], what density can be",
    ),
    "no base": (
        GENOME.format("ties").replace("base_model: c, ", ""),
        "genome.base_model: is missing: ties measures from a base. Add the model",
    ),
    "too many models": (
        GENOME.format("nuslerp").replace("[a, b]", "[a, b, d]"),
        r"genome.models: nuslerp merges exactly 2 model\(s\) beside the base, got 3",
    ),
    "a setting of another optimizer": (
        GENOME.format("ties") + "optimizer: {name: tpe, sigma: 0.1}\n",
        "optimizer.sigma: unknown key 'sigma'",
    ),
    "more objectives than the optimizer takes": (
        GENOME.format("ties").replace("[x]", "[x, y]") + "objective: per_task\noptimizer: cma_es\n",
        "objective: per_task has 2 objectives, cma_es minimises one. Use optimizer",
    ),
}


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_a_mistake_that_needs_no_model_is_told_before_any_is_read(write, mistake):
    text, message = MISTAKES[mistake]
    with pytest.raises(GenomeError, match=message):
        read_genomes(write(text))


@pytest.mark.parametrize("key", ["slices", "modules"])
def test_a_recipe_that_holds_its_models_elsewhere_lacks_none(write, key):
    (found,) = problems(write(f"genome: {{merge_method: linear, {key}: [1]}}\ntasks: [x]\n"))
    said = {"slices": "'slices' of a recipe is no key", "modules": "got [1], expected keys"}
    assert found.startswith(f"g.yml:1: genome.{key}: {said[key]}")


def test_true_is_no_number(write):
    assert problems(write(GENOME.format("ties") + "seed: true\n")) == [
        "g.yml:3: seed: got True, expected a whole number."
    ]


def context(method, models="[a, b]"):
    text = GENOME.format(method).replace("[a, b]", models)
    return CheckContext(validate_genome(parse_yaml(text, "g.yml")))


def test_a_base_that_the_method_ignores_is_told():
    (found,) = rules.role_of_base(context("linear"))
    assert found.severity is Severity.NOTE
    assert str(found).startswith("genome.base_model: linear measures from no base; c is scored")
    assert not [*rules.role_of_base(context("ties"))]


def test_a_base_among_the_models_is_told():
    (found,) = rules.base_among_models(context("ties", "[a, c]"))
    assert str(found).startswith("genome.models[1]: c is the base too, so it gets no parameters")
    assert not [*rules.base_among_models(context("ties"))]


def test_a_tracker_that_is_none_is_an_error_with_its_place():
    one = context("linear")
    one = replace(one, genome=one.genome.model_copy(update={"trackers": ["page", "wandb"]}))
    (found,) = rules.unknown_trackers(one)
    assert str(found).startswith("trackers[1]: unknown tracker 'wandb' (known: ")


def executing(**execution):
    one = context("linear")
    execution = one.genome.execution.model_copy(update=execution)
    return replace(one, genome=one.genome.model_copy(update={"execution": execution}))


def test_an_executor_that_is_none_is_an_error_with_its_place():
    (found,) = rules.executor(executing(executor="dask"))
    assert str(found).startswith("execution.executor: unknown executor 'dask' (known: isolated, p")
    assert found.severity is Severity.ERROR


def test_an_executor_that_cannot_run_so_many_trials_at_once_is_an_error():
    (found,) = rules.executor(executing(executor="serial", workers=3))
    assert str(found) == (
        "execution.executor: serial runs 1 trial at once, got 3 workers. "
        "Use execution.workers: 1, or leave execution.executor out."
    )
    fitting = [("serial", 1), ("processes", 1), ("processes", 3), ("auto", 1), ("auto", 3)]
    for executor, workers in fitting:
        assert not [*rules.executor(executing(executor=executor, workers=workers))]
