"""Mixtures of tiny models, and what they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evomerge.genome.merge_block import MergeDefinition
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.parameter_space import ParameterSpace
from evomerge.merging.resident import ResidentMerger
from evomerge.models.architecture import Architecture
from evomerge.models.inspect import read_model
from evomerge.models.shared_layers import describe
from evomerge.training.coefficients import Coefficients
from evomerge.training.mixture import Mixture
from tests.rounding import rounding
from tests.tiny_models import tiny_family

# Layouts of weights, from one number per model to one per tensor.
LAYOUTS: dict[str, dict[str, Any]] = {
    "model": {},
    "groups": {"granularity": "layers", "layer_granularity": 1},
    "filters": {"layer_granularity": 1, "filters": ["self_attn", "mlp", "embed_tokens"]},
    "kinds": {"granularity": "parameter"},
    "tensors": {"granularity": "tensor"},
    "smooth": {"layer_granularity": 1, "smooth": True},
}


class Family:
    """Models made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def models(self, architecture: str = "llama", **settings: Any) -> list[Path]:
        name = "-".join([architecture, *map(str, settings.items())])
        folder = self.folder / "".join(c if c.isalnum() else "_" for c in name)
        if not folder.exists():
            tiny_family(folder, architecture, n_models=3, **settings)
        return [folder / "base", *(folder / f"model_{index}" for index in (1, 2, 3))]

    def space(
        self,
        merge_method: str = "task_arithmetic",
        architecture: str = "llama",
        tied: bool = False,
        model: dict[str, Any] | None = None,
        **fields: Any,
    ) -> ParameterSpace:
        folders = self.models(architecture, tie_word_embeddings=tied, **(model or {}))
        definition = MergeDefinition.model_validate(
            {
                "models": [str(path) for path in folders[1:]],
                "base_model": str(folders[0]),
                "merge_method": merge_method,
                **fields,
            }
        )
        space = merge_space_for(definition)(definition, self.architecture(definition), "float32")
        assert isinstance(space, ParameterSpace)
        return space

    @staticmethod
    def architecture(definition: MergeDefinition) -> Architecture:
        names = [source.model for source in definition.models]
        return describe([read_model(name, "genome.models") for name in names])


def mixture_of(space: ParameterSpace) -> Mixture:
    return Mixture(ResidentMerger(cache_bytes=0), Coefficients(space))


def order_of_sums(mixture: Mixture, gradient: np.ndarray) -> float:
    """How far two orders of adding up a gradient of weights may end: over all entries it adds."""
    module = mixture.at(somewhere(mixture)).module
    return rounding(gradient, sum(parameter.numel() for parameter in module.parameters()))


def somewhere(mixture: Mixture, seed: int = 0) -> np.ndarray:
    """Weights inside their ranges that stand in a recipe of the space."""
    coefficients = mixture.coefficients
    drawn = np.random.default_rng(seed).random(len(coefficients)) * 0.6 + 0.2
    span = coefficients.high - coefficients.low
    return coefficients.settled(coefficients.low + drawn * span)
