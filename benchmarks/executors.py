"""Trials per hour of two workers in processes, and of two actors of a local Ray cluster.

    python benchmarks/executors.py [--trials N] [--documents N] [--width N] [--rounds N]

The same search either way (`random`, so that nobody waits for a generation), over a model whose
trials are forward passes. The pace is taken from the trial by which every worker is at work to
the last; what starting and ending costs stands apart, and in the pace of the whole run. Rounds
alternate; the best one counts (bar: Ray at most 5 % slower).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tiny_search import Size, write

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.genome.load import load_genome
from evomerge.nouns.events import TrialFinished

BAR = 0.05
WORKERS = 2
WARM = 3 * WORKERS  # trials after which every worker has been loaded
EXECUTORS = {
    "processes": f"execution={{executor: processes, workers: {WORKERS}}}",
    "ray": f"execution={{executor: ray, address: local, workers: {WORKERS}, num_cpus: 1}}",
}


@dataclass(frozen=True)
class Pace:
    """How fast a run was.

    Attributes:
        warm: Trials an hour once every worker is at work.
        whole: The same from the start of the run to its end.
        start: Seconds until the first trial is over.
    """

    warm: float
    whole: float
    start: float


def pace_of(genome: Path, changes: list[str], folder: Path) -> Pace:
    """Runs a search."""
    began = time.perf_counter()
    search = search_for(compile_genome(*load_genome(genome, changes)), folder)
    over = [time.perf_counter() for event in search.run() if isinstance(event, TrialFinished)]
    seconds, warm = time.perf_counter() - began, over[-1] - over[WARM - 1]
    return Pace(3600 * (len(over) - WARM) / warm, 3600 * len(over) / seconds, over[0] - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", default=40, type=int)
    parser.add_argument("--documents", default=100, type=int)
    parser.add_argument("--width", default=512, type=int)
    parser.add_argument("--layers", default=8, type=int)
    parser.add_argument("--rounds", default=2, type=int)
    arguments = parser.parse_args()
    size = Size(
        layers=arguments.layers,
        width=arguments.width,
        documents=arguments.documents,
        budget=arguments.trials,
    )
    found: dict[str, list[Pace]] = {name: [] for name in EXECUTORS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")  # of the workers
        genome = write(folder, size)
        for turn in range(arguments.rounds):
            for name, change in EXECUTORS.items():
                found[name].append(pace_of(genome, [change], folder / f"{name}-{turn}"))
    print(f"{'trials an hour':12} {'warm':>8} {'whole run':>10} {'seconds to the first':>22}")
    best = {name: max(paces, key=lambda one: one.warm) for name, paces in found.items()}
    for name, pace in best.items():
        print(f"{name:14} {pace.warm:8.0f} {pace.whole:10.0f} {pace.start:22.1f}")
    slower = 1 - best["ray"].warm / best["processes"].warm
    print(
        f"ray is {abs(slower):.1%} {'slower' if slower > 0 else 'faster'} (bar: {BAR:.0%} slower)"
    )


if __name__ == "__main__":
    main()
