"""Slurm jobs with real Ray and a real run; Slurm's commands and its nodes are stood in for.

A node is a network and a list of processes of its own on this machine, which takes root.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack

import pytest
from click.testing import CliRunner

from evomerge.cli.main import main
from tests.end_to_end.conftest import ROOT
from tests.end_to_end.test_ray_runs import comes_late, n_trials, trials

pytest.importorskip("ray")
ALONE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
IS_ALLOWED = not subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IS_ALLOWED, reason="`ray stop` would end other people's Ray"),
]
# As Slurm does it: a task on each node; a job that is queued again is ended, in order at first.
SCONTROL = """
case "$1" in
  show) cat "$FAKES/hosts" ;;
  requeue) echo "$2" >> "$FAKES/requeued"; kill -TERM -- "-$(cat "$FAKES/step")" ;;
esac
"""
SRUN = """
[ -n "${OF_STEP:-}" ] || OF_STEP=1 exec setsid "$0" "$@"
while [[ $1 == --* ]]; do shift; done
echo $$ > "$FAKES/step"
tasks=() n=0
while read -r host; do
  node=()
  [ ! -e "/run/netns/evo-$host" ] || node=(nsenter "--net=/run/netns/evo-$host")
  SLURM_NODEID=$n "${node[@]}" unshare --pid --fork --mount-proc --kill-child "$@" < /dev/null &
  tasks+=($!) n=$((n + 1))
done < "$FAKES/hosts"
code=0
for task in "${tasks[@]}"; do wait "$task" || code=$?; done
exit "$code"
"""
OLD_RAY = '[ "$1" != symmetric-run ] || exit 2; exec "$REAL_RAY" "$@"'
NODES = ("10.99.47.1", "10.99.47.2")


@pytest.fixture
def fakes(tmp_path):
    folder = tmp_path / "fakes"
    for name, body in {"bin/scontrol": SCONTROL, "bin/srun": SRUN, "old/ray": OLD_RAY}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{body}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return folder


def write(workplace, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        given = ["slurm", "genome.yml", "-o", "job.sh", *arguments]
        done = CliRunner().invoke(main, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def job(workplace, fakes, node=()):
    programs = os.path.dirname(sys.executable)
    with (workplace / "job.log").open("a") as log:
        return subprocess.Popen(
            [*node, "bash", "job.sh"],
            cwd=workplace,
            env={
                **os.environ,
                "HF_HUB_OFFLINE": "1",
                "PYTHONPATH": str(ROOT),
                "PATH": f"{fakes}/bin:{os.environ['PATH']}",
                "FAKES": str(fakes),
                "REAL_RAY": f"{programs}/ray",
                "SLURM_JOB_ID": str(os.getpid()),
                "SLURM_JOB_NODELIST": "all",
                "SLURM_CPUS_ON_NODE": "2",
                "TMPDIR": "/tmp",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def setup(fakes, version):
    return ("--setup", f"export PATH={fakes}/old:$PATH") if version == "old" else ()


@pytest.mark.parametrize("version", ["new", "old"])
def test_a_job_that_is_queued_again_goes_on_where_it_was(workplace, fakes, version):
    """With `ray symmetric-run`, and with a Ray that does not have it."""
    (fakes / "hosts").write_text("localhost\n")
    text = (workplace / "genome.yml").read_text().replace("cma_es, budget: 6", "random, budget: 40")
    text = text.replace(", population_size: 4", "")
    text += "execution: {executor: ray, workers: 2, num_cpus: 1}\n"
    (workplace / "genome.yml").write_text(text)
    write(workplace, "--nodes", "1", *setup(fakes, version), "--", "--run-dir", "out")
    log = workplace / "job.log"
    first = job(workplace, fakes)
    assert comes_late(lambda: first.poll() is not None or n_trials(workplace) > 5)
    assert first.poll() is None, log.read_text()
    first.send_signal(signal.SIGUSR1)
    assert first.wait(120) != 0
    assert (fakes / "requeued").read_text() == f"{os.getpid()}\n"
    before = trials(workplace / "out")
    assert 5 < len(before) < 44, log.read_text()
    assert job(workplace, fakes).wait(300) == 0, log.read_text()
    after = trials(workplace / "out")
    assert sorted(after) == list(range(44))
    assert before.items() <= after.items()
    assert not os.path.exists(f"/tmp/ray-{os.getpid()}")
    assert "Traceback" not in log.read_text()


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def two_nodes(fakes):
    """Two networks that reach each other and nobody else."""
    (fakes / "hosts").write_text("".join(f"{node}\n" for node in NODES))
    spaces = [f"evo-{node}" for node in NODES]
    with ExitStack() as afterwards:
        try:
            for space in spaces:
                ip("netns", "add", space)
                afterwards.callback(ip, "netns", "del", space)
            ends = (
                "evo-a",
                "netns",
                spaces[0],
                "type",
                "veth",
                "peer",
                "evo-b",
                "netns",
                spaces[1],
            )
            ip("link", "add", *ends)
            for space, end, node in zip(spaces, ("evo-a", "evo-b"), NODES, strict=True):
                ip("-n", space, "addr", "add", f"{node}/24", "dev", end)
                for device in (end, "lo"):
                    ip("-n", space, "link", "set", device, "up")
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("networks of their own are not permitted here")
        yield spaces


@pytest.mark.parametrize("version", ["new", "old"])
def test_a_job_has_a_worker_on_each_of_its_nodes(workplace, fakes, two_nodes, version):
    more = ("--set", "optimizer={name: random, budget: 6}")
    options = ("--nodes", "2", "--cpus-per-node", "1", *setup(fakes, version))
    write(workplace, *options, "--", "--run-dir", "out", *more)
    done = job(workplace, fakes, ("ip", "netns", "exec", two_nodes[0])).wait(400)
    assert done == 0, (workplace / "job.log").read_text()
    assert sorted(trials(workplace / "out")) == list(range(10))
