"""mergekit-evolve's options by their names: what they mean here, said in a line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from evomerge.cli.evolve_options import EvolveOptions, evolve_options
from evomerge.cli.run import run


@click.command()
@evolve_options
def shown(evolve):
    click.echo("\n".join((*evolve.overrides, *evolve.notes)))


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


def test_what_has_no_meaning_here_is_taken_and_told():
    (line,) = told("--in-memory", "--no-reshard", "--merge-cuda")
    assert line.startswith("--in-memory, --merge-cuda, --no-reshard: of no meaning here")
    assert told() == []


def test_the_storage_path_is_where_the_run_goes():
    assert EvolveOptions(storage_path=Path("x")).overrides == ()


def test_they_have_the_names_and_choices_of_mergekit_evolve():
    """Read, not imported: it needs packages that nothing else does."""
    theirs = Path(find_spec("mergekit.scripts.evolve").origin).read_text()
    own = {one.name: one for one in run.params}
    for name in ("strategy", "num_gpus", "storage_path", "in_memory", "merge_cuda", "reshard"):
        flags = "/".join((*own[name].opts, *own[name].secondary_opts))
        assert f'"{flags}"' in theirs
    choices = ", ".join(f'"{one}"' for one in own["strategy"].type.choices)
    assert f"click.Choice([{choices}])" in theirs
