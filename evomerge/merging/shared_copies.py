"""What workers of one machine make of the sources once, and all of them map into their memory.

Files of models are mapped, so their pages are in memory once, however many processes read them.
What has to be made of them (a cast, rows of another vocabulary, what a pickle holds) lies in a
file of the workers' common temporary folder, and is mapped from there just so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from evomerge.foundations.lock import alone
from evomerge.foundations.reading import is_file

SMALL = 1 << 20  # bytes, for which a file is not worth it
_ONE = "tensor"


@dataclass(frozen=True)
class Sharing:
    """Workers that have the memory of a machine, or of one of its GPUs, together.

    Attributes:
        n_workers: How many, this one included.
        folder: A temporary folder of theirs; None: each makes copies of its own.
    """

    n_workers: int = 1
    folder: Path | None = None

    @property
    def copies(self) -> SharedCopies | None:
        """What they make once; None where each makes its own."""
        is_shared = self.n_workers > 1 and self.folder is not None
        return SharedCopies(self.folder / "tensors") if is_shared and self.folder else None


ALONE = Sharing()


class SharedCopies:
    """Tensors in files that several processes map; nobody writes to them.

    Args:
        folder: Made when it is needed; goes with the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tensor(self, key: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The same as :meth:`tensors`, of one."""
        return self.tensors(key, lambda: {_ONE: make()})[_ONE]

    def tensors(
        self, key: str, make: Callable[[], Mapping[str, torch.Tensor]]
    ) -> Mapping[str, torch.Tensor]:
        """Tensors by name: made by who asks first, while the others wait.

        Args:
            key: All that decides what they are.
            make: Makes them, in main memory.

        Returns:
            Mapped from their file; where the disk takes no more, as they were made.
        """
        file = self._folder / f"{sha256(key.encode()).hexdigest()}.safetensors"
        if not is_file(file):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with alone(file.with_suffix(".lock")):
                made = None if is_file(file) else make()
                if made is not None and not _saved(made, file):
                    return made
                del made
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping


def _saved(tensors: Mapping[str, torch.Tensor], file: Path) -> bool:
    """Whether there was room for a file, which appears at once."""
    unfinished = file.with_name(f"{uuid4().hex}.part")
    try:
        save_file({name: one.contiguous() for name, one in tensors.items()}, unfinished)
        unfinished.rename(file)
    except (OSError, SafetensorError):  # a full disk: each worker keeps a copy of its own
        unfinished.unlink(missing_ok=True)
        return False
    return True
