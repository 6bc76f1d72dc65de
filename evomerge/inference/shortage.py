"""What running out of memory looks like, and how to get the memory back."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from evomerge.foundations.errors import EvaluationError, OutOfMemoryError, why

# The CPU's allocator raises a plain RuntimeError; so do some kernels of a GPU.
_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_shortage(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def give_back(error: BaseException) -> None:
    """Gives back what a pass that failed held: its tensors hang on the error's traceback."""
    error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def freed_on_shortage() -> Iterator[None]:
    """Gives memory back where the work inside ran out of it."""
    try:
        yield
    except OutOfMemoryError as error:
        if error.__cause__ is not None:
            give_back(error.__cause__)
        raise


@contextmanager
def told_of_passes() -> Iterator[None]:
    """Says what a failed forward pass means for a candidate.

    Raises:
        OutOfMemoryError: it did not fit the memory.
        EvaluationError: it failed otherwise.
    """
    try:
        yield
    # What torch and transformers raise when memory, shapes or token ids do not fit.
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        if is_shortage(error):
            raise OutOfMemoryError(f"out of memory: {why(error)}") from error
        raise EvaluationError(f"the forward pass failed: {why(error)}") from error
