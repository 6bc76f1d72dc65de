"""A program of the user's while it runs: what it says is kept, what it started ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from evomerge.foundations.errors import RunError, why
from evomerge.foundations.guardian import MARK, end_marked
from evomerge.foundations.lifetime import guardian

_SECONDS_TO_CLOSE = 0.2  # until its streams end with it, where nothing else holds them
_SECONDS_TO_END = 5.0
_LAST = 4000  # bytes of what it said last, for people
_starting = threading.Lock()  # judges begin in threads of their own


class Guest:
    """A process in a session of its own; whatever ends this process ends it too.

    What it starts in further sessions, and has its streams, ends with it.

    Args:
        command: Program and arguments.
        environment: All it has of one.
        folder: Where it runs.
        handles: File descriptors that it inherits.
        most_bytes: Of its standard output that is kept; 0: the end of it, for people.

    Raises:
        RunError: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        handles: Sequence[int] = (),
        most_bytes: int = 0,
    ) -> None:
        with _starting:
            guardian().start()
        self._mark = uuid4().hex
        try:
            self._process = subprocess.Popen(
                list(command),
                env={**environment, MARK: f"{guardian().token} {self._mark}"},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=handles,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # no interpreter, too long, zero bytes
            raise RunError(
                f"it cannot be started ({why(error)})",
                where=command[0],
                fix="Run it by hand; a script may need what interprets it: [python, judge.py].",
            ) from error
        self.output = Drained(self._process.stdout, most_bytes)
        self.errors = Drained(self._process.stderr)

    def wait(self, seconds: float) -> int | None:
        """Its exit status, negative for a signal; None where it still runs after so long."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def end(self) -> None:
        """Ends it, and what it left behind; a second time does nothing."""
        # Of a group whose leader was waited for the number is free only once all of it are gone.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)
        if not self._are_closed(_SECONDS_TO_CLOSE):
            end_marked(self._mark)
            self._are_closed(_SECONDS_TO_END)

    def _are_closed(self, seconds: float) -> bool:
        """Whether nobody writes to its streams any more, after so long at most."""
        end = time.monotonic() + seconds
        for one in (self.output, self.errors):
            one.join(max(end - time.monotonic(), 0.0))
        return not (self.output.is_alive() or self.errors.is_alive())

    @property
    def last_words(self) -> str:
        """The last line that it wrote, to its errors if there is one; may be empty."""
        for one in (self.errors, self.output):
            lines = one.kept[-_LAST:].decode(errors="replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return said[-1]
        return ""

    def how_it_ended(self, status: int) -> str:
        """An exit status in words, with the last that was said."""
        if status < 0:
            with suppress(ValueError):
                return f"was ended by {signal.Signals(-status).name}{self._said()}"
        return f"ended with exit status {status}{self._said()}"

    def _said(self) -> str:
        return f" ({self.last_words})" if self.last_words else ""


class Drained(threading.Thread):
    """Reads a stream to its end, so that nobody waits who writes to it.

    Args:
        stream: To be read.
        most: Bytes of its beginning that are kept; 0: the last few.

    Attributes:
        n_bytes: How many there were until now.
    """

    def __init__(self, stream: IO[bytes] | None, most: int = 0) -> None:
        super().__init__(daemon=True)
        self._stream, self._most = stream, most
        self.n_bytes = 0
        self._parts: list[bytes] = []
        self.start()

    @property
    def kept(self) -> bytes:
        """What is kept, until now."""
        return b"".join(self._parts)

    @property
    def is_too_much(self) -> bool:
        """Whether there was more than is kept of a beginning."""
        return 0 < self._most < self.n_bytes

    def run(self) -> None:
        """Reads."""
        if self._stream is None:
            return
        with self._stream, suppress(OSError, ValueError):
            while chunk := os.read(self._stream.fileno(), 1 << 16):
                self.n_bytes += len(chunk)
                if not self._most:
                    self._parts = [(self.kept + chunk)[-_LAST:]]
                elif self.n_bytes <= self._most:
                    self._parts.append(chunk)
