"""Benchmarks run, on sizes that tell nothing of speed, and print their tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALLS = {
    "gpu.py --device cpu --size tiny --rounds 1": ("merge, ties", "evomerge", "scoring"),
    "gpu.py --device cpu --size tiny --rounds 1 --plain": ("merge, linear", "plain", "scoring"),
    "growth.py --quick --trials 2 --threads 1 --svg {folder}/growth.svg": ("models", "trials"),
    "trial_overhead.py --trials 10 --documents 10 --threads 1": (
        "10 trials in 100 dimensions",
        "render",
        "all the rest",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_a_benchmark_prints_its_table(call, tmp_path):
    script, *arguments = call.format(folder=tmp_path).split()
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    assert all(text in run.stdout for text in CALLS[call])
    for drawing in tmp_path.glob("*.svg"):
        assert drawing.read_text().startswith("<svg")
