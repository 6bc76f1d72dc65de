"""A run on Ray through the command line: the serial run, and nobody left of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from tests.end_to_end.conftest import ROOT
from tests.end_to_end.test_workers import TPE, lines
from tests.test_lifetime import comes

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
RAY = ("--set", "execution={executor: ray, address: local, num_cpus: 1}")


def test_a_run_on_ray_is_the_serial_run_and_says_nothing_more(workplace, evomerge):
    evomerge("run", "genome.yml", "--run-dir", "here", *TPE, OMP_NUM_THREADS="1")
    done = evomerge("run", "genome.yml", "--run-dir", "there", "--json", *TPE, *RAY)
    assert lines(workplace / "here") == lines(workplace / "there")
    assert json.loads(done.stdout)
    assert "ray" not in done.stderr.lower()


def of_run(mark):
    """The processes of a run, by what they have in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("EVOMERGE_TEST_RAY") == mark:
                found.append(process)
        except psutil.Error:  # gone, or another's
            pass
    return found


def test_nobody_is_left_of_a_run_whose_controller_is_killed(workplace):
    mark = str(workplace)
    run = subprocess.Popen(
        [sys.executable, "-m", "evomerge", "run", "genome.yml", *RAY],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EVOMERGE_TEST_RAY": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert comes(lambda: any("TrialActor" in "".join(one.cmdline()) for one in of_run(mark)))
    processes = of_run(mark)
    run.kill()
    run.wait(60)
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert of_run(mark) == []
