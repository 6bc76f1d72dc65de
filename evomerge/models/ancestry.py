"""How alike two models are, from a few kilobytes of their weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.reading import opened
from evomerge.models.facts import ModelFacts

MAX_VALUES = 1 << 16  # of one tensor; norms have a few thousand
N_TENSORS = 3
_NUMPY = {"F32": np.float32, "F16": np.float16, "F64": np.float64}


def likeness(first: ModelFacts, other: ModelFacts) -> float | None:
    """Median correlation of the values of a few norms.

    None where the values are not on this machine, or are all equal.
    """
    if first.folder is None or other.folder is None:
        return None
    found = []
    for name in _norms(first):
        one, two = (_values(model, name) for model in (first, other))
        if one is None or two is None or one.shape != two.shape:
            continue
        if not (np.isfinite(one).all() and np.isfinite(two).all()):
            continue
        if np.ptp(one) > 0 and np.ptp(two) > 0:
            found.append(float(np.corrcoef(one, two)[0, 1]))
    return float(np.median(found)) if found else None


def _norms(model: ModelFacts) -> Iterator[str]:
    """The norms of layer 0 and the final one; at most a few."""
    names = [
        name
        for name, tensor in model.tensors.items()
        if "norm" in name
        and name.endswith("weight")
        and len(tensor.shape) == 1
        and 1 < tensor.shape[0] <= MAX_VALUES
    ]
    final = [name for name in names if not any(part.isdigit() for part in name.split("."))]
    of_layer_0 = [name for name in names if "0" in name.split(".")]
    yield from (*final, *of_layer_0)[:N_TENSORS]


def _values(model: ModelFacts, name: str) -> NDArray[np.float64] | None:
    """The values of a tensor; None where it is not there or its dtype is not read here."""
    tensor = model.tensors.get(name)
    if tensor is None or model.folder is None or not tensor.offset:
        return None
    with opened(model.folder / tensor.file) as content:
        content.seek(tensor.offset)
        data = content.read(tensor.n_bytes)
    if tensor.dtype == "BF16":  # the upper half of a float32
        halves = np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16
        return halves.view(np.float32).astype(np.float64)
    if tensor.dtype not in _NUMPY:
        return None
    return np.frombuffer(data, dtype=_NUMPY[tensor.dtype]).astype(np.float64)
