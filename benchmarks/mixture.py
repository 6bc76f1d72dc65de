"""What a trial of a mixture takes once its members were read: nothing is run for it.

    python benchmarks/mixture.py [--trials N] [--documents N] [--models N] [--vocabulary N]

A whole search on tiny models: 1,000 documents of four options, three models. To ask, score, keep
documents and write the ledger is in it (bar: 10 ms a trial under the arithmetic mean). The seconds
of the processor are those of this process: on a machine that others use, too, or whose disk is
slow, they tell more than the clock. The geometric mean has a normaliser over the vocabulary at
every position, so its trials take longer the larger that is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from tiny_search import Size, tiny_search

from evomerge.foundations.garbage import collect_again
from evomerge.merging.mixed_model import MixedModel
from evomerge.nouns.events import TrialFinished

BAR_MS = 10.0


def trials_of(size: Size) -> list[tuple[float, float, int]]:
    """Milliseconds of each trial by the clock and of the processor, and passes of the mixture."""
    found, passes = [], [0]
    forward = MixedModel.forward

    def counted(*arguments: object, **others: object) -> object:
        passes[0] += 1
        return forward(*arguments, **others)

    MixedModel.forward = counted
    collect_again()  # as `evomerge run` does
    try:
        with tempfile.TemporaryDirectory() as folder, tiny_search(Path(folder), size) as search:
            before = time.perf_counter(), time.process_time()
            for event in search.run():
                if isinstance(event, TrialFinished):
                    now = time.perf_counter(), time.process_time()
                    if not event.candidate.is_baseline:
                        clock, own = (1e3 * (b - a) for a, b in zip(before, now, strict=True))
                        found.append((clock, own, passes[0]))
                    before, passes[0] = now, 0
    finally:
        MixedModel.forward = forward
    return found


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
    print(f"{'mean':12} {'median':>8} {'least':>8} {'processor':>10} {'passes':>7}")
    for mean in ("arithmetic", "geometric"):
        size = Size(
            models=arguments.models,
            documents=arguments.documents,
            budget=arguments.trials,
            vocabulary=arguments.vocabulary,
            mean=mean,
        )
        clock, own, passes = zip(*trials_of(size), strict=True)
        middle = statistics.median(clock)
        row = f"{mean:12} {middle:8.2f} {min(clock):8.2f} {statistics.median(own):10.2f}"
        is_within = middle < BAR_MS
        verdict = f"{'within' if is_within else 'OVER'} the bar of {BAR_MS:g} ms"
        print(f"{row} {sum(passes):7}  {verdict}")


if __name__ == "__main__":
    main()
