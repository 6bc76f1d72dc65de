"""The kernels that reduce whole tensors in every merge give mergekit's tensors to the bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from evomerge.merging.kernels import multislerp
from evomerge.merging.kernels.engine import ByMergekit
from tests.merging import test_kernels
from tests.merging.test_kernels import PLENTY, Plan, Point, check
from tests.pairs import in_pairs

SHAPES = [(1027,), (33, 5), (64, 48), (131, 307)]
SHARES = [1.0, 0.7, 0.3, 0.01, 0.0]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def directions(n_models: int) -> list[Point]:
    weights = [[0.3, 0.5, -0.2, 0.9, 0.4][:n_models], [1.7, 0.1, 0.3, 0.2, 0.5][:n_models]]
    return [
        {"weight": weights[0]},
        {"weight": weights[1], "normalize_weights": False, "eps": 1e-3},
    ]


@pytest.mark.parametrize(
    ("n_sources", "has_base", "held", "n_bytes", "threads"),
    in_pairs([1, 2, 4], [True, False], [0, 1 << 22], [0, PLENTY], [1, 2]),
)
def test_a_multislerp_is_mergekits(
    monkeypatch: pytest.MonkeyPatch,
    n_sources: int,
    has_base: bool,
    held: int,
    n_bytes: int,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    monkeypatch.setattr(multislerp, "_HELD", held)
    if not has_base:
        monkeypatch.setattr(test_kernels, "NO_BASE", {*test_kernels.NO_BASE, "multislerp"})
    n_models = n_sources + has_base
    plan = Plan("multislerp", n_models - 1, shapes=SHAPES, out_dtype="bfloat16")
    check(plan, directions(n_models), n_bytes)


def test_two_opposed_vectors_are_mixed_on_a_line() -> None:
    plan = Plan("multislerp", 2, shapes=SHAPES, noise=0.0)  # no vectors at all
    check(plan, [{"weight": [0.0, 0.4, 0.6]}], PLENTY)


def test_more_than_two_opposed_vectors_are_refused() -> None:
    plan = Plan("multislerp", 3, shapes=SHAPES, noise=0.0)
    with pytest.raises(ValueError, match="weighted sum of the task vectors is zero"):
        check(plan, [{"weight": [0.0, 0.4, 0.6, 0.1]}], PLENTY)


@pytest.mark.parametrize(
    ("n_sources", "stored", "n_bytes", "threads"),
    [
        (2, torch.bfloat16, 0, 1),
        pytest.param(4, torch.bfloat16, PLENTY, 2, marks=pytest.mark.slow),
        (3, torch.float32, PLENTY, 1),
    ],
)
def test_an_sce_is_mergekits(
    n_sources: int, stored: torch.dtype, n_bytes: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    plan = Plan("sce", n_sources, shapes=SHAPES, stored=stored)
    made: list[Point] = [{"select_topk": share, "int8_mask": share > 0.5} for share in SHARES]
    check(plan, made, n_bytes)


@pytest.mark.parametrize("method", ["multislerp", "sce"])
def test_five_sources_are_merged_by_mergekit(method: str) -> None:
    plan = Plan(method, 5, shapes=SHAPES)
    check(plan, [{"weight": [0.1] * 6, "select_topk": 0.4}], PLENTY, by=ByMergekit)
