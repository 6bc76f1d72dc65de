"""The weighted sum of a block of task vectors, of all entries or of those that agree.

mergekit multiplies by a weight and adds in two roundings where one fused operation of
torch does it in one. ``addcmul(sum, vector, 1, value=weight)`` rounds weight * vector,
multiplies by one and adds: the same two roundings in one pass.

Sums start from zero, as mergekit's do: a sum of negative zeros is a positive one. Where torch
adds the rows of a few columns in lanes, these columns are added again, in lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.merging.kernels.bounds import amplification
from evomerge.merging.kernels.fused import scalars_of
from evomerge.merging.kernels.kernel import Entries
from evomerge.merging.kernels.row_sums import sum_in_lanes
from evomerge.merging.kernels.workspace import Workspace

_SMALL_DIVISOR = 1e-8

Columns = Sequence[slice]  # of a block, added in lanes
# (blocks of the task vectors, entries of each, how, columns, buffers) -> the sum, in a buffer
Combine = Callable[[Iterable[torch.Tensor], int, "Mix", Columns, Workspace], torch.Tensor]


@dataclass(frozen=True)
class Mix:
    """How task vectors are added.

    Attributes:
        weights: Of each.
        scalars: They and lambda, for a compiled sum.
        divisor: By which the sum is divided, shape (1,); None for nothing.
        amplification: How much larger than the largest entry the sum can be.
    """

    weights: Sequence[float]
    scalars: torch.Tensor
    divisor: torch.Tensor | None
    amplification: float

    @classmethod
    def of(cls, entries: Entries, shared: Mapping[str, Any]) -> Mix:
        """From the parameters of the sources and the shared ones."""
        weights = [float(entry["weight"]) for entry in entries]
        divisor = None
        if shared["normalize"]:
            divisor = torch.tensor(weights, dtype=torch.float32).unsqueeze(-1).sum(dim=0)
            divisor[divisor.abs() < _SMALL_DIVISOR] = 1
        scalars = scalars_of(weights, shared["lambda"])
        return cls(weights, scalars, divisor, amplification(weights, divisor))


def summed(
    blocks: Iterable[torch.Tensor], length: int, mix: Mix, lanes: Columns, workspace: Workspace
) -> torch.Tensor:
    """All entries."""
    mixed = workspace.row("mixed", length)
    total = workspace.zeros(length)
    seen = []
    for block, weight in zip(blocks, mix.weights, strict=True):
        total = torch.addcmul(total, block, workspace.unit, value=weight, out=mixed)
        seen.append(block)
    for columns in lanes:
        pairs = zip(seen, mix.weights, strict=True)
        mixed[columns] = sum_in_lanes([block[columns] * weight for block, weight in pairs])
    return mixed if mix.divisor is None else mixed.div_(mix.divisor)


def agreed(
    blocks: Iterable[torch.Tensor], length: int, mix: Mix, lanes: Columns, workspace: Workspace
) -> torch.Tensor:
    """The entries that have the sign of the sum of all."""
    row = workspace.row
    majority = row("majority", length)
    total = workspace.zeros(length)
    rows = []
    for index, (block, weight) in enumerate(zip(blocks, mix.weights, strict=True)):
        rows.append(torch.mul(block, weight, out=row(f"vector {index}", length)))
        total = torch.add(total, rows[-1], out=majority)
    for columns in lanes:
        majority[columns] = sum_in_lanes([block[columns] for block in rows])
    torch.ge(majority, 0, out=majority)
    majority.mul_(2).sub_(1)
    agrees, mixed, weight_sum = row("agrees", length), row("mixed", length), row("sum", length)
    total, total_weight = workspace.zeros(length), workspace.zeros(length)
    for block, weight in zip(rows, mix.weights, strict=True):
        torch.mul(block, majority, out=agrees)
        torch.gt(agrees, 0, out=agrees)
        total = torch.addcmul(total, block, agrees, out=mixed)
        if mix.divisor is not None:
            total_weight = torch.add(total_weight, agrees, alpha=weight, out=weight_sum)
    for columns in lanes:
        found = [block[columns] for block in rows]
        marks = [(block * majority[columns] > 0).float() for block in found]
        pairs = zip(found, marks, strict=True)
        mixed[columns] = sum_in_lanes([block * mark for block, mark in pairs])
        shares = zip(marks, mix.weights, strict=True)
        weight_sum[columns] = sum_in_lanes([mark * weight for mark, weight in shares])
    if mix.divisor is not None:
        torch.eq(weight_sum, 0, out=agrees)
        mixed.div_(weight_sum.add_(agrees))
    return mixed
