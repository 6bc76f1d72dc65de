"""What judges said, kept in the run folder: no judgment is asked for twice in a run.

Every process writes a file of its own, a line for each judgment as soon as it is there, and reads
those of all others. Nothing in a file is changed; what a kill cut off is its last line. What
somebody asks, all others wait for.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from evomerge.evaluators import KEEPS
from evomerge.evaluators.judge.request_keys import RequestKeys
from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.claims import Claims
from evomerge.foundations.errors import LedgerError
from evomerge.foundations.files import writing
from evomerge.foundations.reading import is_folder, listed, opened

FOLDER = KEEPS["judge"]  # of a run folder
_LONGEST = 1 << 24  # bytes of a line


@dataclass(frozen=True)
class Remark:
    """What a judge said to one request.

    Attributes:
        text: Its reply; empty where there is none.
        problem: Why there is none, or why it is not what the judge wanted to say, in a few words.
        prompt_tokens: As the server counts them.
        completion_tokens: The same of the reply.
    """

    text: str
    problem: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class KeptJudgments:
    """Remarks by the digest of what was asked; of one process, for all of its threads.

    Args:
        folder: Where they are kept; None: in memory alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[str, Remark] = {}
        self._read: dict[str, int] = {}  # file -> bytes of it that were read
        self._lock = threading.Lock()
        self._own = f"{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._handle: int | None = None
        self._claims = None if folder is None else Claims(folder / "claims")
        keys = None if folder is None else folder / "requests"
        self._request_keys = RequestKeys(keys, self._claims)
        self._claimed: set[str] = set()  # by this process, which the system's locks do not tell

    def claim(self, keys: Collection[str]) -> set[str]:
        """Of some requests those that may be asked, as nobody is asking them.

        Raises:
            LostFileError: the folder cannot be written.
        """
        with self._lock:
            free = {*keys} - self._claimed
            own = free if self._claims is None else self._claims.take(free)
            self._claimed |= own
        return own

    def give_back(self, keys: Collection[str]) -> None:
        """Ends a claim, whatever came of it."""
        with self._lock:
            self._claimed.difference_update(keys)
            if self._claims is not None:
                self._claims.give_back(keys)

    def request_key(self, key: str) -> str:
        """What a server may know a request by; see :class:`RequestKeys`."""
        with self._lock:
            return self._request_keys.of(key)

    def failed(self, key: str) -> None:
        """Remembers that the server's own word on a request was a failure."""
        with self._lock:
            self._request_keys.failed(key)

    def refresh(self) -> None:
        """Reads what others have written since.

        Raises:
            LedgerError: a file is damaged, apart from its end.
        """
        with self._lock:
            if self._folder is None or not is_folder(self._folder):
                return
            for path in listed(self._folder):
                if path.suffix == ".jsonl" and path.name != self._own:
                    self._known |= self._new_in(path)

    def take(self, others: KeptJudgments) -> None:
        """Keeps what others know too, all of it on the disk before it returns."""
        self.refresh()
        others.refresh()
        self._keep({k: one for k, one in list(others._known.items()) if k not in self._known})

    def close(self) -> None:
        """Gives back its file."""
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
            if self._claims is not None:
                self._claims.close()

    @property
    def remarks(self) -> list[Remark]:
        """All that is known."""
        return list(self._known.values())

    def get(self, key: str) -> Remark | None:
        """What is known; None where nothing is."""
        return self._known.get(key)

    def keep(self, key: str, remark: Remark) -> None:
        """Remembers a remark, on the disk too before it returns.

        Raises:
            LostFileError: the disk is full, or the folder cannot be written.
        """
        self._keep({key: remark})

    def _keep(self, remarks: Mapping[str, Remark]) -> None:
        with self._lock:
            self._known |= remarks
            if self._folder is not None and remarks:
                self._write(self._folder, [*map(_line, remarks.items())])

    def _write(self, folder: Path, lines: Sequence[str]) -> None:
        text = "".join(lines).encode()
        path = folder / self._own
        with writing(path):
            if self._handle is None:
                folder.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
                self._handle = os.open(path, flags, 0o644)
            size = os.fstat(self._handle).st_size
            try:
                while text:
                    text = text[os.write(self._handle, text) :]
                os.fsync(self._handle)
            except OSError:
                with suppress(OSError):  # else the next line would go on where this one broke off
                    os.ftruncate(self._handle, size)
                raise

    def _new_in(self, path: Path) -> dict[str, Remark]:
        """What stands in a file behind the last whole line that was read."""
        found = {}
        with opened(path, follow=False) as file:
            file.seek(self._read.get(path.name, 0))
            while (line := file.readline(_LONGEST)).endswith(b"\n"):
                key, remark = _remark(line, path)
                found[key] = remark
                self._read[path.name] = file.tell()
        return found


_SHARED: dict[Path, KeptJudgments] = {}


def kept_in(folder: Path) -> KeptJudgments:
    """The ones of a folder; one in a process, whichever tasks and splits ask."""
    place = folder.absolute()
    known = _SHARED.get(place)
    if known is None or not is_folder(place):  # it may have been removed since
        if known is not None:
            known.close()
        known = _SHARED[place] = KeptJudgments(folder)
    return known


def copy_judgments(old: Path, new: Path) -> None:
    """Has a run that begins find what another one was told.

    Args:
        old: Folder of the other's judgments; may be missing.
        new: That of the one that begins.

    Raises:
        LedgerError: a file is damaged.
        LostFileError: the folder cannot be written.
    """
    kept_in(new).take(KeptJudgments(old))


def _line(known: tuple[str, Remark]) -> str:
    key, remark = known
    return f"{canonical_json({'key': key, **asdict(remark)})}\n"


def _remark(line: bytes, path: Path) -> tuple[str, Remark]:
    try:
        told = json.loads(line)
        key, remark = str(told.pop("key")), Remark(**told)
        if not isinstance(remark.text, str) or not isinstance(remark.problem, str):
            raise TypeError("no text")
        if any(
            type(n) is not int or n < 0 for n in (remark.prompt_tokens, remark.completion_tokens)
        ):
            raise TypeError("no count of tokens")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise LedgerError(
            f"holds a line that is no judgment ({type(error).__name__})",
            where=str(path),
            fix="Remove the file: its judgments are asked for again.",
        ) from error
    return key, remark
