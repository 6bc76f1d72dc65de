"""Keeps transformers and mergekit, and what they leave, off the user's terminal."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from functools import cache
from io import StringIO

from tqdm import tqdm  # type: ignore[import-untyped]  # tqdm has no types
from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps progress bars and load reports off the user's terminal.

    Of texts that are too long for a model nothing is said any more: who has them read tells that.
    """
    _drop_words_on_lengths()
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


@cache
def _drop_words_on_lengths() -> None:
    logger = logging.getLogger("transformers.tokenization_utils_base")
    logger.addFilter(lambda record: not str(record.msg).startswith("Token indices sequence length"))


@contextlib.contextmanager
def quiet_mergekit() -> Iterator[None]:
    """Keeps its progress bars and warnings off the user's terminal.

    Without a handler of somebody's the first warning would install one for good.
    """
    nobody = logging.NullHandler()
    logging.getLogger().addHandler(nobody)
    try:
        with contextlib.redirect_stderr(StringIO()):
            yield
    finally:
        logging.getLogger().removeHandler(nobody)


@cache
def lock_bars_in_this_process() -> None:
    """Has progress bars take turns by a lock of the process, not by a semaphore of the system.

    To be called before the first bar is made, which takes a semaphore.

    A process that is killed leaves its semaphore, and somebody else says so on the terminal.
    """
    tqdm.set_lock(threading.RLock())
