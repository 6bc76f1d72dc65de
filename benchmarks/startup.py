"""Seconds until something happens: ``--help``, a genome with a mistake, the first trial.

    python benchmarks/startup.py [GENOME]

Medians of whole processes; the first trial is timed from the start of ``evomerge run``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 5


def seconds(*arguments: str, until: str = "") -> float:
    """Wall-clock seconds of one call, or until it prints a line that begins with a text."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "evomerge", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if process.stdout is not None:
        for line in process.stdout:
            if until and line.startswith(until):
                break
    elapsed = time.perf_counter() - started
    process.kill()
    process.wait()
    return elapsed


def main() -> None:
    genome = sys.argv[1] if len(sys.argv) > 1 else "genomes/skills.yml"
    bad = "--set=genome.layer_granularty=1"
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            "evomerge --help": lambda n: seconds("--help"),
            "a genome with a misspelt key": lambda n: seconds("check", genome, bad),
            "evomerge run, to the end of trial 0": lambda n: seconds(
                "run", genome, "--run-dir", str(Path(folder) / str(n)), until="trial"
            ),
        }
        for label, run in rows.items():
            times = [run(n) for n in range(REPEATS)]
            print(f"{label:<38} {statistics.median(times):6.2f} s")


if __name__ == "__main__":
    main()
