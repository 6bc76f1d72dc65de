"""Commands that are ended at a chosen moment, in a chosen way, and what is left of them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil

from tests.end_to_end.conftest import ROOT

MARK = "EVOMERGE_TEST_DEATH"  # other people's processes are not counted
SECONDS_TO_BEGIN = 240.0
SECONDS_TO_GO = 30.0

HOOKS = '''
import json, multiprocessing, time
from pathlib import Path

HERE = Path(__file__).parent
N_DOCUMENTS = 12
calls = {}


def stop(place):
    """Comes no further where a test waits for it to be here; one of all, or each."""
    hang = HERE / "hang"
    if hang.is_file() and hang.read_text() == f"once, {place}":
        hang.unlink(missing_ok=True)
        while True:
            time.sleep(0.1)
    while hang.is_file() and hang.read_text() == place:
        (HERE / "reached").touch()
        time.sleep(0.1)


stop("import in a worker" if multiprocessing.parent_process() else "import")


def results(doc, likelihoods):
    split = doc["split"]
    calls[split] = calls.get(split, 0) + 1
    stop(f"{split} {calls[split] // N_DOCUMENTS}")
    said = max(range(len(likelihoods)), key=lambda i: likelihoods[i][0])
    return {"acc": float(said == doc["answer"])}
'''


def with_hooks(workplace: Path) -> Path:
    """The workplace; its tasks stop where the file ``tasks/hang`` says."""
    import json

    tasks = workplace / "tasks"
    (tasks / "hooks.py").write_text(HOOKS)
    for split in ("search", "validation", "holdout"):
        file = tasks / f"{split}.jsonl"
        rows = [{**json.loads(line), "split": split} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        yaml = tasks / f"{split}.yaml"
        yaml.write_text(yaml.read_text() + "process_results: !function hooks.results\n")
    return workplace


@dataclass
class Command:
    """An evomerge command in a workplace, with a temporary folder and a mark of its own.

    Attributes:
        workplace: Where it runs.
        arguments: Of ``evomerge``.
        said: What it wrote to a terminal.
    """

    workplace: Path
    arguments: tuple[str, ...]
    said: str = ""
    _mark: str = field(default_factory=lambda: uuid4().hex)

    @property
    def tmp(self) -> Path:
        """Its temporary folder."""
        return self.workplace / "tmp"

    @property
    def log(self) -> Path:
        """What it wrote where it had no terminal, and what others wrote of it afterwards."""
        return self.workplace / f"{self._mark}.txt"

    @property
    def environment(self) -> Mapping[str, str]:
        """Its environment."""
        own = {MARK: self._mark, "TMPDIR": str(self.tmp), "PYTHONPATH": str(ROOT)}
        return {**os.environ, "HF_HUB_OFFLINE": "1", **own}

    def start(self, terminal: int | None = None) -> subprocess.Popen[bytes]:
        """Starts it in a session of its own, on a terminal where one is given."""
        self.tmp.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "evomerge", *self.arguments],
                cwd=self.workplace,
                env=self.environment,
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=log if terminal is None else terminal,
                stderr=log if terminal is None else terminal,
                start_new_session=True,
                preexec_fn=_hear_of_terminals if terminal is None else _take_terminal,
            )

    def run(self) -> None:
        """Runs it to its end."""
        (self.workplace / "tasks" / "hang").unlink(missing_ok=True)
        process = self.start()
        assert process.wait(SECONDS_TO_BEGIN) == 0

    def ended(self, way: str, is_there: Callable[[], bool]) -> int:
        """Runs it until a moment has come, ends it in a way; its exit code."""
        (self.workplace / "tasks" / "reached").unlink(missing_ok=True)
        master, terminal = os.openpty() if way == "terminal" else (None, None)
        process = self.start(terminal)
        if terminal is not None:
            os.close(terminal)
        deadline = time.monotonic() + SECONDS_TO_BEGIN
        while not is_there():
            assert process.poll() is None, f"ended before its moment: {self.said}"
            assert time.monotonic() < deadline, "its moment never came"
            self._read(master)
        WAYS[way](process, master)
        return process.wait(SECONDS_TO_GO)

    def _read(self, master: int | None) -> None:
        """Waits a little; what is written to the terminal must go somewhere."""
        if master is None:
            time.sleep(0.02)
            return
        os.set_blocking(master, False)
        with suppress(BlockingIOError):
            self.said += os.read(master, 1 << 16).decode(errors="replace")
        time.sleep(0.02)

    def processes(self) -> list[psutil.Process]:
        """Those that are left of it."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
        return found

    def left(self) -> list[str]:
        """Processes and folders that are left after a while in which they may go."""
        deadline = time.monotonic() + SECONDS_TO_GO
        while time.monotonic() < deadline:
            files = [path.name for path in self.tmp.iterdir() if "evomerge" in path.name]
            found = [*files, *map(str, self.processes())]
            if not found:
                return []
            time.sleep(0.05)
        return found

    def child(self, module: str) -> bool:
        """Whether a process of it runs a module."""
        for process in self.processes():
            with suppress(psutil.Error):
                if module in process.cmdline():
                    return True
        return False


def _hear_of_terminals() -> None:
    """Also where the tests themselves run under ``nohup``."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _take_terminal() -> None:
    _hear_of_terminals()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _close(process: subprocess.Popen[bytes], master: int | None) -> None:
    assert master is not None
    os.close(master)


WAYS: dict[str, Callable[[subprocess.Popen[bytes], int | None], None]] = {
    "kill -9": lambda process, _: process.kill(),
    "SIGTERM": lambda process, _: process.terminate(),
    "SIGHUP": lambda process, _: process.send_signal(signal.SIGHUP),
    "terminal": _close,
    "kill -9 of the group": lambda process, _: os.killpg(process.pid, signal.SIGKILL),
}
EXIT_CODES = {
    "kill -9": -9,
    "SIGTERM": 143,
    "SIGHUP": 129,
    "terminal": 129,
    "kill -9 of the group": -9,
}
