"""The resident merge equals what mergekit builds: every method, layout and architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from mergekit import merge_methods

from evomerge.foundations.errors import MergeError
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED, assert_equals_folder, build_in_process
from tests.merging.layouts import LAYOUTS, N_LAYERS, recipe_config
from tests.pairs import in_pairs
from tests.thinned import thinned
from tests.tiny_models import ARCHITECTURES, tiny_family

METHODS = sorted(method.spec.name for method in merge_methods.registered_methods())
PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "rounded once": {"dtype": "float32", "out_dtype": "bfloat16"},
}
# della's ranks of GPT-NeoX's scalar buffer leave [0, 1].
REFUSED = {"gpt_neox": {"della", "della_linear"}}
Bench = Callable[..., tuple[list[Path], ResidentMerger]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A family of three layers and one merger that all tests on it share, each made once."""
    made: dict[tuple[str, bool, str], tuple[list[Path], ResidentMerger]] = {}

    def build(
        architecture: str = "llama", *, tied: bool = False, dtype: str = "float32"
    ) -> tuple[list[Path], ResidentMerger]:
        key = (architecture, tied, dtype)
        if key not in made:
            family = tiny_family(
                tmp_path_factory.mktemp("family"),
                architecture,
                tie_word_embeddings=tied,
                dtype=dtype,
                num_hidden_layers=N_LAYERS,
            )
            made[key] = family, ResidentMerger(merge_seed=SEED)
        return made[key]

    return build


def check(
    bench: tuple[list[Path], ResidentMerger], method: str, layout: str, precision: str, out: Path
) -> None:
    """Merges another recipe of the same structure first: its values must not remain."""
    family, merger = bench
    wanted = recipe_config(method, layout, family, **PRECISIONS[precision])
    other = recipe_config(method, layout, family, scale=0.9, **PRECISIONS[precision])
    merger.merge(Recipe(other))
    live = merger.merge(Recipe(wanted))
    assert_equals_folder(live, build_in_process(wanted, out))


# Kernels are compared in float32, bit by bit, elsewhere.
@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_equals_the_build(
    bench: Bench, tmp_path: Path, method: str, precision: str
) -> None:
    stored = "float32" if precision == "float32" else "bfloat16"
    check(bench(dtype=stored), method, "models", precision, tmp_path)


@pytest.mark.parametrize(
    ("layout", "method"), thinned(product(LAYOUTS[1:], ["linear", "ties", "slerp"]))
)
def test_every_layout_equals_the_build(
    bench: Bench, tmp_path: Path, method: str, layout: str
) -> None:
    check(bench(dtype="bfloat16"), method, layout, "rounded once", tmp_path)


@pytest.mark.parametrize(
    ("architecture", "method", "tied"),
    thinned(in_pairs(ARCHITECTURES, ["dare_ties", "slerp"], [False, True])),
)
def test_every_architecture_equals_the_build(
    bench: Bench, tmp_path: Path, architecture: str, method: str, tied: bool
) -> None:
    check(bench(architecture, tied=tied), method, "groups", "float32", tmp_path)


@pytest.mark.parametrize("method", sorted(REFUSED["gpt_neox"]))
def test_what_mergekit_refuses_is_refused(bench: Bench, tmp_path: Path, method: str) -> None:
    family, merger = bench("gpt_neox")
    config = recipe_config(method, "models", family, **PRECISIONS["float32"])
    with pytest.raises(RuntimeError, match="p_in"):
        build_in_process(config, tmp_path)
    with pytest.raises(MergeError, match="p_in"):
        merger.merge(Recipe(config))


def met_in_pairs(*factors: Sequence[Any]) -> list[tuple[Any, ...]]:
    """A part of the product in which each two values of different factors stand together."""
    every = range(len(factors[0]))
    numbered = product(*map(enumerate, factors))
    return [
        tuple(value for _, value in case)
        for case in numbered
        if sum(index for index, _ in case) % len(every) == 0
    ]


EVERYTHING = met_in_pairs(ARCHITECTURES, METHODS, LAYOUTS, tuple(PRECISIONS), (False, True))


def test_each_two_values_meet_in_a_merge() -> None:
    factors = [sorted(set(values)) for values in zip(*EVERYTHING, strict=True)]
    for one, two in combinations(range(len(factors)), 2):
        met = {(case[one], case[two]) for case in EVERYTHING}
        assert met == set(product(factors[one], factors[two]))


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "method", "layout", "precision", "tied"), EVERYTHING)
def test_everything_equals_the_build(
    bench: Bench,
    tmp_path: Path,
    architecture: str,
    method: str,
    layout: str,
    precision: str,
    tied: bool,
) -> None:
    if method in REFUSED.get(architecture, ()):
        pytest.skip("refused by mergekit, as another test shows")
    stored = "float32" if precision == "float32" else "bfloat16"
    models = bench(architecture, tied=tied, dtype=stored)
    check(models, method, layout, precision, tmp_path)
