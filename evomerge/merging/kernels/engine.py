"""A recipe's tensors one after the other: by a kernel of ours where there is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import torch
from mergekit.common import dtype_from_name

from evomerge.foundations.deadline import Deadline
from evomerge.genome.methods import METHODS
from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels import kernel_for
from evomerge.merging.kernels.fused import SECONDS_TO_COMPILE, Fusion
from evomerge.merging.kernels.kernel import Kernel
from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.kernels.uniforms import Uniforms
from evomerge.merging.kernels.workspace import Workspace
from evomerge.merging.structure import PlannedTensor, Structure
from evomerge.merging.values import Values
from evomerge.recipe.plain import Recipe

Kernels = Sequence[Kernel | None]  # one per tensor of a structure


@dataclass(frozen=True, eq=False)
class TensorOrigin:
    """What the entries of a merged tensor depend on.

    Attributes:
        planned: Which tensor of which plan.
        values: Its parameters.
        at: Place of its first random number in the stream of the merge, if it draws any.
        is_all: Whether they depend on nothing else, like torch's own generator.
        threads: Some results depend on their number.
    """

    planned: PlannedTensor
    values: Values
    at: int = 0
    is_all: bool = True
    threads: int = field(default_factory=torch.get_num_threads)

    def repeats(self, last: TensorOrigin | None) -> bool:
        """Whether the last one is sure to have given the same tensor."""
        return (
            last is not None
            and self.is_all
            and last.is_all
            and self.planned is last.planned
            and self.at == last.at
            and self.threads == last.threads
            and self.values.equal(last.values)
        )


@dataclass(frozen=True, eq=False)
class Merged(ABC):
    """One tensor of the built checkpoint, merged when it is asked for."""

    origin: TensorOrigin

    @property
    def name(self) -> str:
        """In the built checkpoint."""
        return self.origin.planned.name

    @property
    def stored(self) -> torch.dtype | None:
        """On disk; None: as it is computed."""
        return _dtype(self.origin.planned.out_dtype)

    @property
    def is_left_out(self) -> bool:
        """Whether mergekit writes no such tensor."""
        return False

    @abstractmethod
    def tensor(self) -> torch.Tensor | None:
        """In memory of its own and its dtype on disk; None: mergekit leaves it out."""

    @abstractmethod
    def write(self, home: torch.Tensor) -> bool:
        """Overwrites a home of any dtype.

        Returns:
            Whether all entries are finite; a False may also be a sum that overflows.
        """


@dataclass(frozen=True, eq=False)
class ByMergekit(Merged):
    """Merged by mergekit's own kernel."""

    @cached_property
    def result(self) -> torch.Tensor | None:
        """What the kernel gives."""
        planned, values = self.origin.planned, self.origin.values
        parameters = {"parameters": values.shared, "input_parameters": values.per_input}
        task = planned.task.model_copy(update=parameters)
        result: torch.Tensor | None = task.execute(tensors=planned.inputs.cast())
        return result

    @property
    def is_left_out(self) -> bool:
        """Whether the kernel gives nothing."""
        return self.result is None

    def tensor(self) -> torch.Tensor | None:
        """A copy, because passthrough hands out the sources themselves."""
        merged = self.result
        return None if merged is None else merged.to(self.stored or merged.dtype, copy=True)

    def write(self, home: torch.Tensor) -> bool:
        """Copies, rounding to the dtype on disk first."""
        merged = self.result
        if merged is None:
            return True
        # A cast of its own, into new memory, costs ten times what copy_ takes.
        direct = self.stored is None or self.stored == home.dtype
        home.copy_(merged if direct else merged.to(self.stored))
        return not home.is_floating_point() or bool(torch.isfinite(home.sum()))


