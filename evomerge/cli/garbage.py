"""When Python looks for garbage: not while a command starts.

Importing torch, transformers and lm-eval makes millions of objects that stay; looking through
them again and again takes a quarter of a start.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collecting_later() -> Iterator[None]:
    """Looks for no garbage inside until :func:`collect_again`."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def collect_again() -> None:
    """Looks for garbage, but not among what is there now; for long work."""
    gc.freeze()
    gc.enable()
