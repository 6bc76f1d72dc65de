"""A sum of rows taken apart equals torch's sum of the whole, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from evomerge.merging.kernels import row_sums
from evomerge.merging.kernels.row_sums import adds_as_known, lane_columns, max_rows, sum_in_lanes

LENGTHS = [2, 5, 7, 8, 13, 31, 32, 63, 500, 6553, 6555, 16_391, 100_003]


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow), 3])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("n_rows", [1, 4, 5, 6, 7, 8, 9, 12, 15])
def test_rows_and_lanes_add_up_to_torchs_own_sum(n_rows: int) -> None:
    generator = torch.Generator().manual_seed(n_rows)
    assert adds_as_known(n_rows)
    for length in LENGTHS:
        assert n_rows <= max_rows(length)
        rows = torch.randn(n_rows, length, generator=generator)
        total = torch.zeros(length)
        for row in rows:
            total += row
        for start, stop in lane_columns(length, n_rows):
            total[start:stop] = sum_in_lanes([row[start:stop] for row in rows])
        assert torch.equal(total, rows.sum(dim=0)), length


def test_another_order_of_adding_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_sums, "_LANES", 3)
    row_sums._width.cache_clear()
    row_sums._columns.cache_clear()
    assert not adds_as_known(7)
    row_sums._width.cache_clear()
    row_sums._columns.cache_clear()


def test_the_sum_of_a_single_column_is_left_to_torch() -> None:
    assert max_rows(1) == 4
