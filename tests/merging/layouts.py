"""A recipe for every registered merge method in every layout, from mergekit's own spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from mergekit import merge_methods
from mergekit.merge_methods.base import BasePolicy

N_LAYERS = 3
LAYOUTS = ("models", "filters", "gradients", "groups", "layers")
_PER_MODEL = {"weight": 0.6, "density": 0.6, "gamma": 0.05, "epsilon": 0.1, "scale": 0.9}
_SHARED = {"t": 0.4, "lambda": 0.8, "select_topk": 0.7}
_BOUNDS = {
    "models": [],
    "filters": [],
    "gradients": [],
    "groups": [0, 2, 3],
    "layers": [0, 1, 2, 3],
}


def recipe_config(
    method: str, layout: str, family: Sequence[Path], *, scale: float = 1.0, **rest: Any
) -> dict[str, Any]:
    """A configuration with every parameter of the method that changes weights.

    Args:
        method: mergekit's name.
        layout: One of ``LAYOUTS``.
        family: Base and two fine-tunes.
        scale: Multiplies all values, for another recipe of the same structure.
        rest: Further top-level fields.
    """
    base, *models = map(str, family)
    spec = merge_methods.get(method).spec
    contract = spec.contract
    if contract.max_inputs:
        models = models[: contract.max_inputs - (contract.base == BasePolicy.REQUIRED)]
    needs_base = contract.base == BasePolicy.REQUIRED
    shared = {p.name: _SHARED[p.name] * scale for p in spec.shared_parameters if p.name in _SHARED}
    per_model = [
        {p.name: _PER_MODEL[p.name] * scale * (1 - 0.3 * i) for p in spec.input_parameters}
        for i in range(len(models))
    ]
    config: dict[str, Any] = {"merge_method": method, **rest}
    if needs_base:
        config["base_model"] = base
    vary = {"filters": _filters, "gradients": _gradient}.get(layout)
    if not _BOUNDS[layout]:
        config["models"] = [
            {"model": m, "parameters": _varied(p, vary)}
            for m, p in zip(models, per_model, strict=True)
        ]
        config["parameters"] = _varied(shared, vary)
        return config
    bounds = _BOUNDS[layout]
    config["slices"] = [
        {
            "sources": [
                {"model": m, "layer_range": [low, high], "parameters": _group(p, i)}
                for m, p in zip(models, per_model, strict=True)
            ]
            + ([{"model": base, "layer_range": [low, high]}] if needs_base else []),
            "parameters": _group(shared, i),
        }
        for i, (low, high) in enumerate(pairwise(bounds))
    ]
    return config


def _varied(values: dict[str, float], vary: Callable[[float], Any] | None) -> dict[str, Any]:
    return {name: vary(value) if vary else value for name, value in values.items()}


def _filters(value: float) -> list[dict[str, Any]]:
    return [{"filter": "mlp", "value": value}, {"value": 0.9 * value}]


def _gradient(value: float) -> list[float]:
    return [value, 0.8 * value]


def _group(values: dict[str, float], index: int) -> dict[str, Any]:
    """Own values per group, and for embeddings, final norm and head."""
    names = {"embed_": 0.7, "norm": 0.8, "lm_head": 0.75}
    return {
        name: [
            *({"filter": part, "value": value * f} for part, f in names.items()),
            {"value": value * (1 - 0.1 * index)},
        ]
        for name, value in values.items()
    }
