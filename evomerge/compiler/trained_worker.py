"""The worker in the process of a run whose model is trained: that of the trials, or one beside."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from typing import Protocol

from evomerge.compiler.compiled import Compiled
from evomerge.compiler.make_executor import FirstWith, worker_factory_for
from evomerge.executors.base import Executor, built
from evomerge.executors.worker import Worker
from evomerge.foundations.scratch import lend_root
from evomerge.run.ledger.history import Ledger


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
        compiled: What is searched.
        executor: Lends the place while something is trained.
        ledger: Of the run.
    """

    compiled: Compiled
    executor: Executor
    ledger: Ledger
    _worker: Worker | None = None

    def __call__(self) -> Worker:
        """See :class:`TrainedWorker`."""
        if self._worker is None:
            device = self.executor.lend()
            lend_root()  # of what workers make of the sources it is one of the users
            factory = worker_factory_for(self.compiled, self.ledger.header, self.ledger.folder.path)
            factory = replace(factory, device=device or factory.device)
            self._worker = built(FirstWith(factory, self.compiled.tasks.evaluators))
        return self._worker

    def end(self) -> None:
        """Gives back its memory, then its place."""
        if self._worker is None:
            return
        self._worker = None
        gc.collect()
        import torch  # it is there by now

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.executor.take_back()
