"""When Python looks for garbage: not while a command or a worker starts.

Importing torch, transformers and lm-eval makes millions of objects that stay; looking through
them again and again takes a quarter of a start.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# New objects before it looks among them. A trial makes some ten thousand, tuples of numbers for
# its documents, and hardly a circle: at Python's 700 a tenth of a short trial is spent looking.
_NEW_OBJECTS = 10_000


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
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    gc.enable()
