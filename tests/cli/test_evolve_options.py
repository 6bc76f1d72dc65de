"""mergekit-evolve's options by their names: what they mean here, said in a line."""

from __future__ import annotations

import ast
import shlex
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from evomerge.cli.evolve_options import EvolveOptions, evolve_options
from evomerge.cli.run import run
from evomerge.compiler.genome_file import read_genomes
from evomerge.genome.execution_block import Execution


@click.command()
@evolve_options
def shown(evolve):
    given = Execution()
    click.echo("\n".join((*evolve.overrides(given), *evolve.notes(given))))


def told(*arguments):
    done = CliRunner().invoke(shown, arguments)
    assert done.exit_code == 0, done.output
    return [line for line in done.output.splitlines() if line]


ON_GPUS = "execution={workers: 4, devices: auto}"
ON_RAY = "execution={executor: ray, workers: 4, num_gpus: 1}"


@pytest.mark.parametrize("strategy", ["pool", "buffered"])
def test_a_pool_has_a_worker_for_each_gpu_here_or_on_the_cluster(strategy, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    arguments = ("--strategy", strategy, "--num-gpus", "4")
    said = "as mergekit-evolve's options have it: --set "
    assert told(*arguments) == [ON_GPUS, f"{said}'{ON_GPUS}'"]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert told(*arguments) == [ON_RAY, f"{said}'{ON_RAY}'"]


def test_serial_is_serial_and_a_pool_of_nobody_knows_how_many_is_told():
    assert told("--strategy", "serial")[0] == "execution={executor: serial, workers: 1}"
    assert told("--strategy", "pool")[0].startswith("--strategy pool: trials run as `execution:`")


@pytest.mark.parametrize(
    ("options", "address", "given", "means"),
    [
        (EvolveOptions("serial"), "", {"workers": 4, "devices": "auto"}, {"executor": "serial"}),
        (EvolveOptions("serial"), "", {"executor": "serial"}, {"executor": "serial"}),
        (
            EvolveOptions("pool", 4),
            "",
            {"workers": 2, "devices": [0, 1]},
            {"workers": 4, "devices": "auto"},
        ),
        (
            EvolveOptions("buffered", 4),
            "head:6379",
            {"executor": "ray", "wait": 9.0, "runtime_env": {"py_modules": ["my mod"]}},
            {"executor": "ray", "wait": 9.0, "runtime_env": {"py_modules": ["my mod"]}},
        ),
    ],
)
def test_what_else_the_genome_says_of_execution_stays(
    options, address, given, means, monkeypatch, tmp_path
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    known = Execution(trial_timeout=60, **given)
    genome = tmp_path / "g.yml"
    genome.write_text("genome: {models: [a/b, c/d], merge_method: linear}\ntasks: [x]\n")
    found = read_genomes(genome, options.overrides(known)).genome.execution
    assert found.trial_timeout == 60
    assert found.model_dump(exclude_unset=True).items() >= means.items()
    serial = Execution(executor="serial")
    assert (options.strategy != "serial") or found == serial.model_copy(
        update={"trial_timeout": 60}
    )


def test_what_has_no_meaning_here_is_taken_and_told_with_its_reason():
    lines = told("--in-memory", "--no-reshard", "--load-in-4bit", "--wandb-project", "x", "--vllm")
    assert [line.partition(": of no meaning here; ")[0] for line in lines] == [
        "--in-memory, --no-reshard",
        "--vllm, --load-in-4bit",
        "--wandb-project",
    ]
    assert "every merge is made in memory" in lines[0]
    assert told() == []


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        (("--max-fevals", "7"), ["optimizer.budget=7"]),
        (("--timeout", "60"), ["optimizer.timeout=60.0"]),
        (("--random-seed", "3"), ["seed=3"]),
        (("--batch-size", "8"), ["evaluation.batch_size=8"]),
        (("--force-population-size", "9"), ["optimizer.population_size=9"]),
        (("--sigma0", "0.25"), ["optimizer.name=cma_es", "optimizer.sigma=0.25"]),
        (
            ("--task-search-path", "a b", "--task-search-path", "it's"),
            ['task_search_path=["a b", "it\'s"]'],
        ),
        (("-s", "serial"), ["execution={executor: serial, workers: 1}"]),
    ],
)
def test_what_is_a_key_of_the_genome_becomes_it(arguments, overrides, tmp_path):
    said = [f"as mergekit-evolve's options have it: --set {shlex.quote(one)}" for one in overrides]
    assert told(*arguments) == [*overrides, *said]
    genome = tmp_path / "g.yml"
    genome.write_text("genome: {models: [a/b, c/d], merge_method: linear}\ntasks: [x]\n")
    read_genomes(genome, overrides)  # which refuses what is no key


def test_the_storage_path_is_where_the_run_goes():
    assert EvolveOptions(storage_path=Path("x")).overrides(Execution()) == ()


def theirs():
    """Flags and choices of mergekit-evolve; read, not imported: it needs packages of its own."""
    tree = ast.parse(Path(find_spec("mergekit.scripts.evolve").origin).read_text())
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "click.option":
            given = [one.value for one in call.args if isinstance(one, ast.Constant)]
            choices = [kw.value for kw in call.keywords if "Choice" in ast.unparse(kw.value)]
            yield (
                {flag for one in given if one.startswith("-") for flag in one.split("/")},
                ast.literal_eval(choices[0].args[0]) if choices else [],
            )


def test_every_option_of_mergekit_evolve_is_taken_by_its_names():
    own = {flag: one for one in run.params for flag in (*one.opts, *one.secondary_opts)}
    known = list(theirs())
    assert len(known) == 23
    for flags, choices in known:
        assert flags <= own.keys()
        for flag in flags if choices else ():
            assert list(own[flag].type.choices) == choices
