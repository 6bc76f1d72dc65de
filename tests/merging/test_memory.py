"""A merge takes a bounded workspace, however large a tensor is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.profiler import ProfilerActivity, profile

from evomerge.merging.kernels.engine import Merged
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED
from tests.merging.layouts import recipe_config
from tests.tiny_models import tiny_family

WORKSPACE = 64 << 20
N_TOKENS, WIDTH = 1 << 17, 160
LARGEST = 4 * N_TOKENS * WIDTH  # bytes in float32: more than the workspace


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Models with one large tensor: it is the embedding and the head."""
    return tiny_family(
        tmp_path_factory.mktemp("family"),
        dtype="bfloat16",
        vocab_size=N_TOKENS,
        hidden_size=WIDTH,
        tie_word_embeddings=True,
    )


def peak_bytes(merger: ResidentMerger, recipe: Recipe) -> int:
    """The most that torch holds at once of what it allocates during a merge."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        merger.merge(recipe)
    events = [
        event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize(
    ("method", "cache_bytes"),
    [
        ("linear", 0),
        pytest.param("linear", 3 * LARGEST, marks=pytest.mark.slow),
        pytest.param("task_arithmetic", 0, marks=pytest.mark.slow),
        ("task_arithmetic", 3 * LARGEST),
        pytest.param("slerp", 0, marks=pytest.mark.slow),
        pytest.param("nuslerp", 0, marks=pytest.mark.slow),
        pytest.param("dare_linear", 0, marks=pytest.mark.slow),
        pytest.param("dare_ties", 0, marks=pytest.mark.slow),
        pytest.param("della", 0, marks=pytest.mark.slow),
        pytest.param("multislerp", 0, marks=pytest.mark.slow),
        pytest.param("sce", 0, marks=pytest.mark.slow),
        pytest.param("ties", 0, marks=pytest.mark.slow),
        pytest.param("breadcrumbs", 0, marks=pytest.mark.slow),
        pytest.param("breadcrumbs_ties", 0, marks=pytest.mark.slow),
    ],
)
def test_a_merge_allocates_the_cache_and_a_workspace(
    family: list[Path], method: str, cache_bytes: int
) -> None:
    assert LARGEST > WORKSPACE
    merger = ResidentMerger(merge_seed=SEED, cache_bytes=cache_bytes)
    config = recipe_config(method, "models", family, dtype="float32", out_dtype="bfloat16")
    first = recipe_config(
        method, "models", family, scale=0.9, dtype="float32", out_dtype="bfloat16"
    )
    merger.merge(Recipe(first))
    for scaled in (config, first):
        assert peak_bytes(merger, Recipe(scaled)) <= cache_bytes + WORKSPACE


@pytest.mark.slow
def test_the_first_merge_takes_the_files_a_live_model_and_a_workspace(family: list[Path]) -> None:
    files = sum((model / "model.safetensors").stat().st_size for model in family)
    for method in ("linear", "task_arithmetic", "dare_ties"):
        merger = ResidentMerger(merge_seed=SEED, cache_bytes=0)
        config = recipe_config(method, "models", family, dtype="float32", out_dtype="bfloat16")
        live = LARGEST // 2 + (1 << 20)
        assert peak_bytes(merger, Recipe(config)) <= files + live + WORKSPACE


@pytest.mark.parametrize("has_another_dtype", [False, True])
def test_the_first_merge_of_another_plan_takes_no_second_live_model(
    family: list[Path], has_another_dtype: bool
) -> None:
    """Nor does a model that has to be loaded anew, where somebody still has the one before."""
    merger = ResidentMerger(merge_seed=SEED, cache_bytes=0)
    config = recipe_config("linear", "models", family, dtype="float32")
    before = merger.merge(Recipe(config)).module
    merger.merge(Recipe(recipe_config("linear", "models", family, scale=0.9, dtype="float32")))
    own = {"out_dtype": "bfloat16"} if has_another_dtype else {}
    other = Recipe(recipe_config("linear", "models", family[::-1], dtype="float32", **own))

    def looked_at(merged: Iterator[Merged]) -> Iterator[Merged]:
        for one in merged:
            assert before.get_input_embeddings().weight.is_meta == has_another_dtype
            yield one

    if has_another_dtype:
        assert merger.merge(other, change=looked_at).module is not before
    else:
        assert peak_bytes(merger, other) <= LARGEST * 3 // 4
        assert merger.merge(other, change=looked_at).module is before


def test_a_wider_model_takes_its_tensors_as_they_are_merged(tmp_path: Path) -> None:
    """Not all of them in the dtype of the recipe first, and then the model."""
    size = {"vocab_size": 1 << 15, "hidden_size": WIDTH, "tie_word_embeddings": False}
    family = tiny_family(tmp_path, dtype="bfloat16", **size)
    large = 4 * (1 << 15) * WIDTH  # of embeddings and of the head
    merger = ResidentMerger(merge_seed=SEED, dtype="float32", cache_bytes=0)
    recipe = Recipe(recipe_config("linear", "models", family, dtype="bfloat16"))
    merger.merge(recipe)
    merger.drop_live()
    assert peak_bytes(merger, recipe) <= 2 * large + large * 3 // 4
