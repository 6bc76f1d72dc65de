"""What an optimizer must find again, as files of the run folder."""

from __future__ import annotations

from evomerge.foundations.files import write_atomic
from evomerge.foundations.reading import is_there, read_bytes
from evomerge.run.ledger.run_folder import RunFolder


class ArtifactStore:
    """One file per name below ``optimizer/`` of a run folder.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder.optimizer

    def recall(self, name: str) -> bytes | None:
        """What was kept under a name, None where nothing was.

        Raises:
            UnreadableError: it is no regular file, or may not be read.
        """
        path = self._folder / name
        return read_bytes(path, follow=False) if is_there(path) else None

    def keep(self, name: str, content: bytes) -> None:
        """Keeps content under a name.

        Raises:
            LostFileError: the disk is full, or the folder cannot be written.
        """
        write_atomic(self._folder / name, content)
