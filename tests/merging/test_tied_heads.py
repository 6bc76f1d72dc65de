"""Heads that a configuration ties and files do not, or the other way: as transformers loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from evomerge.evaluators.built_model import BuiltModel
from evomerge.evaluators.lm_eval.hf_model import open_model
from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.foundations.errors import ModelError
from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.inference import ENGINES
from evomerge.merging.mergers import Mergers
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED, build_in_process, load
from tests.merging.layouts import recipe_config
from tests.tiny_models import tiny_family, tiny_model

TOKENS = torch.arange(4, 24)[None]
LLAMA = ("model.embed_tokens.weight", "lm_head.weight")
NAMES = {"gpt_neox": ("gpt_neox.embed_in.weight", "embed_out.weight")}


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt_neox"])
def family(request, tmp_path_factory) -> list[Path]:
    """Models whose configurations tie their heads; the last one holds another head all the same."""
    folders = tiny_family(
        tmp_path_factory.mktemp("family"), request.param, tie_word_embeddings=True
    )
    part(folders[2], request.param)
    return folders


def part(folder: Path, architecture: str = "llama") -> None:
    """Gives a tied model a head of its own, of which its configuration says nothing."""
    file = folder / "model.safetensors"
    held = load_file(file)
    embeddings, head = NAMES.get(architecture, LLAMA)
    held[head] = held[embeddings].flip(0).contiguous()
    save_file(held, file, {"format": "pt"})


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Models with a head of their own, without, and with one that their configuration denies."""
    root = tmp_path_factory.mktemp("models")
    found = {
        name: tiny_model(root / name, seed=seed, tie_word_embeddings=name != "untied")
        for seed, name in enumerate(("tied", "untied", "parted"))
    }
    part(found["parted"])
    return found


def merges(first: Path, second: Path, scale: float) -> dict[str, dict[str, Any]]:
    """A recipe of every shape that takes two models."""
    entries = [
        {"model": str(model), "parameters": {"weight": weight * scale}}
        for model, weight in ((first, 0.7), (second, 0.4))
    ]
    found: dict[str, dict[str, Any]] = {
        "linear": {"merge_method": "linear", "models": entries},
        "union": {"merge_method": "linear", "models": entries, "tokenizer_source": "union"},
        "layers of the second last": stack(first, second),
        "layers of the first last": stack(second, first, base=first),
    }
    for base in (first, second):
        plain = [{"model": str(first)}, {"model": str(second)}]
        found[f"slerp on {base.name}"] = {
            "merge_method": "slerp",
            "base_model": str(base),
            "models": plain,
            "parameters": {"t": 0.4 * scale},
        }
        found[f"task_arithmetic on {base.name}"] = {
            "merge_method": "task_arithmetic",
            "base_model": str(base),
            "models": entries,
        }
    return {name: {**recipe, "dtype": "float32"} for name, recipe in found.items()}


def stack(lower: Path, upper: Path, base: Path | None = None) -> dict[str, Any]:
    """A layer of one model below a layer of another."""
    slices = [
        {"sources": [{"model": str(model), "layer_range": [layer, layer + 1]}]}
        for layer, model in enumerate((lower, upper))
    ]
    return {"merge_method": "passthrough", "base_model": str(base or lower), "slices": slices}


def logits(module: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module(TOKENS).logits
    return found


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("tied", "untied"),
        pytest.param("untied", "tied", marks=pytest.mark.slow),  # the same code in more seconds
        pytest.param("tied", "parted", marks=pytest.mark.slow),
        pytest.param("parted", "untied", marks=pytest.mark.slow),
    ],
)
def test_what_is_scored_is_what_transformers_makes_of_the_build(models, tmp_path, first, second):
    merger = Mergers(lambda: ResidentMerger(merge_seed=SEED))
    first_recipes, then = (merges(models[first], models[second], scale) for scale in (1.0, 0.8))
    seen = set()
    for name in first_recipes:
        for turn, config in enumerate((first_recipes[name], then[name])):
            built = load(build_in_process(config, tmp_path / f"{name} {turn}"))
            if missing_head(tmp_path / f"{name} {turn}"):
                with pytest.raises(ModelError, match="lm_head"):
                    merger.merge(Recipe(config))
                seen.add("missing")
                continue
            live = merger.merge(Recipe(config)).module
            assert torch.equal(logits(live), logits(built)), name
            own = not torch.equal(
                built.get_output_embeddings().weight, built.get_input_embeddings().weight
            )
            seen.add("own" if own else "tied")
    assert "own" in seen
    assert ("missing" in seen) == ((first, second) == ("untied", "tied"))


def missing_head(folder: Path) -> bool:
    """Whether transformers draws a head at random for a built folder."""
    config = load(folder).config
    return not config.tie_word_embeddings and LLAMA[1] not in load_file(
        folder / "model.safetensors"
    )


@pytest.mark.parametrize(
    "method",
    [
        "task_arithmetic",
        pytest.param("dare_ties", marks=pytest.mark.slow),
        pytest.param("linear", marks=pytest.mark.slow),
    ],
)
def test_a_parted_head_is_written_in_place_and_verified_as_it_is(family, tmp_path, method):
    merger = ResidentMerger(merge_seed=SEED)
    for scale in (0.9, 1.0):  # the first load must not decide for the second merge
        config = recipe_config(method, "models", family, scale=scale, dtype="float32")
        live = merger.merge(Recipe(config)).module
        folder = build_in_process(config, tmp_path / f"out_{scale}")
        kept = logits(load(folder))
        assert torch.equal(logits(live), kept)
        built = BuiltModel(folder, EvaluationBlock(), "cpu", torch.get_num_threads())
        assert torch.equal(logits(open_model(built).model), kept)
        # lm-eval by itself ties them.
        theirs = HFLM(pretrained=str(folder), device="cpu", batch_size=1).model
        assert not torch.allclose(logits(theirs), kept)
    assert merger.homes is not None


def test_a_model_that_is_bound_keeps_the_head_that_it_has(family):
    module = load(family[2])
    LiveLanguageModel(ENGINES["transformers"](AutoTokenizer.from_pretrained(family[2]))).bind(
        module
    )
    assert module.get_output_embeddings().weight is not module.get_input_embeddings().weight
