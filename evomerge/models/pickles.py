"""Tensor shapes from pickle files; only for models that the user allows to be unpickled."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evomerge.foundations.reading import is_file, listed
from evomerge.models.facts import TensorFacts

PICKLE_INDEX = "pytorch_model.bin.index.json"
_SINGLE = "pytorch_model.bin"
_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}


def read_pickles(
    folder: Path, index: Mapping[str, Any]
) -> tuple[dict[str, TensorFacts], dict[str, str]]:
    """The tensors of a folder's pickle files, and the files that cannot be read with the reason.

    torch reads them with ``weights_only``, so they may build tensors and nothing else.

    Args:
        folder: Where they are.
        index: Content of ``PICKLE_INDEX``; empty where there is none.
    """
    tensors: dict[str, TensorFacts] = {}
    broken = {}
    for name in _names(folder, index):
        try:
            tensors.update(_tensors(folder, name))
        except (EOFError, OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            broken[name] = str(error).partition("\n")[0]
    return tensors, broken


def _tensors(folder: Path, name: str) -> Iterator[tuple[str, TensorFacts]]:
    import torch  # heavy; safetensors need none of it

    if name not in [path.name for path in listed(folder) if is_file(path)]:
        raise ValueError("it is not in the model's folder")
    loaded = torch.load(folder / name, map_location="meta", weights_only=True)
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds {type(loaded).__name__}, expected tensors by name")
    for key, tensor in loaded.get("state_dict", loaded).items():
        if isinstance(tensor, torch.Tensor):
            dtype = str(tensor.dtype).removeprefix("torch.")
            yield (
                key,
                TensorFacts(
                    tuple(tensor.shape), _DTYPES.get(dtype, dtype.upper()), tensor.nbytes, name
                ),
            )


def _names(folder: Path, index: Mapping[str, Any]) -> list[str]:
    """The weight files."""
    places = index.get("weight_map")
    if isinstance(places, dict):
        return sorted(set(map(str, places.values())))
    return [_SINGLE] if is_file(folder / _SINGLE) else []
