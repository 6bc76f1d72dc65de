"""The Slurm job: sound shell, the same run however often, and never over what is there."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import pytest
from click.testing import CliRunner

from evomerge.cli.main import main
from evomerge.foundations.errors import GenomeError, OccupiedError

GENOME = "genome: {models: [a/b, c/d], merge_method: linear}\ntasks: [x]\n"
# A job has files and a port by its number; tests in another process have jobs of their own.
JOB = os.getpid()
PORT = 20_000 + JOB % 10_000
# Stand in for Slurm and Ray: srun and ray run what they are given, as the first of the nodes.
FAKES = {
    "scontrol": 'echo "scontrol $*" >> calls; [ "$1" != show ] || printf "localhost\\nnode-8\\n"',
    "srun": 'echo "srun ${*%%on_each*}" | head -1 >> calls; while [[ $1 == --* ]]; do shift; done; '
    'SLURM_NODEID=0 exec "$@"',
    "ray": '[ "$2" != --help ] || exit "${OLD:-0}"; echo "ray $*" >> calls; '
    'echo "$RAY_ADDRESS ${#RAY_AUTH_TOKEN}" >> calls; [ -z "${BROKEN:-}" ] || exit 0; '
    'while [ "$1" != -- ]; do shift; done; shift; "$@" && exit "${RAY_CODE:-0}"',
    "python": 'printf "%s\\n" "$@" > arguments; [ -z "${GATE:-}" ] || { echo > began; '
    'trap "exit 143" TERM; read -r < "$GATE" & wait; wait; }; exit "${CODE:-0}"',
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "it's a $place"
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


def job(folder, **environment):
    of_slurm = {"SLURM_JOB_ID": str(JOB), "SLURM_JOB_NODELIST": "node-[7-8]", "TMPDIR": "/tmp"}
    return subprocess.Popen(
        ["bash", folder / "job.sh"],
        cwd="/",
        env={**os.environ, **of_slurm, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def start(folder, **environment):
    process = job(folder, **environment)
    said = process.communicate()[1]
    return process.returncode, said


TWO = ("--nodes", "2", "--gpus-per-node", "4", "--cpus-per-node", "32")
COMMAND = ["-m", "evomerge", "run", "my genome.yml"]


def test_the_job_runs_the_same_command_on_all_nodes_however_often(folder):
    more = ("--sbatch=--time=4:00:00", "--setup", "touch 'set up'", "--", "--set", "seed=7")
    assert write(*TWO, *more).exit_code == 0
    text = (folder / "job.sh").read_text()
    assert subprocess.run(["bash", "-n", "job.sh"], check=False).returncode == 0
    for line in ("nodes=2", "gpus-per-node=4", "cpus-per-task=32", "requeue", "time=4:00:00"):
        assert f"\n#SBATCH --{line}\n" in text
    for _ in range(2):
        assert start(folder) == (0, "")
    assert (folder / "arguments").read_text().splitlines() == [
        *(*COMMAND, "--set"),
        "execution={executor: ray, workers: 8, num_cpus: 8, num_gpus: 1, wait: 60}",
        *("--set", "seed=7"),
    ]
    calls = (folder / "calls").read_text()
    assert "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=32 bash" in calls
    begin = "--num-cpus=32 --num-gpus=4 --disable-usage-stats"
    assert f"ray symmetric-run --address localhost:{PORT} --min-nodes 2 {begin} -- bash" in calls
    assert calls.count(f"localhost:{PORT} 64\n") == 2  # a token; its length alone is known here
    assert (folder / "set up").exists()
    assert not os.path.exists(f"/tmp/ray-{JOB}")


def test_cores_are_those_that_slurm_gives_where_nobody_says(folder):
    write("--nodes", "2", "--gpus-per-node", "4")
    assert start(folder, SLURM_CPUS_ON_NODE="48")[0] == 0
    assert "num_cpus: 12," in (folder / "arguments").read_text()
    assert start(folder, SLURM_CPUS_ON_NODE="2")[0] == 0
    assert "num_cpus: 1," in (folder / "arguments").read_text()


def test_a_port_that_somebody_listens_at_is_left_to_him(folder):
    import socket

    write(*TWO)
    with socket.create_server(("localhost", PORT)):
        assert start(folder) == (0, "")
    assert f"localhost:{PORT + 1} 64\n" in (folder / "calls").read_text()


def test_how_the_run_ends_is_how_the_job_ends(folder):
    """Whatever Ray says of it."""
    write(*TWO)
    assert start(folder, CODE="3")[0] == 3
    assert start(folder, RAY_CODE="1")[0] == 0


def test_a_ray_that_did_not_start_is_a_job_that_failed(folder):
    write(*TWO)
    told = f"the run has not ended by itself, if Ray ever started at localhost:{PORT}\n"
    assert start(folder, BROKEN="yes") == (1, told)
    assert not (folder / "arguments").exists()


@pytest.mark.parametrize(
    ("options", "override"),
    [((), []), (("--gpus-per-node", "4"), ["--set", "execution={workers: 4, devices: auto}"])],
)
def test_one_node_needs_no_ray(folder, options, override):
    write("--nodes", "1", *options)
    assert start(folder, CODE="3") == (3, "")
    assert (folder / "arguments").read_text().splitlines() == [*COMMAND, *override]
    assert not (folder / "calls").exists()
    # Slurm's default is one core, and not all of them.
    assert "\n#SBATCH --exclusive\n" in (folder / "job.sh").read_text()


def test_a_part_of_a_node_is_asked_for_by_its_cores(folder):
    write("--nodes", "1", "--cpus-per-node", "8")
    text = (folder / "job.sh").read_text()
    assert "\n#SBATCH --cpus-per-task=8\n" in text
    assert "--exclusive" not in text


@pytest.mark.parametrize("nodes", ["1", "2"])
@pytest.mark.parametrize(
    ("signum", "asks"), [(signal.SIGUSR1, [f"scontrol requeue {JOB}"]), (signal.SIGTERM, [])]
)
def test_a_job_whose_time_is_nearly_over_is_queued_again_and_a_cancelled_one_ends(
    folder, nodes, signum, asks
):
    """Its run goes on until Slurm ends it; and how the run ends is how the job ends."""
    write("--nodes", nodes)
    os.mkfifo(folder / "gate")
    process = job(folder, GATE=str(folder / "gate"), CODE="3")
    gate = os.open(folder / "gate", os.O_WRONLY)  # which waits until the run is there
    process.send_signal(signum)
    if signum == signal.SIGUSR1:
        calls = folder / "calls"
        while not (calls.exists() and "requeue" in calls.read_text()):
            assert process.poll() is None
        os.write(gate, b"\n")
    os.close(gate)
    process.communicate()
    told = (folder / "calls").read_text() if (folder / "calls").exists() else ""
    assert [line for line in told.splitlines() if "requeue" in line] == asks
    assert process.returncode in ((3,) if signum == signal.SIGUSR1 else (143, 3))


@pytest.mark.parametrize(("name", "code", "asks"), [("USR1", 3, 1), ("TERM", 143, 0)])
def test_a_signal_that_comes_before_the_run_is_there_is_not_lost(folder, name, code, asks):
    write("--nodes", "1", "--setup", f"kill -{name} $$")
    os.mkfifo(folder / "gate")  # which nobody opens: a run that is not ended never ends
    gate = {"GATE": str(folder / "gate")} if name == "TERM" else {}
    process = job(folder, **gate, CODE="3")
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    calls = folder / "calls"
    assert (calls.read_text() if calls.exists() else "").count("requeue") == asks


def test_a_genome_that_names_ray_is_run_as_it_is(folder):
    genome = folder / "my genome.yml"
    genome.write_text(f"{GENOME}execution: {{executor: ray, workers: 3, trial_timeout: 60}}\n")
    write("--nodes", "1")
    assert start(folder) == (0, "")
    assert "--set" not in (folder / "arguments").read_text()
    assert "ray symmetric-run" in (folder / "calls").read_text()


def test_a_genome_that_names_another_cluster_is_refused(folder):
    genome = folder / "my genome.yml"
    genome.write_text(f"{GENOME}execution: {{executor: ray, address: 'head:6379'}}\n")
    with pytest.raises(GenomeError, match=r"execution\.address: got 'head:6379', and the job star"):
        write("--nodes", "2")
    assert not (folder / "job.sh").exists()


def test_what_is_there_stays(folder):
    write(*TWO)
    before = (folder / "job.sh").read_text()
    with pytest.raises(OccupiedError, match=r"job\.sh"):
        write("--nodes", "1")
    assert (folder / "job.sh").read_text() == before


def test_arguments_that_no_run_takes_are_refused(folder):
    done = write(*TWO, "--", "--nosuch")
    assert (done.exit_code, "--nosuch" in done.output) == (2, True)
    with pytest.raises(GenomeError, match="unknown key 'sed'; did you mean 'seed'"):
        write(*TWO, "--", "--set", "sed=7")
    assert not (folder / "job.sh").exists()


def test_arguments_may_change_what_the_job_says_of_its_workers(folder):
    done = write(*TWO, "--", "--set", "execution.copies=$SLURM_TMPDIR/models")
    assert done.exit_code == 0, done.output
    assert "execution.copies" in (folder / "job.sh").read_text()


def test_code_that_the_job_may_not_run_is_told_before_it_is_written(folder):
    genome = folder / "my genome.yml"
    genome.write_text(GENOME.replace("[x]", "[x, {python: 'mine:length'}]"))
    with pytest.raises(
        GenomeError, match=r"yml:2: tasks\[1\].python: would run code.*--allow-code"
    ):
        write(*TWO)
    assert not (folder / "job.sh").exists()
    assert write(*TWO, "--", "--allow-code").exit_code == 0


def test_an_option_of_two_lines_is_refused(folder):
    done = write(*TWO, "--sbatch", "--time=1\nrm -rf x")
    assert done.exit_code == 2
    assert not (folder / "job.sh").exists()
