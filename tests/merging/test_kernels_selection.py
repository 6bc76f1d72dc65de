"""The first entries are those that torch's own sort and topk put first, equal ones included."""

from __future__ import annotations

import pytest
import torch

from evomerge.merging.kernels import partition, selection
from evomerge.merging.kernels.selection import first, keys_of


@pytest.fixture
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges are read through several partitions before one of them is held."""
    monkeypatch.setattr(selection, "_HELD", 1 << 11)
    monkeypatch.setattr(selection, "READ", 1 << 10)
    monkeypatch.setattr(partition, "READ", 1 << 10)
    monkeypatch.setattr(partition, "_CELL", 1 << 7)


def differences(length: int) -> torch.Tensor:
    """Magnitudes of a task vector between models in bfloat16: many are equal."""
    generator = torch.Generator().manual_seed(length)
    base = torch.randn(length, generator=generator).bfloat16()
    source = (base.float() + 0.01 * torch.randn(length, generator=generator)).bfloat16()
    return (source.float() - base.float()).abs()


def found(magnitudes: torch.Tensor, n_first: int, *, descending: bool, by_topk: bool) -> set[int]:
    keys = keys_of(magnitudes.clone(), descending=descending)
    length = len(keys)
    ones = first(length, n_first, lambda a, b: keys[a:b].clone(), by_topk=by_topk)
    assert ones is not None
    among = [
        ones.among(keys[start : start + 777], start, torch.empty(min(777, length - start)).bool())
        for start in range(0, length, 777)
    ]
    return {int(place) for place in torch.cat(among).nonzero()}


@pytest.mark.usefixtures("_small_ranges")
@pytest.mark.parametrize("share", [0.03, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("length", [20, 333, 40_003])
def test_equal_entries_are_chosen_as_torch_chooses_them(length: int, share: float) -> None:
    magnitudes = differences(length) + 1e-6
    n_first = max(1, int(share * length))
    for descending in (True, False):
        wanted = torch.argsort(magnitudes, descending=descending)[:n_first]
        ours = found(magnitudes, n_first, descending=descending, by_topk=False)
        assert ours == set(wanted.tolist())
    wanted = torch.topk(magnitudes, n_first).indices
    assert found(magnitudes, n_first, descending=True, by_topk=True) == set(wanted.tolist())


def test_what_is_no_number_is_larger_than_all() -> None:
    magnitudes = differences(1000)
    magnitudes[::100] = torch.nan
    magnitudes[::333] = torch.inf
    wanted = torch.argsort(magnitudes, descending=True)[:500]
    assert found(magnitudes, 500, descending=True, by_topk=False) == set(wanted.tolist())


def test_another_way_of_sorting_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    selection.is_followed.cache_clear()
    monkeypatch.setattr(selection, "_SORTED", 40)
    keys = torch.ones(1000, dtype=torch.int32)
    assert first(1000, 500, lambda a, b: keys[a:b].clone()) is None
    selection.is_followed.cache_clear()
