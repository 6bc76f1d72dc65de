"""The Slurm job: sound shell, the same run however often, and never over what is there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
from click.testing import CliRunner

from evomerge.cli.main import main
from evomerge.foundations.errors import OccupiedError

GENOME = "genome: {models: [a/b, c/d], merge_method: linear}\ntasks: [x]\n"
# Stand in for Slurm and Ray: srun and ray run what they are given, on one node.
FAKES = {
    "scontrol": 'echo "scontrol $*" >> calls; [ "$1" != show ] || printf "node-7\\nnode-8\\n"',
    "srun": 'echo "srun $*" >> calls; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "ray": 'echo "$RAY_ADDRESS ${#RAY_AUTH_TOKEN}" >> calls; while [ "$1" != -- ]; do shift; done;'
    ' shift; exec "$@"',
    "python": 'printf "%s\\n" "$@" > arguments; exit "${CODE:-0}"',
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "it's a place"
    (place / "bin").mkdir(parents=True)
    (place / "my genome.yml").write_text(GENOME)
    for name, body in FAKES.items():
        file = place / "bin" / name
        file.write_text(f"#!/usr/bin/env bash\n{body}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "executable", str(place / "bin" / "python"))
    return place


def write(*arguments, genome="my genome.yml"):
    given = ["slurm", genome, "-o", "job.sh", *arguments]
    return CliRunner().invoke(main, given, catch_exceptions=False)


def start(folder, **environment):
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "node-[7-8]", **environment}
    return subprocess.run(
        ["bash", folder / "job.sh"], cwd="/", env={**os.environ, **job}, check=False
    )


TWO = ("--nodes", "2", "--gpus-per-node", "4", "--cpus-per-node", "32")


def test_the_job_runs_the_same_command_on_all_nodes_however_often(folder):
    more = ("--sbatch=--time=4:00:00", "--setup", "touch 'set up'", "--", "--set", "seed=7")
    assert write(*TWO, *more).exit_code == 0
    text = (folder / "job.sh").read_text()
    assert subprocess.run(["bash", "-n", "job.sh"], check=False).returncode == 0
    for line in ("nodes=2", "gpus-per-node=4", "cpus-per-task=32", "requeue", "time=4:00:00"):
        assert f"\n#SBATCH --{line}\n" in text
    for _ in range(2):
        assert start(folder).returncode == 0
    assert (folder / "arguments").read_text().splitlines() == [
        *("-m", "evomerge", "run", "my genome.yml", "--set"),
        "execution={executor: ray, workers: 8, num_cpus: 8, num_gpus: 1, wait: 60}",
        *("--set", "seed=7"),
    ]
    calls = (folder / "calls").read_text()
    assert "ray symmetric-run --address node-7:24711 --min-nodes 2 --num-gpus=4" in calls
    assert calls.count("node-7:24711 64\n") == 2  # a token, and its length alone is known here
    assert (folder / "set up").exists()


def test_how_the_run_ends_is_how_the_job_ends(folder):
    write(*TWO)
    assert start(folder, CODE="3").returncode == 3


def test_a_genome_that_names_ray_is_run_as_it_is(folder):
    genome = folder / "my genome.yml"
    genome.write_text(f"{GENOME}execution: {{executor: ray, workers: 3, trial_timeout: 60}}\n")
    write("--nodes", "1")
    assert start(folder).returncode == 0
    assert "--set" not in (folder / "arguments").read_text()


def test_what_is_there_stays(folder):
    write(*TWO)
    before = (folder / "job.sh").read_text()
    with pytest.raises(OccupiedError, match=r"job\.sh"):
        write("--nodes", "1")
    assert (folder / "job.sh").read_text() == before


def test_an_option_of_two_lines_is_refused(folder):
    done = write(*TWO, "--sbatch", "--time=1\nrm -rf x")
    assert done.exit_code == 2
    assert not (folder / "job.sh").exists()
