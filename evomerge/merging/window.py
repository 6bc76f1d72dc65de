"""How much of the sources stays in memory; the rest is read from its files as it is merged.

Source files are memory-mapped, so memory that is short is never a failure: the system takes
clean pages back. A window makes the same hold within a stated bound, by telling the system
at once which pages are done with. What is read from a pickle is in no file as it is; above the
bound it is written to a temporary one. Where the system does not tell what is mapped, everything
stays where it was read to.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import torch

from evomerge.foundations.reading import is_file, read_bytes
from evomerge.merging.kept_memory import free_bytes

_MAPS = Path("/proc/self/maps")
_WILL_NEED, _DONT_NEED = 3, 4  # MADV_WILLNEED and MADV_DONTNEED of Linux


class Window:
    """Decides, tensor by tensor as they are first read, which of them stay.

    Those read first stay: a merge reads all of them in one order, so that keeping what was
    used last would keep nothing for the next merge.

    Args:
        n_bytes: That may stay; None: what is free now, on a GPU five eighths of it, which leaves
            room for a live model and what merges share.
        device: Where merges are computed.
        n_workers: Among whom a GPU is divided; files that are mapped are in memory once.
    """

    def __init__(self, n_bytes: int | None, device: torch.device, n_workers: int = 1) -> None:
        if n_bytes is None:
            free = free_bytes(device)
            n_bytes = free if device.type == "cpu" else free * 5 // 8 // n_workers
        self._left = n_bytes

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether this one stays, for as long as the window is used."""
        if tensor.nbytes > self._left:
            return False
        self._left -= tensor.nbytes
        return True


def tells_what_is_mapped() -> bool:
    """Whether ``is_mapped`` can say yes: on Linux."""
    return is_file(_MAPS)


def is_mapped(tensor: torch.Tensor) -> bool:
    """Whether the tensor is a part of a file that is mapped, as far as this system tells."""
    if tensor.device.type != "cpu" or not tells_what_is_mapped():
        return False
    address = tensor.data_ptr()
    for line in read_bytes(_MAPS).decode(errors="replace").splitlines():
        span, *_, inode_and_path = line.split(maxsplit=4)
        start, stop = (int(end, 16) for end in span.split("-"))
        if start <= address < stop:
            inode = inode_and_path.split(maxsplit=1)[0]
            return inode != "0" and address + tensor.nbytes <= stop
    return False


def expect(tensor: torch.Tensor) -> None:
    """Lets the system read a mapped tensor from its file while something else is computed."""
    page = mmap.PAGESIZE
    start = tensor.data_ptr() // page * page
    _advise(start, tensor.data_ptr() + tensor.nbytes, _WILL_NEED)


def forget(tensor: torch.Tensor) -> None:
    """Gives the memory of a tensor back that is mapped and was never written to.

    Its next reader finds the same numbers in the file. The page it begins in goes as a whole;
    the one it ends in stays, because what comes next is read soon, and the system would map
    more than a page for it.
    """
    page = mmap.PAGESIZE
    start = tensor.data_ptr() // page * page
    stop = (tensor.data_ptr() + tensor.nbytes) // page * page
    if stop > start:
        _advise(start, stop, _DONT_NEED)


def _advise(start: int, stop: int, advice: int) -> None:
    size = ctypes.c_size_t(stop - start)
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), size, advice)
