"""Does a search find less where its generations overlap? The bowls of widths.py, several workers.

    python benchmarks/overlap.py [OPTIMIZER...] [--dims 6 24] [--seeds 20] [--workers 4 16]

Trials take from one to four units of time, drawn from the seed. Prints the mean best loss after
100 trials over the seeds and its standard error, and how long the search took: of one worker; of
several that get what the optimizer gives as soon as they are free; and of as many that wait until
a generation is over. A generation has a trial for each worker at least.
"""

from __future__ import annotations

import argparse
import heapq
import math

import numpy as np
from numpy.typing import NDArray
from widths import N_MODELS, SCALE, bowl

from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.search_context import SearchContext

BUDGET = 100
Array = NDArray[np.float64]


class Bowl:
    """A loss of weights, and a space whose unit cube they are."""

    def __init__(self, n_dims: int, seed: int) -> None:
        self._optimum, self._steepness = bowl(n_dims, seed)
        weights = (
            Real(f"w{i}", 0.0, 1.5, initial=1 / N_MODELS, scale=SCALE) for i in range(n_dims)
        )
        self.space = Space(tuple(weights))
        points = [
            {f"w{i}": float(i % N_MODELS == model) for i in range(n_dims)}
            for model in range(N_MODELS)
        ]
        self.models = np.array([self.space.encode(point) for point in points])

    def __call__(self, genotypes: Array) -> Array:
        """Losses of shape (k,)."""
        away = np.array([list(self.space.decode(g).values()) for g in genotypes]) - self._optimum
        losses: Array = 1 - np.exp(-0.5 * np.einsum("ki,ij,kj->k", away, self._steepness, away))
        return losses


def searched(
    name: str, n_dims: int, seed: int, n_workers: int, *, waits: bool
) -> tuple[float, float]:
    """The best loss of a search, and the units of time that it took."""
    losses, kind = Bowl(n_dims, seed), OPTIMIZERS[name]
    own = kind.default_population_size(n_dims)
    optimizer = kind(
        losses.space,
        seed=seed,
        population_size=max(own, n_workers),
        context=SearchContext(experts=losses.models, budget=BUDGET),
    )
    known = np.vstack([losses.models, losses.space.initial])
    optimizer.tell(known, losses(known))
    durations = np.random.default_rng(seed).uniform(1, 4, BUDGET)
    best, now, n_begun = float(losses(known).min()), 0.0, 0
    running: list[tuple[float, int, Array]] = []  # when it is over, which, where
    waiting: list[Array] = []
    while n_begun < BUDGET or running:
        while n_begun < BUDGET and len(running) < n_workers:
            if not waiting and (running if waits else not optimizer.can_ask):
                break
            waiting = waiting or list(optimizer.ask())
            heapq.heappush(running, (now + durations[n_begun], n_begun, waiting.pop(0)))
            n_begun += 1
        now, _, genotype = heapq.heappop(running)
        loss = losses(genotype[None])
        optimizer.tell(genotype[None], loss)
        best = min(best, float(loss[0]))
    return best, now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("optimizers", nargs="*", default=["cma_es", "swarm", "nsga2"])
    parser.add_argument("--dims", type=int, nargs="+", default=[6, 24])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16])
    given = parser.parse_args()
    ways = [(1, True), *((n, waits) for n in given.workers for waits in (False, True))]
    heads = (f"{n} worker{'s' * (n > 1)}{', waiting' * (waits and n > 1)}" for n, waits in ways)
    print("dims optimizer ", *(head.rjust(22) for head in heads))
    for n_dims in given.dims:
        for name in given.optimizers:
            row = []
            for n, waits in ways:
                seeds = range(given.seeds)
                found = [searched(name, n_dims, seed, n, waits=waits) for seed in seeds]
                best, time = np.array(found).T
                error = np.std(best, ddof=1) / math.sqrt(len(best))
                row.append(f"{best.mean():.3f} ± {error:.3f}, {time.mean():3.0f}".rjust(22))
            print(f"{n_dims:4d} {name:10s}", *row, flush=True)


if __name__ == "__main__":
    main()
