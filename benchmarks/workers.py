"""Trials per hour of one worker with one thread, and of several with one thread each.

A random search over a Llama of 38M random weights in float32, where a trial is a merge and
forward passes; every worker a process. Counted from the end of the baselines, by when all workers
are there, to the last trial. By the clock: nothing else may run.

    python benchmarks/workers.py [--workers 1 2] [--trials 16] [--documents 60] [--rounds 1]
                                 [--width 512] [--layers 10]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tiny_search import Size, tiny_search

from evomerge.nouns.events import TrialFinished

BAR = 1.8  # times as many trials for two workers on two cores


def trials_per_hour(size: Size, n_workers: int) -> float:
    """Of the optimizer's trials, once the baselines are over."""
    began, ends = 0.0, []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with tiny_search(folder, size, f"{{executor: processes, workers: {n_workers}}}") as search:
            for event in search.run():
                if not isinstance(event, TrialFinished):
                    continue
                if event.candidate.is_baseline:
                    began = time.perf_counter()
                else:
                    ends.append(time.perf_counter())
    return 3600 * len(ends) / (ends[-1] - began)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures each number of workers in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", default=[1, 2], nargs="+", type=int)
    parser.add_argument("--trials", default=16, type=int)
    parser.add_argument("--documents", default=60, type=int)
    parser.add_argument("--rounds", default=1, type=int)
    parser.add_argument("--width", default=512, type=int)
    parser.add_argument("--layers", default=10, type=int)
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"  # of one worker, too
    size = Size(
        layers=options.layers,
        width=options.width,
        vocabulary=12_000,
        documents=options.documents,
        budget=options.trials,
    )
    first = 0.0
    for _ in range(options.rounds):
        for n_workers in options.workers:
            rate = trials_per_hour(size, n_workers)
            first = rate if n_workers == options.workers[0] else first
            told = f"{rate / first:.2f} times as many" if n_workers != options.workers[0] else ""
            print(f"workers {n_workers}: {rate:8.0f} trials per hour  {told}", flush=True)


if __name__ == "__main__":
    main()
