"""Tensors of single models as a stack of layers holds them: shared wherever nothing is scaled.

A tensor that is scaled is a copy, which lasts as long as the stacks that follow one another use
it; all others are one copy for as many places as run it, or the source itself where that is in the
dtype of the live model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from mergekit.architecture import ConfiguredModuleArchitecture
from mergekit.common import dtype_from_name

from evomerge.foundations.deadline import Deadline
from evomerge.merging.kernels.engine import ByMergekit, TensorOrigin
from evomerge.merging.live_weights import refuse_not_finite
from evomerge.merging.structure import PlannedTensor, Structure
from evomerge.merging.values import Values


class Wanted(NamedTuple):
    """A tensor of a model as a stack has it.

    Attributes:
        planned: Which; None for one that its model lacks.
        scale: What it is multiplied by; None: it is not.
    """

    planned: PlannedTensor | None
    scale: float | None = None


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
        self._free: dict[torch.Size, list[torch.Tensor]] = {}  # of scaled ones that nobody uses
        self._sources: dict[int, torch.Tensor] = {}  # whose ids are keys
        self._largest: dict[int, torch.Tensor] = {}

    def rows(
        self, wanted: Sequence[Sequence[Wanted]], deadline: Deadline
    ) -> list[list[torch.nn.Parameter | None]]:
        """Tensors times factors, rounded as mergekit does; None for what a model lacks.

        Scaled tensors that are not among them are overwritten: fresh memory takes the system
        several times what a product takes.

        Args:
            wanted: Each row is of one layer, or of what surrounds the layers.
            deadline: Looked at between rows.

        Raises:
            MergeError: a weight is not finite.
            TrialTimeoutError: the deadline is over.
        """
        keys = [[_key_of(one) for one in row] for row in wanted]
        for key in self._scaled.keys() - {key for row in keys for key in row}:
            tensor = self._scaled.pop(key).data
            self._free.setdefault(tensor.shape, []).append(tensor)
        found = []
        for row, of_row in zip(wanted, keys, strict=True):
            deadline.check()
            found.append([self._parameter(*one) for one in zip(row, of_row, strict=True)])
        return found

    def _parameter(self, wanted: Wanted, key: _Key | None) -> torch.nn.Parameter | None:
        if key is None or wanted.planned is None:
            return None
        kept = self._whole if key[-1] == 1.0 else self._scaled
        if key not in kept:
            kept[key] = torch.nn.Parameter(self._made(wanted.planned, key), requires_grad=False)
        return kept[key]

    def _made(self, planned: PlannedTensor, key: _Key) -> torch.Tensor:
        """The tensor as it runs; the source itself where every rounding would keep it."""
        _, on_disk, scale = key
        (source, work), *_ = planned.inputs.stored().values()
        self._sources[id(source)] = source
        if scale == 1.0 and not source.is_floating_point():
            return source.to(self._device)
        work = work or source.dtype
        is_kept = torch.promote_types(source.dtype, work) == work and source.dtype == on_disk
        if scale == 1.0 and is_kept:
            home = source.to(self._device, self.dtype)
            refuse_not_finite([(planned.name, home)])
            return home
        free = self._free.get(source.shape)
        home = (
            free.pop() if free else torch.empty_like(source, dtype=self.dtype, device=self._device)
        )
        is_here = source.device == home.device  # those of a model on another wait in main memory
        if is_here and source.dtype == work == self.dtype and on_disk in (None, work):
            torch.mul(source, scale, out=home)  # as mergekit does, which takes new memory for it
            is_finite = bool(torch.isfinite(self._largest_of(source) * scale))
        else:
            is_finite = ByMergekit(_origin(planned, scale)).write(home)
        if not is_finite:
            refuse_not_finite([(planned.name, home)])
        return home

    def _largest_of(self, source: torch.Tensor) -> torch.Tensor:
        """Its largest absolute value: no other is infinite before it, whatever the factor."""
        if id(source) not in self._largest:
            low, high = torch.aminmax(source)
            self._largest[id(source)] = torch.maximum(-low, high)
        return self._largest[id(source)]


def _origin(planned: PlannedTensor, scale: float) -> TensorOrigin:
    settings: Mapping[str, Any] = {"scale": scale}
    return TensorOrigin(planned, Values({}, tuple(planned.inputs.stored()), (settings,)))


def _key_of(wanted: Wanted) -> _Key | None:
    """What a tensor depends on; None where its model has none."""
    planned, scale = wanted
    stored = None if planned is None else next(iter(planned.inputs.stored().values()), None)
    if planned is None or stored is None:
        return None
    return id(stored[0]), dtype_from_name(planned.out_dtype), 1.0 if scale is None else scale
