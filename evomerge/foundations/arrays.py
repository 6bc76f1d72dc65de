"""Arrays kept in an ``.npz`` file, read back from content that may be cut, or anybody's."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.errors import told

MOST = 1 << 30  # bytes unpacked; a small file can hold a thousand times its size
# What numpy and zipfile raise, which depends on the byte that is wrong.
_DAMAGE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError),
    *(OSError, RuntimeError, SyntaxError, TypeError, ValueError, UnicodeError),
    *(lzma.LZMAError, zipfile.BadZipFile, zlib.error),
)


def arrays_in(content: bytes, shapes: Mapping[str, tuple[str, int]]) -> dict[str, NDArray[Any]]:
    """Arrays of a file.

    Args:
        content: Of the file.
        shapes: Name -> kinds of dtype as numpy has them, e.g. ``"iu"``, and number of axes.

    Returns:
        Name -> array; of the names asked for.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > MOST:
            raise ValueError(f"{size} bytes unpacked")
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            found = {name: held[name] for name in shapes}
        for name, (kinds, n_axes) in shapes.items():
            if found[name].dtype.kind not in kinds or found[name].ndim != n_axes:
                raise ValueError(f"{name} is {found[name].dtype} of {found[name].ndim} axes")
    except _DAMAGE as error:
        raise ValueError(f"damaged, or another file ({told(error)})") from error
    return found
