"""The kernels that reduce whole tensors in every merge give mergekit's tensors to the bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from evomerge.merging.kernels import multislerp, workspace
from evomerge.merging.kernels.engine import ByMergekit
from tests.merging import test_kernels
from tests.merging.test_kernels import PLENTY, Plan, Point, check

SHAPES = [(1027,), (33, 5), (64, 48), (131, 307)]
SHARES = [1.0, 0.7, 0.3, 0.01, 0.0]


@pytest.fixture(autouse=True, params=[1, 2], ids=["1 thread", "2 threads"])
def _small_blocks(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setattr(workspace, "_BLOCK_PER_THREAD", 500)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[True, False], ids=["base", "no base"])
def n_without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many of a plan's models are no sources."""
    if not request.param:
        monkeypatch.setattr(test_kernels, "NO_BASE", {*test_kernels.NO_BASE, "multislerp"})
    return int(request.param)


def directions(n_models: int) -> list[Point]:
    weights = [[0.3, 0.5, -0.2, 0.9, 0.4][:n_models], [1.7, 0.1, 0.3, 0.2, 0.5][:n_models]]
    return [
        {"weight": weights[0]},
        {"weight": weights[1], "normalize_weights": False, "eps": 1e-3},
    ]


@pytest.mark.parametrize("n_bytes", [0, PLENTY])
@pytest.mark.parametrize("held", [0, 1 << 22])
@pytest.mark.parametrize("n_sources", [1, 2, 4])
def test_a_multislerp_is_mergekits(
    monkeypatch: pytest.MonkeyPatch, n_without: int, n_sources: int, held: int, n_bytes: int
) -> None:
    monkeypatch.setattr(multislerp, "_HELD", held)
    n_models = n_sources + n_without
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
    ("n_sources", "stored", "n_bytes"),
    [(2, torch.bfloat16, 0), (4, torch.bfloat16, PLENTY), (3, torch.float32, PLENTY)],
)
def test_an_sce_is_mergekits(n_sources: int, stored: torch.dtype, n_bytes: int) -> None:
    plan = Plan("sce", n_sources, shapes=SHAPES, stored=stored)
    made: list[Point] = [{"select_topk": share, "int8_mask": share > 0.5} for share in SHARES]
    check(plan, made, n_bytes)


@pytest.mark.parametrize("method", ["multislerp", "sce"])
def test_five_sources_are_merged_by_mergekit(method: str) -> None:
    plan = Plan(method, 5, shapes=SHAPES)
    check(plan, [{"weight": [0.1] * 6, "select_topk": 0.4}], PLENTY, by=ByMergekit)
