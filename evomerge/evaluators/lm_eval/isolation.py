"""Keeps lm-eval's noise and its reseeding away from the caller."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import datasets
import lm_eval.api.task
import numpy as np
import torch
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

LOUD_LOGGERS = ("lm_eval", "transformers", "datasets")


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no log lines below ERROR from lm-eval and what it calls."""
    loggers = [logging.getLogger(name) for name in LOUD_LOGGERS]
    levels = [logger.level for logger in loggers]
    had_bars = not datasets.are_progress_bars_disabled()
    bar = lm_eval.api.task.tqdm
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    # Building requests draws a bar that no argument turns off.
    lm_eval.api.task.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        lm_eval.api.task.tqdm = bar
        if had_bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def own_randomness(torch_seed: int = DEFAULT_OTHER_SEED) -> Iterator[None]:
    """Global generators seeded as `lm_eval.simple_evaluate` does, restored afterwards.

    Args:
        torch_seed: Seed of torch's generators, which sampled generation draws from.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]  # torch
    with torch.random.fork_rng(devices=devices):
        random.seed(DEFAULT_RANDOM_SEED)
        np.random.seed(DEFAULT_OTHER_SEED)
        torch.manual_seed(torch_seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
