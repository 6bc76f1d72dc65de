"""What a trial of a mixture takes once its members were read: nothing is run for it.

    python benchmarks/mixture.py [--trials N] [--documents N] [--models N] [--vocabulary N]

A whole search on tiny models: 1,000 documents of four options, three models (bar: 10 ms a trial
under the arithmetic mean). What it takes to ask, score, keep documents and write the ledger is in
it. The geometric mean has a normaliser over the vocabulary at every position, so its trials take
longer the larger that is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from phases import FORWARD, trials_of
from tiny_search import Size, tiny_search

BAR_MS = 10.0


def measured(mean: str, size: Size) -> tuple[str, float]:
    """A row of the table, and the median of its trials in milliseconds."""
    with tempfile.TemporaryDirectory() as temporary, tiny_search(Path(temporary), size) as search:
        trials = trials_of(search)
    first, *others = [1e3 * sum(trial.values()) for trial in trials]
    passes = sum(FORWARD in trial for trial in trials[1:])
    middle = statistics.median(others)
    return f"{mean:12} {first:10.1f} {middle:10.2f} {min(others):10.2f} {passes:10}", middle


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", default=40, type=int)
    parser.add_argument("--documents", default=1000, type=int)
    parser.add_argument("--models", default=3, type=int)
    parser.add_argument("--vocabulary", default=0, type=int)
    parser.add_argument("--threads", default=1, type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.documents:,} documents, {arguments.models} models; milliseconds a trial")
    print(f"{'mean':12} {'first':>10} {'median':>10} {'least':>10} {'with passes':>11}")
    for mean in ("arithmetic", "geometric"):
        size = Size(
            models=arguments.models,
            documents=arguments.documents,
            budget=arguments.trials,
            vocabulary=arguments.vocabulary,
            mean=mean,
        )
        row, middle = measured(mean, size)
        is_within = middle < BAR_MS
        print(row + (f"  {'within' if is_within else 'OVER'} the bar of {BAR_MS:g} ms"))


if __name__ == "__main__":
    main()
