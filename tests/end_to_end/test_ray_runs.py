"""A run on Ray through the command line is the serial run."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.test_workers import TPE, lines

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
RAY = ("--set", "execution={executor: ray, address: local, num_cpus: 1}")


def test_a_run_on_ray_is_the_serial_run_and_says_nothing_more(workplace, evomerge):
    evomerge("run", "genome.yml", "--run-dir", "here", *TPE, OMP_NUM_THREADS="1")
    done = evomerge("run", "genome.yml", "--run-dir", "there", "--json", *TPE, *RAY)
    assert lines(workplace / "here") == lines(workplace / "there")
    assert json.loads(done.stdout)
    assert "ray" not in done.stderr.lower()
