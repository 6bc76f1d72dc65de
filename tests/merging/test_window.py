"""Sources above a cap are read from their files in every merge, and leave memory again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from evomerge.merging import sources
from evomerge.merging.kernels import workspace
from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.resident import ResidentMerger
from evomerge.merging.window import Window, forget, is_mapped
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED
from tests.merging.layouts import recipe_config
from tests.thinned import thinned
from tests.tiny_models import tiny_family, tiny_model

SMAPS = Path("/proc/self/smaps")
pytestmark = pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells what is in memory")
BLOCK = 1 << 15  # elements
PAGE = 1 << 21  # bytes: the largest page in which the system maps a part of a file
TAILS = 1 << 19  # bytes: pages in which one tensor ends and another begins
EVERY = 12  # blocks; to look takes long
N_TOKENS = 16384
SOME_BYTES = 1 << 15
METHODS = ["linear", "task_arithmetic", "slerp", "ties", "dare_ties", "multislerp"]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Models with tensors of four megabytes: 16,384 tokens of 128 numbers in bfloat16."""
    return tiny_family(
        tmp_path_factory.mktemp("family"),
        dtype="bfloat16",
        vocab_size=N_TOKENS,
        hidden_size=128,
        num_hidden_layers=2,
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return tiny_family(tmp_path_factory.mktemp("small"), dtype="bfloat16")


def resident_bytes(folder: Path) -> int:
    """Of the weight files below a folder, as this process maps them."""
    found, counts = 0, False
    for line in SMAPS.read_text(encoding="utf-8").splitlines():
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):
            counts = str(folder) in line and line.endswith(".safetensors")
        elif counts and first == "Rss:":
            found += int(line.split()[1]) << 10
    return found


def file_bytes(family: list[Path]) -> int:
    return sum((model / "model.safetensors").stat().st_size for model in family)


def weights(merger: ResidentMerger, recipe: Recipe) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in merger.merge(recipe).module.state_dict().items()}


def recipes(method: str, family: list[Path]) -> list[Recipe]:
    return [
        Recipe(recipe_config(method, "models", family, scale=scale, dtype="float32"))
        for scale in (1.0, 0.9, 0.8)
    ]


@pytest.mark.parametrize(
    ("method", "source_bytes"),
    [
        *thinned(((method, 0) for method in METHODS), of=2),
        ("ties", SOME_BYTES),
        *thinned([("slerp", SOME_BYTES)], of=2, kept=()),
    ],
)
def test_the_weights_are_the_same_whatever_stays(
    small: list[Path], method: str, source_bytes: int
) -> None:
    streaming = ResidentMerger(merge_seed=SEED, source_bytes=source_bytes, cache_bytes=1 << 24)
    plain = ResidentMerger(merge_seed=SEED, engine="reference")
    for recipe in recipes(method, small):
        merged, expected = weights(streaming, recipe), weights(plain, recipe)
        assert all(torch.equal(merged[name], expected[name]) for name in expected)


