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
from enum import Enum
from functools import cache, partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from uuid import uuid4

from evomerge.executors.base import LOADING, Job, MakeWorker, Message, answers, built
from evomerge.executors.worker import Worker
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.garbage import collect_again, collecting_later
from evomerge.foundations.guardian import end_marked
from evomerge.foundations.lifetime import end_with_parent, own_children, parent_to_be
from evomerge.foundations.machine import gpu_variables
from evomerge.foundations.scratch import lend_root, share_root


class _State(Enum):
    """Of a process: one that ended has its number until somebody waits for it."""

    RUNS = "runs"
    ENDED = "ended"
    WAITED_FOR = "waited for"


class Slot:
    """One worker process with all that it starts, and the job it has in hand.

    It has a session of its own: a signal to the controller's group does not reach it, and one to
    its own group does reach the programs that judge for it.

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
        self._token = uuid4().hex  # of all that is started there, whatever session it has
        if os.name == "posix":
            with own_children():  # one for all workers, which goes with none of them
                resource_tracker.ensure_running()
        context = multiprocessing.get_context("spawn")
        self.connection, child = context.Pipe()
        arguments = (child, make_worker, lend_root(), parent_to_be())
        self.process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)
        with own_children(self._token), _seeing(devices):
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
            if self.job is not None:  # which waited for somebody to hear this
                self.deadline = Deadline(trial_timeout, search_end=self.job.search_end)
            self._send(trial_timeout)
        if isinstance(message, str) and self.job is not None:
            self.stage = message
            if message == LOADING:  # which is over: the job begins now
                self.deadline = Deadline(trial_timeout, search_end=self.job.search_end)
        return message

    def settle(self, trial_timeout: float | None) -> None:
        """Waits until the job is sent; not longer than the process may take, nor if it died."""
        left = self.deadline.left
        patience = None if left == float("inf") else max(left, 0.0)
        if not self._is_listening and self.connection.poll(patience):
            with suppress(EOFError, ConnectionError):  # it is buried when it is heard next
                self.hear(trial_timeout)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; one that is gone is not waited for by asking."""
        return self._state is _State.RUNS

    @property
    def _state(self) -> _State:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return _State.RUNS if self.process.is_alive() else _State.WAITED_FOR
        try:
            ended = os.waitid(os.P_PID, self.process.pid or 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return _State.WAITED_FOR
        return _State.RUNS if ended is None else _State.ENDED

    def dismiss(self) -> None:
        """Asks the process to leave; one at work would not hear."""
        if self.job is not None:
            self.kill()
        self.connection.close()

    def kill(self) -> None:
        """Ends the process and all that it started; what it has to say is not heard."""
        pid = self.process.pid
        # Before anybody waits for it: then its number, that of the group too, may be another's.
        if pid is not None and self._state is not _State.WAITED_FOR and hasattr(os, "killpg"):
            with suppress(ProcessLookupError):  # it has no group yet
                os.killpg(pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        end_marked(self._token)
        self.connection.close()

    def end(self, moment: float) -> None:
        """Waits for the process until a moment of ``time.monotonic``, then ends what is left."""
        wait([self.process.sentinel], max(moment - time.monotonic(), 0.0))
        self.kill()


@contextmanager
def _seeing(devices: str | None) -> Iterator[None]:
    """Children see these GPUs alone, from their first line on: before anybody imports torch."""
    wanted: dict[str, str] = {}
    if devices is not None:
        wanted = dict.fromkeys(gpu_variables(), devices)
    before = {name: os.environ[name] for name in wanted if name in os.environ}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            os.environ.pop(name, None)
        os.environ.update(before)


def _work(connection: Connection, make_worker: MakeWorker, root: Path, controller: int) -> None:
    """The life of a worker process: until the other side is gone.

    Whether a trial ends is for the other side to say, and not for who interrupts every process.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(controller)
    share_root(root)
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        _serve(connection, make_worker)


def _serve(connection: Connection, make_worker: MakeWorker) -> None:
    """Jobs in, stages and outcomes out."""
    connection.send(None)
    worker = cache(partial(_built, make_worker))
    while True:
        for message in answers(worker, *connection.recv()):
            connection.send(message)


def _built(make_worker: MakeWorker) -> Worker:
    """What was imported for it stays as long as the process."""
    with collecting_later():
        worker = built(make_worker)
    collect_again()
    return worker
