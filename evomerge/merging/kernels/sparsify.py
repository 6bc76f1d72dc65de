"""What a sparsifier is to a merge, and the one that keeps everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from typing_extensions import Self

from evomerge.merging.kernels.task_vector import Pick, TaskVectors
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.kernels.workspace import Workspace

Parameters = Mapping[str, Any]  # of one model
Keep = tuple[Pick | None, torch.Tensor | None]  # what of a task vector, and its rescaling


class Sparsifier(Protocol):
    """Decides which entries of the task vectors of one tensor are kept."""

    @classmethod
    def of(cls, vectors: TaskVectors, tools: Tools) -> Self | None:
        """The one of some task vectors; None where mergekit's choice cannot be repeated."""

    @property
    def step(self) -> int:
        """Elements handled at a time."""

    def is_random(self, parameters: Parameters) -> bool:
        """Whether mergekit's kernel draws a number for every element."""

    def admits(self, index: int, parameters: Parameters) -> bool:
        """Whether ``pick`` gives what mergekit keeps of this source."""

    def is_rescaled(self, pick: Pick) -> bool:
        """Whether mergekit rescales what is kept, where it is asked to."""

    def pick(self, index: int, parameters: Parameters, at: int) -> Pick | None:
        """What is kept of one source; None: everything, without rescaling.

        Args:
            index: Of the source.
            parameters: The source's.
            at: Place of its first random number in the stream.
        """


def erase(delta: torch.Tensor, start: int, out: torch.Tensor) -> None:
    """Keeps nothing."""
    out.zero_()


class Everything:
    """Keeps all entries, as task arithmetic does whatever the density says."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def step(self) -> int:
        """A block."""
        return self._workspace.block

    def is_random(self, parameters: Parameters) -> bool:
        """Never."""
        return False

    def admits(self, index: int, parameters: Parameters) -> bool:
        """Always."""
        return True

    def is_rescaled(self, pick: Pick) -> bool:
        """Nothing to make up for."""
        return False

    def pick(self, index: int, parameters: Parameters, at: int) -> Pick | None:
        """Everything."""
        return None
