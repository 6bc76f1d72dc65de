"""The keys of requests, by which a server can tell one that it has answered before.

A key holds a number of the run, for another run asks anew; what is asked; and how often the
server's own word on that was a failure, which it might only repeat under the same key.
"""

from __future__ import annotations

import os
import re
import uuid
from collections import Counter
from pathlib import Path

from evomerge.foundations.claims import Claims
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import LedgerError
from evomerge.foundations.files import write_atomic, writing
from evomerge.foundations.reading import is_there, opened

_NUMBER = re.compile(r"[0-9a-f]{32}")
_LONGEST = 1 << 10  # bytes of a line
_APPEND = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)


class RequestKeys:
    """The number of a run, and a line for each failure, in a file of all its processes.

    Args:
        file: It; made when something is asked first. None: in memory alone.
        claims: In which only one process makes it.
    """

    def __init__(self, file: Path | None, claims: Claims | None) -> None:
        self._file = file
        self._claims = claims
        self._run = uuid.uuid4().hex if file is None else ""
        self._failed: Counter[str] = Counter()
        self._n_read = 0  # bytes of the file

    def of(self, judgment: str) -> str:
        """The key to ask for a judgment with now.

        Raises:
            LedgerError: the file is damaged.
            LostFileError: it cannot be made.
        """
        if self._file is not None:
            self._refresh(self._file)
        return f"evomerge-{self._run}-{judgment}-{self._failed[judgment]}"

    def failed(self, judgment: str) -> None:
        """Has a judgment asked for with another key from now on, by later commands too.

        Raises:
            LostFileError: the file cannot be written.
        """
        if self._file is None:
            self._failed[judgment] += 1
            return
        with writing(self._file):
            handle = os.open(self._file, _APPEND)
            try:
                os.write(handle, f"{judgment}\n".encode())
            finally:
                os.close(handle)

    def _refresh(self, file: Path) -> None:
        if not is_there(file):
            self._run, self._n_read = "", 0
            if self._claims is not None:
                with self._claims.held(file.name, Deadline()):
                    if not is_there(file):
                        write_atomic(file, f"{uuid.uuid4().hex}\n")
        with opened(file, follow=False) as lines:
            lines.seek(self._n_read)
            while (line := lines.readline(_LONGEST)).endswith(b"\n"):
                self._n_read = lines.tell()
                text = line.strip().decode("ascii", "replace")
                if self._run:
                    self._failed[text] += 1
                elif _NUMBER.fullmatch(text):
                    self._run = text
                else:
                    break
        if not self._run:
            raise LedgerError(
                "does not begin with the number of a run, 32 hexadecimal digits",
                where=str(file),
                fix="Remove the file: what was on its way is asked for again.",
            )
