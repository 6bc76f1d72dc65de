"""A search does not depend on how many threads numpy has."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from evomerge.foundations.threads import one_thread
from evomerge.nouns.space import Real, Space
from evomerge.optimizers.cma_es import CmaEs


def _asked(n_threads: int) -> np.ndarray:
    space = Space([Real(f"x{i}", 0.0, 1.0) for i in range(100)])
    with threadpool_limits(n_threads, user_api="blas"):
        optimizer = CmaEs(space, seed=1)
        for _ in range(12):
            genotypes = optimizer.ask()
            optimizer.tell(genotypes, ((genotypes - 0.3) ** 2).sum(axis=1))
        return optimizer.ask()


def test_cma_es_asks_the_same_whatever_the_threads() -> None:
    assert np.array_equal(_asked(1), _asked(2))


def test_linear_algebra_has_its_threads_again_afterwards() -> None:
    def n_threads() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    before = n_threads()
    with one_thread():
        assert set(n_threads()) <= {1}
    assert n_threads() == before
