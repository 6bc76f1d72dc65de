"""Memory that the system may take back: tensors in temporary files without a name.

What is done with may leave memory for the disk, and comes back as it is read. The file goes
with its tensor, or with the process, however that ends.
"""

from __future__ import annotations

import math
import os
import tempfile

import torch

from evomerge.foundations.scratch import scratch_root

_SMALL = 1 << 20  # bytes that need no file


def offloaded(shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A new tensor of any content in a file below the system's temporary folder.

    In memory if it is small, or where the folder has no room.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes <= _SMALL or not hasattr(os, "posix_fallocate"):
        return torch.empty(shape, dtype=dtype)
    with tempfile.NamedTemporaryFile(dir=scratch_root()) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)  # else a full disk ends the process
        except OSError:
            return torch.empty(shape, dtype=dtype)
        length = n_bytes // dtype.itemsize
        flat: torch.Tensor = torch.from_file(file.name, shared=True, size=length, dtype=dtype)
        return flat.view(shape)
