"""A norm read in blocks equals torch's norm of the whole vector, to the last bit."""

from __future__ import annotations

import pytest
import torch

from evomerge.merging.kernels.norm import Norm, norm_width


@pytest.mark.parametrize("length", [*range(64, 72), 1023, 40_009])
def test_blocks_have_torchs_own_norm(length: int) -> None:
    numbers = torch.randn(length, generator=torch.Generator().manual_seed(length))
    width = norm_width()
    assert width is not None
    norm = Norm(width)
    for block in numbers.split(20 * width):
        norm.add(block)
    assert torch.equal(norm.total(), torch.norm(numbers))
