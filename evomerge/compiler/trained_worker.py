"""The worker in the process of a run whose model is trained: that of the trials, or one beside."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from evomerge.executors.base import Executor
from evomerge.executors.worker import Worker
from evomerge.foundations.scratch import lend_root


class TrainedWorker(Protocol):
    """Gives the worker, and ends its training."""

    def __call__(self) -> Worker:
        """The worker; another one where it had to be built anew.

        Raises:
            RunError: it cannot be built.
        """

    def end(self) -> None:
        """Nothing is trained any more."""


@dataclass(frozen=True)
class WorkerOfTrials:
    """The one that scores, too: trials wait while it is trained.

    Attributes:
        executor: Whose worker is in this process.
    """

    executor: Executor

    def __call__(self) -> Worker:
        """See :class:`TrainedWorker`."""
        return self.executor.worker

    def end(self) -> None:
        """It goes on scoring."""


@dataclass
class WorkerBeside:
    """One of this process, in the place of one of several that score in theirs.

    Attributes:
        executor: Lends the place while something is trained.
        make: Builds it on a device; None: on that of the run.
    """

    executor: Executor
    make: Callable[[str | None], Worker]
    _is_lent: bool = False
    _device: str | None = None
    _worker: Worker | None = None

    def __call__(self) -> Worker:
        """See :class:`TrainedWorker`."""
        if not self._is_lent:
            self._device, self._is_lent = self.executor.lend(), True
        if self._worker is None:
            lend_root()  # of what workers make of the sources it is one of the users
            self._worker = self.make(self._device)
        return self._worker

    def end(self) -> None:
        """Gives back its memory, then its place."""
        if not self._is_lent:
            return
        self._worker = None
        gc.collect()
        torch = sys.modules.get("torch")  # not there where no worker could be built
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._is_lent = False
        self.executor.take_back()
