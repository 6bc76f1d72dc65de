"""A sum read in blocks equals torch's sum of the whole tensor, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from evomerge.merging.kernels import summation
from evomerge.merging.kernels.summation import Blocks, blockwise_sum
from evomerge.merging.kernels.workspace import Workspace

LENGTHS = [1, 7, 8, 63, 1023, 32767, 32769, 65537, (1 << 20) + 3, (1 << 21) - 1]


@pytest.fixture(params=[1, 2, 3])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("length", [*LENGTHS, pytest.param(1 << 25, marks=pytest.mark.slow)])
def test_blocks_add_up_to_torchs_own_sum(length: int) -> None:
    numbers = torch.empty(length).exponential_(generator=torch.Generator().manual_seed(length))
    blocks = Blocks(length, 5003, lambda start, stop: numbers[start:stop], Workspace())
    total = blockwise_sum(length, blocks.read)
    assert total is not None
    assert torch.equal(total, numbers.sum())


def test_another_order_of_summing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    summation._width.cache_clear()
    monkeypatch.setattr(summation, "_UNROLLED", 3)
    assert blockwise_sum(10, lambda start, stop: torch.ones(stop - start)) is None
    summation._width.cache_clear()
