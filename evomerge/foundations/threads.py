"""Linear algebra of a search in one thread, however many the machine has.

With several, the last bits of numpy's eigenvectors depend on their number, and so would a search.
They also wait for cores on which torch's threads still spin: decomposing a matrix of 100 rows
right after a forward pass then takes 16 ms instead of 0.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Holds numpy's and scipy's linear algebra to one thread."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  # brings a library of its own, which must be loaded by then

    return ThreadpoolController()
