"""Tensors of single models as a stack of layers holds them: shared wherever nothing is scaled.

A tensor that is scaled is a copy, which lasts as long as the stacks that follow one another use
it; all others are one copy for as many places as run it, or the source itself where that is in the
dtype of the live model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from mergekit.architecture import ConfiguredModuleArchitecture
from mergekit.common import dtype_from_name

from evomerge.foundations.errors import MergeError
from evomerge.merging.kernels.engine import ByMergekit, TensorOrigin
from evomerge.merging.structure import PlannedTensor, Structure
from evomerge.merging.values import Values

_Key = tuple[int, torch.dtype | None, float]  # source tensor, dtype on disk, factor


class SingleModel:
    """The plan of one model as it is.

    Args:
        structure: Of a recipe that passes it through.
    """

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._layers: dict[int, list[PlannedTensor | None]] = {}
        self._by_name = {planned.name: planned for planned in structure.tensors}

    @property
    def lists_layers(self) -> bool:
        """Whether its configuration says of every layer which kind it is."""
        return isinstance(getattr(self._structure.out_config, "layer_types", None), list)

    def layer(self, index: int) -> list[PlannedTensor | None]:
        """The tensors of a layer in the order of its architecture; None for those it lacks."""
        if index not in self._layers:  # to name them takes mergekit longer than to run them
            names = [weight.name for weight in self._module.layer_weights(index)]
            self._layers[index] = [self._by_name.get(name) for name in names]
        if not any(self._layers[index]):
            raise ValueError(f"there is no layer {index}")
        return self._layers[index]

    @cached_property
    def _module(self) -> ConfiguredModuleArchitecture:
        return module_of(self._structure)


def module_of(structure: Structure) -> ConfiguredModuleArchitecture:
    """What mergekit knows of the one module of a structure's models."""
    (module,) = structure.architecture.modules.values()
    return ConfiguredModuleArchitecture(
        info=module.architecture,
        config=structure.out_config,
        weight_prefix=module.weight_prefix,
    )


class ResidentTensors:
    """Tensors ready to be parameters of a live model on one device.

    Args:
        device: Of the live model.
        dtype: Likewise; integers keep their own.

    Attributes:
        dtype: As given.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self.dtype = device, dtype
        self._whole: dict[_Key, torch.nn.Parameter] = {}
        self._scaled: dict[_Key, torch.nn.Parameter] = {}
        self._used: set[_Key] = set()
        self._sources: dict[int, torch.Tensor] = {}  # whose ids are keys

    def parameter(self, planned: PlannedTensor, scale: float | None) -> torch.nn.Parameter | None:
        """A tensor times a factor, rounded as mergekit does; None where its model has none.

        Raises:
            MergeError: a weight is not finite.
        """
        stored = next(iter(planned.inputs.stored().values()), None)
        if stored is None:
            return None
        key = (id(stored[0]), dtype_from_name(planned.out_dtype), 1.0 if scale is None else scale)
        kept = self._whole if key[-1] == 1.0 else self._scaled
        self._used.add(key)
        if key not in kept:
            self._sources[id(stored[0])] = stored[0]
            tensor = _made(planned, *stored, key).to(self._device)
            tensor = tensor.to(self.dtype) if tensor.is_floating_point() else tensor
            _refuse_not_finite(planned.name, tensor)
            kept[key] = torch.nn.Parameter(tensor, requires_grad=False)
        return kept[key]

    def forget_unused(self) -> None:
        """Drops scaled tensors that nobody asked for since the last call."""
        self._scaled = {key: kept for key, kept in self._scaled.items() if key in self._used}
        self._used.clear()


def _made(
    planned: PlannedTensor, source: torch.Tensor, work: torch.dtype | None, key: _Key
) -> torch.Tensor:
    """The tensor in its dtype on disk; the source itself where every rounding would keep it."""
    _, on_disk, scale = key
    work = work or source.dtype
    is_kept = torch.promote_types(source.dtype, work) == work and source.dtype == on_disk
    if scale == 1.0 and (is_kept or not source.is_floating_point()):
        return source
    settings: Mapping[str, Any] = {"scale": scale}
    models = tuple(planned.inputs.stored())
    result = ByMergekit(TensorOrigin(planned, Values({}, models, (settings,)))).result
    if result is None:
        raise ValueError(f"mergekit leaves out {planned.name}")
    return result if on_disk is None else result.to(on_disk)


def _refuse_not_finite(name: str, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point() or torch.isfinite(tensor.sum()):
        return
    if not torch.isfinite(tensor).all():
        raise MergeError("the merged weights are not finite", where=name)
