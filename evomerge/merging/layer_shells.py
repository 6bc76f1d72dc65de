"""A live model as a row of shells: places of layers, whose parameters are exchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mergekit.common import set_config_value

_Slot = tuple[torch.nn.Module, str]  # where a parameter hangs
Row = Sequence[torch.nn.Parameter | None]  # the parameters of one layer; None for what it lacks
Named = Mapping[str, torch.nn.Parameter]  # by names in a built folder

_NOTHING = torch.nn.Parameter(torch.empty(0), requires_grad=False)


@dataclass
class LayerShells:
    """A live model whose layers are exchanged.

    Attributes:
        module: The model.
        key: Equal for stacks that it can run.
    """

    module: Any
    key: object
    _layers: list[torch.nn.Module]  # a module for every place, as many as were ever needed
    _hangs: _Slot  # the list of these
    _rows: list[list[_Slot | None]]  # of each place, where its parameters hang
    _outer: dict[str, list[_Slot]]  # the same for what surrounds the layers

    @classmethod
    def of(
        cls,
        module: Any,
        bound: Mapping[str, torch.Tensor],
        outer: Sequence[str],
        names: Sequence[Sequence[str]],
        key: object,
    ) -> LayerShells | None:
        """A loaded model as shells; None where its layers are no modules in a row.

        Args:
            module: The model.
            bound: Its parameters, by their names in a built folder.
            outer: Names of those that are in no layer.
            names: Names of those of each layer.
            key: As the attribute.
        """
        owners: dict[int, list[_Slot]] = {}
        for part in module.modules():
            for leaf, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
                owners.setdefault(id(parameter), []).append((part, leaf))

        def homes(name: str) -> list[_Slot]:
            return owners.get(id(bound[name]), []) if name in bound else []

        found = _list_of(module, len(names))
        if found is None:
            return None
        layers = list(getattr(*found))
        rows: list[list[_Slot | None]] = []
        for in_layer, layer in zip(names, layers, strict=True):
            parts = {id(part) for part in layer.modules()}
            of_layer = [homes(name) for name in in_layer]
            if any(len(h) > 1 or any(id(part) not in parts for part, _ in h) for h in of_layer):
                return None
            rows.append([one[0] if one else None for one in of_layer])
        return cls(module, key, layers, found, rows, {name: homes(name) for name in outer})

    @property
    def most(self) -> int:
        """Layers that it can run."""
        return len(self._layers)

    def run(self, outer: Named, stack: Sequence[Row], layers_key: str) -> Any:
        """The model with a stack of layers.

        Args:
            outer: What surrounds them.
            stack: At most as many as there are places.
            layers_key: Where its configuration has their number.
        """
        for name, slots in self._outer.items():
            for slot in slots:
                _hang(slot, outer[name])
        for index, row in enumerate(self._rows):
            parameters = stack[index] if index < len(stack) else [_NOTHING] * len(row)
            for place, parameter in zip(row, parameters, strict=True):
                if place is not None and parameter is not None:
                    _hang(place, parameter)
        owner, name = self._hangs
        setattr(owner, name, torch.nn.ModuleList(self._layers[: len(stack)]))
        set_config_value(self.module.config, layers_key, len(stack))
        return self.module


def _hang(slot: _Slot, parameter: torch.nn.Parameter) -> None:
    """Puts a parameter where another was."""
    part, leaf = slot
    part._parameters[leaf] = parameter


def _list_of(module: torch.nn.Module, n_layers: int) -> _Slot | None:
    """Where the list of the layers hangs; None where there is none of that length, or several."""
    found = [
        (part, name)
        for part in module.modules()
        for name, child in part.named_children()
        if isinstance(child, torch.nn.ModuleList) and len(child) == n_layers
    ]
    return found[0] if len(found) == 1 else None
