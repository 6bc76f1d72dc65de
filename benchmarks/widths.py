"""Does a wider range send a search astray? A bowl of weights, its optimum near the models' average.

    python benchmarks/widths.py [OPTIMIZER...] [--dims 6 24] [--seeds 8]

The loss saturates far away, as scores of merges do. Prints, for each optimizer and range of a
weight, the mean best loss after 60 trials over the seeds, and its standard error.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.search_context import SearchContext

BOXES = ((0.0, 1.0), (0.0, 1.5), (-1.5, 1.5), (-2.0, 3.0))
N_MODELS = 3
BUDGET = 60
SCALE = 0.1


def bowl(n_dims: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the optimum of a seed lies, and how steep it is along each direction."""
    random = np.random.default_rng(100 + seed)
    optimum = np.clip(1 / N_MODELS + random.normal(0, 0.2, n_dims), 0, 1)
    mixing = random.normal(size=(n_dims, n_dims))
    return optimum, (mixing @ mixing.T / n_dims + np.eye(n_dims)) * 48 / n_dims


def best_loss(name: str, box: tuple[float, float], n_dims: int, seed: int) -> float:
    """After the budget, the models and their average."""
    optimum, steepness = bowl(n_dims, seed)
    start = 1 / N_MODELS
    space = Space(
        tuple(Real(f"w{i}", *box, initial=start, scale=SCALE) for i in range(n_dims)),
    )

    def losses(genotypes: NDArray[np.float64]) -> NDArray[np.float64]:
        away = np.array([list(space.decode(g).values()) for g in genotypes], float) - optimum
        return 1 - np.exp(-0.5 * np.einsum("ki,ij,kj->k", away, steepness, away))

    models = np.array(
        [
            space.encode({f"w{i}": float(i % N_MODELS == model) for i in range(n_dims)})
            for model in range(N_MODELS)
        ]
    )
    context = SearchContext(experts=models, budget=BUDGET)
    optimizer = OPTIMIZERS[name](space, seed=seed, context=context)
    known = np.vstack([models, space.initial])
    optimizer.tell(known, losses(known))
    best, n_trials = float(losses(known).min()), 0
    while n_trials < BUDGET and not optimizer.is_finished:
        asked = optimizer.ask()
        found = losses(asked)
        optimizer.tell(asked, found)
        best, n_trials = min(best, float(found.min())), n_trials + len(asked)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("optimizers", nargs="*", default=["cma_es", "tpe", "niches", "nsga2"])
    parser.add_argument("--dims", type=int, nargs="+", default=[6])
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    print("dims optimizer  ", *(f"[{low:g}, {high:g}]".rjust(14) for low, high in BOXES))
    for n_dims in given.dims:
        for name in given.optimizers:
            row = []
            for box in BOXES:
                found = [best_loss(name, box, n_dims, seed) for seed in range(given.seeds)]
                error = np.std(found) / math.sqrt(len(found))
                row.append(f"{np.mean(found):.3f} ± {error:.3f}".rjust(14))
            print(f"{n_dims:4d} {name:10s} ", *row, flush=True)


if __name__ == "__main__":
    main()
