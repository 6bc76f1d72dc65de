"""The border to lm-eval's code: no noise, no reseeding, no template compiled twice."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial

import datasets
import lm_eval.api.task
import lm_eval.utils
import numpy as np
import torch
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

from evomerge.models.quiet import lock_bars_in_this_process

CODE_EVAL = "HF_ALLOW_CODE_EVAL"
LOUD_LOGGERS = ("lm_eval", "transformers", "datasets")
# lm-eval compiles a task's templates anew for every document: two thirds of its own time.
_compile_once = lru_cache(maxsize=1024)(lm_eval.utils.env.from_string)


@contextmanager
def inside_lm_eval(
    torch_seed: int = DEFAULT_OTHER_SEED, *, unsafe_code: bool = False
) -> Iterator[None]:
    """Wraps every call into lm-eval; whatever it touches globally is put back.

    Args:
        torch_seed: Seed of torch's generators, which sampled generation draws from.
        unsafe_code: Whether metrics may run code that a model wrote.
    """
    lock_bars_in_this_process()
    compiler = lm_eval.utils.env.from_string
    lm_eval.utils.env.from_string = _compile_once
    try:
        with _quiet(), _own_randomness(torch_seed), _code_metrics(unsafe_code):
            yield
    finally:
        lm_eval.utils.env.from_string = compiler


@contextmanager
def _code_metrics(allowed: bool) -> Iterator[None]:
    """Metrics that run code ask the environment; a person is asked on the command line alone."""
    before = os.environ.pop(CODE_EVAL, None)
    if allowed:
        os.environ[CODE_EVAL] = "1"
    try:
        yield
    finally:
        os.environ.pop(CODE_EVAL, None)
        if before is not None:
            os.environ[CODE_EVAL] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no log lines below ERROR from lm-eval and what it calls."""
    loggers = [logging.getLogger(name) for name in LOUD_LOGGERS]
    levels = [logger.level for logger in loggers]
    had_bars = not datasets.are_progress_bars_disabled()
    bar = lm_eval.api.task.tqdm
    _set_levels(loggers, [logging.ERROR] * len(loggers))
    datasets.disable_progress_bars()
    # Building requests draws a bar that no argument turns off.
    lm_eval.api.task.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        lm_eval.api.task.tqdm = bar
        if had_bars:
            datasets.enable_progress_bars()
        _set_levels(loggers, levels)


def _set_levels(loggers: Sequence[logging.Logger], levels: Sequence[int]) -> None:
    """As ``setLevel`` does, which walks through all loggers of the process for each of them."""
    for logger, level in zip(loggers, levels, strict=True):
        logger.level = level
    for one in _HEIRS.loggers():
        one._cache.clear()  # type: ignore[attr-defined]  # no public name


class _Heirs:
    """The loud loggers and all below them, whose levels follow theirs.

    They are found once, as long as no other logger comes.
    """

    def __init__(self) -> None:
        self._n_known = -1
        self._found: list[logging.Logger] = []
        self._places: list[str] = []  # names that are no loggers yet

    def loggers(self) -> Sequence[logging.Logger]:
        """Them."""
        known = logging.root.manager.loggerDict
        if len(known) != self._n_known or any(
            isinstance(known.get(name), logging.Logger) for name in self._places
        ):
            own = {n: one for n, one in [*known.items()] if n.partition(".")[0] in LOUD_LOGGERS}
            self._found = [one for one in own.values() if isinstance(one, logging.Logger)]
            self._places = [n for n, one in own.items() if not isinstance(one, logging.Logger)]
            self._n_known = len(known)
        return self._found


_HEIRS = _Heirs()


@contextmanager
def _own_randomness(torch_seed: int) -> Iterator[None]:
    """Global generators seeded as `lm_eval.simple_evaluate` does, restored afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]  # torch
    with torch.random.fork_rng(devices=devices):
        random.seed(DEFAULT_RANDOM_SEED)
        np.random.seed(DEFAULT_OTHER_SEED)
        _seed(torch_seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _seed(seed: int) -> None:
    """As ``torch.manual_seed`` does for the devices in use: it keeps a stack trace for the rest."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