def sampled(monkeypatch: pytest.MonkeyPatch, look: Callable[[], int]) -> list[int]:
    """What ``look`` sees when a kernel writes a block, before its sources are forgotten."""
    seen: list[int] = []
    put, turns = OutputTensor.put, count()

    def looked(self: OutputTensor, *args: Any) -> None:
        if next(turns) % EVERY == 0:
            seen.append(look())
        put(self, *args)

    monkeypatch.setattr(OutputTensor, "put", looked)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_a_merge_reads_through_a_window_of_one_block(
    family: list[Path], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(workspace, "_BLOCK", BLOCK)
    merger = ResidentMerger(merge_seed=SEED, source_bytes=0, cache_bytes=0)
    first, second, _ = recipes(method, family)
    merger.merge(first)
    assert resident_bytes(family[0].parent) <= TAILS
    seen = sampled(monkeypatch, lambda: resident_bytes(family[0].parent))
    merger.merge(second)
    assert len(seen) > 2 * N_TOKENS * 128 / BLOCK / EVERY
    assert max(seen) <= 2 * (PAGE + 2 * BLOCK) + TAILS < file_bytes(family) / 4


def test_the_next_tensor_is_read_while_one_is_merged(
    family: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    merger = ResidentMerger(merge_seed=SEED, source_bytes=0, cache_bytes=0)
    first, second, _ = recipes("linear", family)
    merger.merge(first)
    told: list[tuple[str, int]] = []
    for name in ("expect", "forget"):

        def tell(tensor: torch.Tensor, name: str = name) -> None:
            told.append((name, tensor.data_ptr()))

        monkeypatch.setattr(sources, name, tell)
    merger.merge(second)
    expected = [index for index, (what, _) in enumerate(told) if what == "expect"]
    assert expected
    for index in expected:
        forgotten_next = next(place for what, place in told[index:] if what == "forget")
        assert forgotten_next != told[index][1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ["linear", "ties"])
def test_what_is_brought_to_a_gpu_merges_like_what_stays_there(
    family: list[Path], method: str
) -> None:
    bringing = ResidentMerger(device="cuda", merge_seed=SEED, source_bytes=0, cache_bytes=0)
    staying = ResidentMerger(device="cuda", merge_seed=SEED, cache_bytes=0)
    for recipe in recipes(method, family):
        merged, expected = weights(bringing, recipe), weights(staying, recipe)
        assert all(torch.equal(merged[name], expected[name]) for name in expected)


def test_sources_within_the_cap_stay(family: list[Path]) -> None:
    merger = ResidentMerger(merge_seed=SEED, cache_bytes=0)
    for recipe in recipes("linear", family)[:2]:
        merger.merge(recipe)
    assert resident_bytes(family[0].parent) > file_bytes(family) / 2


def test_a_window_holds_what_comes_first() -> None:
    window = Window(10, torch.device("cpu"))
    small, large = torch.ones(4, dtype=torch.int8), torch.ones(8, dtype=torch.int8)
    assert [window.holds(t) for t in (small, large, small, small)] == [True, False, True, False]


def test_only_what_is_mapped_from_a_file_can_be_forgotten(family: list[Path]) -> None:
    with safe_open(family[0] / "model.safetensors", "pt") as file:
        tensor = file.get_tensor("lm_head.weight")
    before = tensor.clone()
    assert is_mapped(tensor)
    assert not is_mapped(before)
    forget(tensor)
    assert torch.equal(tensor, before)


def held_outside_files(merger: ResidentMerger, recipe: Recipe) -> int:
    """Bytes of the sources that are in memory without being a part of a file."""
    tensors = merger.structure(recipe).tensors
    stored = [t for planned in tensors for t, _ in planned.inputs.stored().values()]
    return sum({t.data_ptr(): t.nbytes for t in stored if not is_mapped(t)}.values())


def assert_equals_the_reference(merger: ResidentMerger, recipe: Recipe, **settings: Any) -> None:
    plain = ResidentMerger(merge_seed=SEED, engine="reference", **settings)
    expected = weights(plain, recipe)
    for _ in range(2):
        merged = weights(merger, recipe)
    assert all(torch.equal(merged[name], expected[name]) for name in expected)


SMALL = 1 << 20  # bytes: tensors that are not worth a file


@pytest.mark.slow
@pytest.mark.parametrize("extra", [0, 40])
def test_a_named_tokenizer_keeps_no_copies_of_the_sources(tmp_path: Path, extra: int) -> None:
    wider = {"hidden_size": 512, "dtype": "bfloat16"}
    first = tiny_model(tmp_path / "a", extra_tokens=[f"<t{i}>" for i in range(1100)], **wider)
    tokens = [f"<t{i}>" for i in range(1100 - extra)] + [f"<s{i}>" for i in range(extra)]
    second = tiny_model(tmp_path / "b", seed=2, extra_tokens=tokens, **wider)
    models = [
        {"model": str(m), "parameters": {"weight": w}} for m, w in ((first, 0.3), (second, 0.9))
    ]
    config = {"merge_method": "linear", "dtype": "float32", "models": models}
    recipe = Recipe({**config, "tokenizer_source": "union"})
    merger = ResidentMerger(merge_seed=SEED, source_bytes=0, cache_bytes=0)
    assert_equals_the_reference(merger, recipe)
    assert held_outside_files(merger, recipe) <= SMALL < 2 * 1196 * 512


def test_pickles_above_the_cap_are_read_from_temporary_files(tmp_path: Path) -> None:
    models = tiny_family(tmp_path, dtype="bfloat16", vocab_size=N_TOKENS, hidden_size=64)
    for model in models:
        torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
        (model / "model.safetensors").unlink()
    recipe = Recipe(recipe_config("linear", "models", models, dtype="float32"))
    allowed = [str(model) for model in models]
    merger = ResidentMerger(merge_seed=SEED, source_bytes=0, cache_bytes=0, allow_pickle=allowed)
    assert_equals_the_reference(merger, recipe, allow_pickle=allowed)
    assert held_outside_files(merger, recipe) <= 3 * SMALL
