"""Tensor names, shapes and places from the headers of safetensors files.

A file begins with the length of its header (8 bytes, little endian) and the header, a JSON
object; values follow. Source: the format's description in the safetensors package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from evomerge.models.facts import WEIGHT_INDEX, TensorFacts
from evomerge.models.repository import Repository

FIRST_READ = 1 << 17  # bytes; holds most headers, so one request is enough
MAX_HEADER = 100_000_000  # bytes; the format's own limit
_MALFORMED = (
    *(ArithmeticError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)
_ITEM_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL"), 1),
}


class BrokenFileError(Exception):
    """A file that does not hold what its name says; the message says why."""


def read_tensors(
    repository: Repository, files: Mapping[str, int]
) -> tuple[dict[str, TensorFacts], dict[str, str]]:
    """The tensors of some safetensors files, and the files that cannot be read with the reason.

    Args:
        repository: Where the files are.
        files: Name -> bytes.
    """
    tensors: dict[str, TensorFacts] = {}
    broken = {}
    for name, size in files.items():
        try:
            tensors.update(read_header(repository, name, size))
        except (OSError, BrokenFileError) as error:
            broken[name] = " ".join(str(error).split())
    return tensors, broken


def read_header(repository: Repository, name: str, size: int) -> dict[str, TensorFacts]:
    """The tensors of one safetensors file.

    Args:
        repository: Where the file is.
        name: Of the file.
        size: Of the file in bytes.

    Raises:
        BrokenFileError: no safetensors file, or one that ends too early.
        OSError: it cannot be read.
    """
    start = repository.read_range(name, 0, FIRST_READ)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or not 2 <= length <= MAX_HEADER or start[8:9] != b"{":
        raise BrokenFileError("it is no safetensors file")
    header = start[8 : 8 + length]
    if len(header) < length:
        header += repository.read_range(name, 8 + len(header), length - len(header))
    try:
        content = json.loads(header)
        content.pop("__metadata__", None)
        tensors = {key: _tensor(entry, name, 8 + length) for key, entry in content.items()}
    except _MALFORMED as error:
        raise BrokenFileError("its header cannot be read") from error
    end = 8 + length
    for tensor in sorted(tensors.values(), key=lambda tensor: tensor.offset):
        if tensor.offset < end and tensor.n_bytes:
            raise BrokenFileError("its tensors lie one over the other")
        end = max(end, tensor.offset + tensor.n_bytes)
    if size != end:
        raise BrokenFileError(f"it has {size} bytes, expected {end}")
    return tensors


def _tensor(entry: Mapping[str, Any], file: str, start: int) -> TensorFacts:
    begin, end = map(int, entry["data_offsets"])
    shape, dtype = tuple(map(int, entry["shape"])), str(entry["dtype"])
    expected = math.prod(shape) * _ITEM_BYTES.get(dtype, 0)
    if min(begin, *shape, 0) < 0 or end < begin or (expected and end - begin != expected):
        raise ValueError(f"{dtype} {shape} in {end - begin} bytes")
    return TensorFacts(shape, dtype, end - begin, file, start + begin)


def weight_files(
    files: Mapping[str, int], index: Mapping[str, Any]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The safetensors files that hold a model, and those its index names that are not there.

    Args:
        files: Name -> bytes of all files.
        index: Content of the weight index; empty where there is none.
    """
    if WEIGHT_INDEX in files:
        places = index.get("weight_map")
        named = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
    else:
        named = [name for name in ("model.safetensors",) if name in files]
    present = {name: files[name] for name in named if name in files}
    return present, tuple(name for name in named if name not in files)
