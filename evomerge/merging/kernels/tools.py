"""What the kernels of one merger share."""

from __future__ import annotations

from dataclasses import dataclass

from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels.fused import Fusion
from evomerge.merging.kernels.uniforms import Uniforms
from evomerge.merging.kernels.workspace import Workspace


@dataclass(frozen=True)
class Tools:
    """Given to every kernel that is made.

    Attributes:
        workspace: Block buffers.
        uniforms: The random numbers of a merge.
        budget: Memory for what is kept between merges.
        fusion: Compiled sums.
    """

    workspace: Workspace
    uniforms: Uniforms
    budget: MemoryBudget
    fusion: Fusion
