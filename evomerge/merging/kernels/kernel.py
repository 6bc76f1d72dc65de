"""What a fast kernel is given and what it promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from mergekit.common import ModelReference
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from typing_extensions import Self

from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.sources import InputTensors
from evomerge.merging.values import Made, Values

Entries = Sequence[Mapping[str, Any]]  # the parameters of each source
_EXACT_IN_FLOAT32 = (torch.float32, torch.bfloat16, torch.float16, torch.bool)


class Kernel(Protocol):
    """One output tensor of one method; everything but the parameter values is known."""

    @classmethod
    def of(cls, task: ExecuteMergeMethodTask, inputs: InputTensors, tools: Tools) -> Self | None:
        """The kernel of a task, or None where mergekit's tensor cannot be repeated to the bit."""

    @property
    def shape(self) -> torch.Size:
        """Of the tensor."""

    @property
    def work(self) -> torch.dtype:
        """The dtype of mergekit's result."""

    def draws(self, values: Values) -> int:
        """How many random numbers mergekit's kernel takes from its generator."""

    def admits(self, values: Values) -> bool:
        """Whether these values can be merged here; else mergekit's kernel does it."""

    def write(self, values: Values, output: OutputTensor, at: int) -> None:
        """Fills the output with what mergekit's kernel gives, to the bit.

        Args:
            values: What ``admits`` admitted.
            output: Where to.
            at: Place of the first random number in the stream of the merge.
        """


class KernelSettings:
    """Finds the parameters of the sources of one tensor, merge after merge.

    Args:
        models: The sources.
    """

    def __init__(self, models: Sequence[ModelReference]) -> None:
        self._models = models
        self._places: tuple[int, ...] = ()

    def of(self, values: Values) -> list[Mapping[str, Any]]:
        """One mapping per source."""
        return [values.settings[place] for place in self._order(values)]

    def once(self, values: Values, make: Callable[[Entries, Mapping[str, Any]], Made]) -> Made:
        """What is made of the sources' parameters and the shared ones.

        It is made once for all tensors that share the values and the order of the sources.
        """
        key = (make, self._order(values))
        return values.once(key, lambda: make(self.of(values), values.shared))

    def _order(self, values: Values) -> tuple[int, ...]:
        """The places of the sources among the inputs."""
        if not self._places:
            self._places = tuple(map(values.models.index, self._models))
        return self._places


@dataclass(frozen=True)
class Inlet:
    """The flat, resident inputs of one output tensor, as they are stored.

    Attributes:
        base: None where the method has none.
        sources: Model and tensor, in the order of the recipe, without the base.
        shape: Of every one of them.
        work: The dtype in which mergekit's kernel gets them and gives its result.
    """

    base: torch.Tensor | None
    sources: tuple[tuple[ModelReference, torch.Tensor], ...]
    shape: torch.Size
    work: torch.dtype

    @classmethod
    def of(
        cls, task: ExecuteMergeMethodTask, inputs: InputTensors, *, base: ModelReference | None
    ) -> Inlet | None:
        """The inlet of a task, or None if it is no case for a fast kernel.

        Args:
            task: As planned by mergekit.
            inputs: Its resident tensors.
            base: The model to set apart; None: all are sources.
        """
        if inputs.device.type != "cpu":
            return None
        stored = inputs.stored()
        entries = [(model, *stored[model]) for model in task.model_order if model in stored]
        if len(entries) < len(task.model_order) or not entries:
            return None
        works = {dtype or tensor.dtype for _, tensor, dtype in entries}
        first = entries[0][1]
        if len(works) > 1 or task.dtype is not None or task.out_dtype is not None:
            return None
        work = works.pop()
        if not work.is_floating_point:
            return None
        for _, tensor, _ in entries:
            # A cast to float32 loses nothing; a cast to less is part of the result.
            exact = tensor.dtype in _EXACT_IN_FLOAT32 and work in (torch.float32, tensor.dtype)
            whole = tensor.shape == first.shape and tensor.is_contiguous() and tensor.numel() > 0
            if not (exact and whole and tensor.device.type == "cpu"):
                return None
        flat = {model: tensor.view(-1) for model, tensor, _ in entries}
        own = flat.pop(base) if base in flat else None
        return cls(own, tuple(flat.items()), first.shape, work)

    def beginning_with(self, model: ModelReference) -> Inlet:
        """The same with one source moved to the front."""
        return replace(self, sources=tuple(sorted(self.sources, key=lambda one: one[0] != model)))
