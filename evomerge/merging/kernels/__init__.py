"""Merge kernels at memory speed: mergekit's tensors to the bit, in cache-sized blocks.

A kernel belongs to one output tensor; what does not depend on the parameter values is
found once. Methods that are not in the table, and tensors that are no case for a kernel
(another dtype than float32 to work in, another device than the CPU, more than fifteen
task vectors, an input that a model lacks), are merged by mergekit's own kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evomerge.foundations.registry import Registry

if TYPE_CHECKING:
    from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask

    from evomerge.merging.kernels.kernel import Kernel
    from evomerge.merging.kernels.tools import Tools
    from evomerge.merging.sources import InputTensors

FAMILY = (
    *("task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties"),
    *("dare_linear", "dare_ties", "della_linear", "della"),
)
# Method -> its kernel; a further one is a file and a line here.
KERNELS: Registry[type[Kernel]] = Registry(
    "kernel",
    {
        "linear": "evomerge.merging.kernels.linear:Linear",
        "slerp": "evomerge.merging.kernels.spherical:Slerp",
        "nuslerp": "evomerge.merging.kernels.spherical:NuSlerp",
        "multislerp": "evomerge.merging.kernels.multislerp:MultiSlerp",
        "sce": "evomerge.merging.kernels.sce:Sce",
        **dict.fromkeys(FAMILY, "evomerge.merging.kernels.arithmetic:Arithmetic"),
    },
)


def kernel_for(task: ExecuteMergeMethodTask, inputs: InputTensors, tools: Tools) -> Kernel | None:
    """The kernel of one output tensor, or None where only mergekit's will do."""
    if task.method_name not in KERNELS:
        return None
    return KERNELS[task.method_name].of(task, inputs, tools)