@dataclass(frozen=True, eq=False)
class ByKernel(Merged):
    """Merged by a kernel of ours, straight into its home."""

    kernel: Kernel
    workspace: Workspace

    def tensor(self) -> torch.Tensor:
        """The tensor as a home of its own."""
        home = torch.empty(self.kernel.shape, dtype=self.stored or self.kernel.work)
        self.write(home)
        return home

    def write(self, home: torch.Tensor) -> bool:
        """Fills the home block by block."""
        if not home.is_contiguous():
            home.copy_(self.tensor())
            return False  # not looked at
        work = self.kernel.work
        casts = (work, self.stored or work)
        inputs = self.origin.planned.inputs
        done = inputs.release if inputs.is_passing else None
        output = OutputTensor(home, casts, self.workspace, done)
        self.kernel.write(self.origin.values, output, self.origin.at)
        return output.is_surely_finite


class TensorMerger:
    """Merges the tensors of recipe after recipe.

    Args:
        fast: Whether kernels of ours are used at all.
        merge_seed: From which every merge draws.
        budget: For what they keep.
        workspace: Block buffers; None for some of the size that is fast.
    """

    def __init__(
        self,
        *,
        fast: bool,
        merge_seed: int,
        budget: MemoryBudget,
        workspace: Workspace | None = None,
    ) -> None:
        workspace = workspace or Workspace()
        self._fast = fast
        uniforms = Uniforms(merge_seed, budget, workspace)
        self._tools = Tools(workspace, uniforms, budget, Fusion())

    def kernels(self, structure: Structure) -> Kernels:
        """The kernels of a structure, made once; what they keep goes with them."""
        if not self._fast:
            return [None] * len(structure.tensors)
        found = [kernel_for(plan.task, plan.inputs, self._tools) for plan in structure.tensors]
        pairs = zip(structure.tensors, found, strict=True)
        # The stream of a merge is either ours or torch's, never first one, then the other.
        mixed = any(kernel is None and _may_draw(planned) for planned, kernel in pairs)
        return [None] * len(found) if mixed else found

    def merged(
        self, structure: Structure, kernels: Kernels, recipe: Recipe, deadline: Deadline
    ) -> Iterator[Merged]:
        """The tensors in mergekit's order, each to be used before the next is asked for."""
        self._tools.fusion.is_allowed = deadline.left > SECONDS_TO_COMPILE
        resolved = structure.values(recipe)
        uniforms, at = self._tools.uniforms, 0
        uniforms.restart()
        fitting = _fitting(resolved, kernels)
        for index, (planned, values, kernel) in enumerate(fitting):
            deadline.check()
            for later, _, _ in fitting[index + 1 : index + 2]:
                later.inputs.expect()
            if kernel is not None:
                n_drawn = kernel.draws(values)
                if n_drawn:
                    uniforms.release(at)
                yield ByKernel(TensorOrigin(planned, values, at), kernel, self._tools.workspace)
                at += n_drawn
            elif _may_draw(planned):
                merged = ByMergekit(TensorOrigin(planned, values, is_all=False))
                _ = merged.result  # drawn now, whether it has a home or not
                yield merged
            else:
                yield ByMergekit(TensorOrigin(planned, values))
            planned.inputs.release()


def _fitting(
    resolved: Sequence[tuple[PlannedTensor, Values]], kernels: Kernels
) -> Sequence[tuple[PlannedTensor, Values, Kernel | None]]:
    """The tensors with the kernels that admit their values."""
    found = [
        (planned, values, kernel if kernel is not None and kernel.admits(values) else None)
        for (planned, values), kernel in zip(resolved, kernels, strict=True)
    ]
    if all(kernel is not None or not _may_draw(planned) for planned, _, kernel in found):
        return found
    # One kernel that draws refuses: torch's generator must then make all numbers of the merge.
    return [(planned, values, None) for planned, values, _ in found]


@cache
def _dtype(name: str | None) -> torch.dtype | None:
    dtype: torch.dtype | None = dtype_from_name(name)
    return dtype


def _may_draw(planned: PlannedTensor) -> bool:
    """Whether mergekit's kernel takes random numbers; what stays an integer is only copied."""
    tensors = planned.inputs.stored().values()
    floating = all((dtype or tensor.dtype).is_floating_point for tensor, dtype in tensors)
    method = METHODS.get(planned.task.method_name)
    return (method is None or method.is_random) and floating
