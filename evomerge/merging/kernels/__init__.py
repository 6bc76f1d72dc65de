"""Merge kernels at memory speed: mergekit's tensors to the bit, in cache-sized blocks.

A kernel belongs to one output tensor; what does not depend on the parameter values is
found once. Methods that are not in the table, and tensors that are no case for a kernel
(another dtype than float32 to work in, another device than the CPU, more than fifteen
task vectors, an input that a model lacks), are merged by mergekit's own kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask

from evomerge.merging.kept_memory import Budget
from evomerge.merging.kernels.arithmetic import Arithmetic
from evomerge.merging.kernels.combination import Combine, agreed, summed
from evomerge.merging.kernels.fused import Fusion
from evomerge.merging.kernels.kernel import Inlet, Kernel
from evomerge.merging.kernels.linear import Linear
from evomerge.merging.kernels.magnitude import Band, Largest
from evomerge.merging.kernels.multislerp import MultiSlerp
from evomerge.merging.kernels.row_sums import max_rows
from evomerge.merging.kernels.sce import Sce
from evomerge.merging.kernels.sparsify import Sparsifier
from evomerge.merging.kernels.spherical import NuSlerp, Slerp
from evomerge.merging.kernels.task_vector import TaskVectors
from evomerge.merging.kernels.thinning import Dare, Della
from evomerge.merging.kernels.uniforms import Uniforms
from evomerge.merging.kernels.workspace import Workspace
from evomerge.merging.sources import Inputs


@dataclass(frozen=True)
class Tools:
    """What the kernels of one merger share."""

    workspace: Workspace
    uniforms: Uniforms
    budget: Budget
    fusion: Fusion


def _largest(vectors: TaskVectors, tools: Tools) -> Sparsifier:
    return Largest(vectors, tools.workspace, tools.budget)


def _band(vectors: TaskVectors, tools: Tools) -> Sparsifier:
    return Band(vectors, tools.workspace, tools.budget)


def _dare(vectors: TaskVectors, tools: Tools) -> Sparsifier:
    return Dare(tools.workspace, tools.uniforms)


def _della(vectors: TaskVectors, tools: Tools) -> Sparsifier | None:
    if not Della.suits(vectors):
        return None
    return Della(vectors, tools.workspace, tools.uniforms, tools.budget)


# Method -> how task vectors are sparsified, if at all, and how they are added.
FAMILY: dict[str, tuple[Callable[[TaskVectors, Tools], Sparsifier | None] | None, Combine]] = {
    "task_arithmetic": (None, summed),
    "ties": (_largest, agreed),
    "breadcrumbs": (_band, summed),
    "breadcrumbs_ties": (_band, agreed),
    "dare_linear": (_dare, summed),
    "dare_ties": (_dare, agreed),
    "della_linear": (_della, summed),
    "della": (_della, agreed),
}
METHODS = frozenset({"linear", "slerp", "nuslerp", "multislerp", "sce", *FAMILY})
# Methods of mergekit that draw, whether there is a kernel for them here or not.
RANDOMISED = frozenset({"dare_linear", "dare_ties", "della", "della_linear", "arcee_fusion"})


def kernel_for(task: ExecuteMergeMethodTask, inputs: Inputs, tools: Tools) -> Kernel | None:
    """The kernel of one output tensor, or None where only mergekit's will do."""
    if task.method_name in FAMILY:
        return _arithmetic(task, inputs, tools)
    if task.method_name in ("multislerp", "sce"):
        return _of_all(task, inputs, tools)
    inlet = Inlet.of(task, inputs, base=None)
    if inlet is None:
        return None
    if task.method_name == "linear":
        return Linear(inlet, inputs, tools.workspace, tools.fusion)
    if task.method_name == "slerp" and len(inlet.sources) == 2:
        return Slerp(inlet.beginning_with(task.base_model), inputs, tools.workspace)
    if task.method_name == "nuslerp" and task.base_model is None and inlet.work == torch.float32:
        return NuSlerp(inlet, inputs, tools.workspace)
    return None


def _of_all(task: ExecuteMergeMethodTask, inputs: Inputs, tools: Tools) -> Kernel | None:
    """A kernel that reduces whole tensors in every merge."""
    inlet = Inlet.of(task, inputs, base=task.base_model)
    kind = MultiSlerp if task.method_name == "multislerp" else Sce
    if inlet is None or not kind.suits(inlet):
        return None
    return kind(inlet, tools.workspace, tools.budget)


def _arithmetic(task: ExecuteMergeMethodTask, inputs: Inputs, tools: Tools) -> Kernel | None:
    inlet = Inlet.of(task, inputs, base=task.base_model)
    if inlet is None or inlet.base is None or inlet.work != torch.float32:
        return None
    if not 1 <= len(inlet.sources) <= max_rows(inlet.shape.numel()):
        return None
    sparsifier_of, combine = FAMILY[task.method_name]
    vectors = TaskVectors(inlet.base, inlet, tools.workspace, tools.budget)
    if sparsifier_of is None:
        return Arithmetic(vectors, None, combine, tools.workspace, tools.fusion)
    sparsifier = sparsifier_of(vectors, tools)
    if sparsifier is None:
        return None
    return Arithmetic(vectors, sparsifier, combine, tools.workspace, tools.fusion)
