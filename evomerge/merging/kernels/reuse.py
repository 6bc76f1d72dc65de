"""What a second merge shows to be used again, and is worth memory from then on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from evomerge.merging.kernels.kernel import Inlet
from evomerge.merging.sources import InputTensors


class Uses:
    """Counts the merges that ask for something."""

    def __init__(self) -> None:
        self._n = 0

    def again(self) -> bool:
        """Whether it was asked for before."""
        self._n += 1
        return self._n > 1


class Operands:
    """The sources of one tensor, in float32 from the second merge on, where there is room.

    Args:
        inlet: The sources.
        inputs: Keeps them in float32.
    """

    def __init__(self, inlet: Inlet, inputs: InputTensors) -> None:
        self._models = [model for model, _ in inlet.sources]
        self._tensors = [source for _, source in inlet.sources]
        self._inputs = inputs
        self._uses = Uses()
        self._is_cast = all(source.dtype == torch.float32 for source in self._tensors)

    def tensors(self) -> Sequence[torch.Tensor]:
        """Flat; asked for once in a merge."""
        if self._uses.again() and not self._is_cast:
            kept = self._inputs.kept()
            self._tensors = [kept[model].view(-1) for model in self._models]
            self._is_cast = all(source.dtype == torch.float32 for source in self._tensors)
        return self._tensors
