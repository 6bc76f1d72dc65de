"""Keeps transformers off the user's terminal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps progress bars and load reports off the user's terminal."""
    verbosity = transformers_logging.get_verbosity()
    had_progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # theirs
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_progress:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # theirs
