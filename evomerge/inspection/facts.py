"""The facts of one model that its small files show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TensorFacts:
    """One tensor, as a safetensors header has it.

    Attributes:
        shape: Its shape.
        dtype: Its dtype as the header writes it, e.g. ``"BF16"``.
        n_bytes: Its size.
    """

    shape: tuple[int, ...]
    dtype: str
    n_bytes: int


@dataclass(frozen=True)
class ModelFacts:
    """One model.

    Attributes:
        name: As the genome names it.
        reference: As a recipe names it.
        key: Where it stands in the genome: ``"genome.models[1]"``, ``"genome.base_model"``.
        folder: The folder of its files, in the Hub's cache too; None where it is on the Hub only.
        config: Content of ``config.json``.
        tensors: Tensor name -> facts.
        files: File name -> bytes, of everything in the repository.
    """

    name: str
    reference: str | dict[str, Any]
    key: str
    folder: Path | None
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorFacts] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
