"""One worker process: started, given a job, listened to, ended; and what runs inside it.

Jobs go there once it listens; back come the stages, first that it has been loaded, and the
outcome.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from evomerge.executors.base import LOADING, Job, MakeWorker, Message, answers, built
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.lifetime import end_with_parent, own_children, parent_to_be
from evomerge.foundations.scratch import scratch_root, share_root

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Slot:
    """One worker process, and the job it has in hand.

    Args:
        make_worker: Called in the process.
        devices: The GPUs that it sees, as ``CUDA_VISIBLE_DEVICES`` has them; None: all.

    Attributes:
        job: None while it is idle.
        stage: Of the job.
        deadline: By when the worker has to be loaded, then the job to be done.
    """

    def __init__(self, make_worker: MakeWorker, devices: str | None = None) -> None:
        self.devices = devices
        context = multiprocessing.get_context("spawn")
        self.connection, child = context.Pipe()
        arguments = (child, make_worker, scratch_root(), parent_to_be())
        self.process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)
        with own_children(), _seeing(devices):
            self.process.start()
        child.close()
        self.job: Job | None = None
        self.stage = LOADING
        self.deadline = Deadline()
        self._batch_divisor = 1
        self._is_listening = False

    def give(self, job: Job, batch_divisor: int, trial_timeout: float | None) -> None:
        """Sends a job, once the process listens: a large one waits for who never reads."""
        self.job, self.stage, self._batch_divisor = job, LOADING, batch_divisor
        self.deadline = Deadline(trial_timeout, search_end=job.search_end)
        if self._is_listening:
            self._send(trial_timeout)

    def _send(self, trial_timeout: float | None) -> None:
        with suppress(ConnectionError):  # it died idle: it is buried when it is heard next
            self.connection.send((self.job, self._batch_divisor, trial_timeout))

    def hear(self, trial_timeout: float | None) -> Message:
        """The next message; raises EOFError where the process died."""
        message: Message = self.connection.recv()
        if message is None:
            self._is_listening = True
            self._send(trial_timeout)
        if isinstance(message, str) and self.job is not None:
            self.stage = message
            if message == LOADING:  # which is over: the job begins now
                self.deadline = Deadline(trial_timeout, search_end=self.job.search_end)
        return message

    def dismiss(self) -> None:
        """Asks the process to leave; one at work would not hear."""
        self.connection.close()
        if self.job is not None:
            self.process.kill()

    def kill(self) -> None:
        """Ends the process at once; what it has to say is not heard."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def end(self, moment: float) -> None:
        """Waits for the process until a moment of ``time.monotonic``, then makes it leave."""
        self.process.join(max(moment - time.monotonic(), 0.0))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextmanager
def _seeing(devices: str | None) -> Iterator[None]:
    """Children see these GPUs alone, from their first line on: before anybody imports torch."""
    before = os.environ.get(_VISIBLE)
    if devices is not None:
        os.environ[_VISIBLE] = devices
    try:
        yield
    finally:
        if devices is not None:
            os.environ.pop(_VISIBLE, None)
            os.environ.update({} if before is None else {_VISIBLE: before})


def _work(connection: Connection, make_worker: MakeWorker, root: Path, controller: int) -> None:
    """The life of a worker process: until the other side is gone.

    Ctrl-C reaches every process of a terminal; whether a trial ends is for the other side to say.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(controller)
    share_root(root)
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        _serve(connection, make_worker)


def _serve(connection: Connection, make_worker: MakeWorker) -> None:
    """Jobs in, stages and outcomes out."""
    connection.send(None)
    worker = cache(partial(built, make_worker))
    while True:
        for message in answers(worker, *connection.recv()):
            connection.send(message)
