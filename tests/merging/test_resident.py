"""What the resident merger promises beyond single recipes: state, sources, failures."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mergekit.io.tasks import LoaderCache
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.foundations.errors import LostFileError, MergeError, ModelError
from evomerge.merging.built_files import Outputs
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED, assert_equals_folder, build_in_process
from tests.tiny_models import tiny_family, tiny_model


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return tiny_family(tmp_path_factory.mktemp("family"))


@pytest.fixture
def merger() -> ResidentMerger:
    return ResidentMerger(merge_seed=SEED)


def linear(models: list[Path], *weights: float, **rest: Any) -> Recipe:
    return Recipe(
        {
            "merge_method": "linear",
            "models": [
                {"model": str(m), "parameters": {"weight": w}}
                for m, w in zip(models, weights, strict=True)
            ],
            "dtype": "float32",
            **rest,
        }
    )


def dare(family: list[Path], weight: float = 0.5, **rest: Any) -> Recipe:
    base, *models = family
    return Recipe(
        {
            "merge_method": "dare_linear",
            "base_model": str(base),
            "models": [
                {"model": str(m), "parameters": {"weight": weight, "density": 0.5}} for m in models
            ],
            "dtype": "float32",
            **rest,
        }
    )


def parent(model: Path) -> Recipe:
    return Recipe({"merge_method": "passthrough", "models": [{"model": str(model)}]})


def weights(merger: ResidentMerger, recipe: Recipe) -> dict[str, torch.Tensor]:
    state = merger.merge(recipe).module.state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def test_a_merge_leaves_nothing_behind_for_the_next(
    family: list[Path], merger: ResidentMerger
) -> None:
    first, second = linear(family, 0.2, 0.5, 0.3), dare(family)
    fresh = {r: weights(ResidentMerger(merge_seed=SEED), r) for r in (first, second)}
    for recipe in (first, second, first, parent(family[1]), second, first):
        merged = weights(merger, recipe)
        if recipe in fresh:
            assert_same(merged, fresh[recipe])


def test_the_live_model_is_overwritten_in_place(family: list[Path], merger: ResidentMerger) -> None:
    first = merger.merge(linear(family, 0.2, 0.5, 0.3))
    embedding = first.module.get_input_embeddings().weight
    second = merger.merge(linear(family, 0.6, 0.1, 0.3))
    assert second.module is first.module
    assert second.module.get_input_embeddings().weight is embedding
    assert second.tokenizer is first.tokenizer


def test_baselines_use_the_same_live_model_and_tokenizer(
    family: list[Path], merger: ResidentMerger
) -> None:
    baseline = merger.merge(Recipe({**parent(family[1]).config, "dtype": "float32"}))
    search = merger.merge(linear(family, 0.2, 0.5, 0.3))
    assert search.module is baseline.module
    assert search.tokenizer is baseline.tokenizer


def test_a_parent_is_the_model_itself_and_stays_unchanged(
    family: list[Path], merger: ResidentMerger
) -> None:
    own = load_file(family[1] / "model.safetensors")
    assert_same(weights(merger, parent(family[1])), own)
    weights(merger, linear(family, 0.2, 0.5, 0.3))
    assert_same(weights(merger, parent(family[1])), own)


def test_source_files_are_not_changed(family: list[Path], merger: ResidentMerger) -> None:
    def digests() -> list[str]:
        files = sorted(p for folder in family for p in folder.iterdir())
        return [hashlib.sha256(p.read_bytes()).hexdigest() for p in files]

    before = digests()
    for recipe in (parent(family[1]), linear(family, 0.2, 0.5, 0.3), dare(family)):
        merger.merge(recipe)
    assert digests() == before


def test_a_recipe_is_not_changed(family: list[Path], merger: ResidentMerger) -> None:
    recipe = dare(family)
    before = json.dumps(recipe.config)
    merger.merge(recipe)
    assert json.dumps(recipe.config) == before


def test_randomised_merges_repeat_at_one_seed_and_differ_at_another(family: list[Path]) -> None:
    merger, other = ResidentMerger(merge_seed=1), ResidentMerger(merge_seed=2)
    first = weights(merger, dare(family))
    merger.merge(linear(family, 0.2, 0.5, 0.3))
    assert_same(weights(merger, dare(family)), first)
    name = "model.embed_tokens.weight"
    assert not torch.equal(weights(other, dare(family))[name], first[name])


def test_the_global_random_state_is_left_alone(family: list[Path], merger: ResidentMerger) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    merger.merge(dare(family))
    merger.merge(dare(family, 0.4))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_dtype_of_the_live_model_may_be_chosen(family: list[Path], tmp_path: Path) -> None:
    recipe = linear(family, 0.2, 0.5, 0.3)
    live = ResidentMerger(dtype="bfloat16").merge(recipe)
    assert live.module.dtype == torch.bfloat16
    built = load_file(build_in_process(recipe.config, tmp_path) / "model.safetensors")
    rounded = {name: tensor.bfloat16() for name, tensor in built.items()}
    assert_same(dict(live.module.state_dict()), rounded)


def test_layers_may_be_stacked_to_another_depth(
    family: list[Path], merger: ResidentMerger, tmp_path: Path
) -> None:
    merger.merge(parent(family[1]))
    stacked = [(family[1], 0, 2), (family[2], 1, 2), (family[1], 1, 2)]
    config = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": str(m), "layer_range": [a, b]}]} for m, a, b in stacked],
        "base_model": str(family[1]),
        "dtype": "float32",
    }
    live = merger.merge(Recipe(config))
    assert live.module.config.num_hidden_layers == 4
    assert_equals_folder(live, build_in_process(config, tmp_path))


def test_a_lora_source_is_folded_as_mergekit_folds_it(
    family: list[Path], merger: ResidentMerger, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    model = AutoModelForCausalLM.from_pretrained(family[0])
    torch.manual_seed(0)
    tuned = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    )
    tuned.save_pretrained(adapter)
    config = dare(family).config
    config["models"][0]["model"] = f"{family[0]}+{adapter}"
    live = merger.merge(Recipe(config))
    # Folding draws from mergekit's random stream; a second build finds the folded model.
    for out in (tmp_path / "folding", tmp_path / "folded"):
        build_in_process(config, out, lora_cache=tmp_path / "cache")
    assert_equals_folder(live, tmp_path / "folded")


@pytest.mark.parametrize("policy", ["union", "base"])
def test_differing_vocabularies_are_aligned_as_in_the_build(
    family: list[Path], merger: ResidentMerger, tmp_path: Path, policy: str
) -> None:
    wider = tiny_model(
        tmp_path / "wider", seed=5, base=family[0], extra_tokens=["<tool>", "<think>"]
    )
    config = dare([family[0], family[1], wider], tokenizer={"source": policy}).config
    live = merger.merge(Recipe(config))
    out = build_in_process(config, tmp_path / "out")
    assert_equals_folder(live, out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert live.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert len(live.tokenizer) == (98 if policy == "union" else 96)


def test_a_chat_template_reaches_the_live_tokenizer(
    family: list[Path], merger: ResidentMerger, tmp_path: Path
) -> None:
    config = linear(family, 0.2, 0.5, 0.3, chat_template="chatml").config
    live = merger.merge(Recipe(config))
    built = AutoTokenizer.from_pretrained(build_in_process(config, tmp_path))
    assert "<|im_start|>" in str(live.tokenizer.chat_template)
    assert live.tokenizer.chat_template == built.chat_template
    assert merger.merge(linear(family, 0.2, 0.5, 0.3)).tokenizer is not live.tokenizer


@pytest.mark.parametrize("weight", [0.5, [{"filter": "lm_head", "value": 0.9}, {"value": 0.2}]])
def test_a_head_tied_in_one_source_only_is_written_as_in_the_build(
    tmp_path: Path, merger: ResidentMerger, weight: Any
) -> None:
    base, one, two = tiny_family(tmp_path, tie_word_embeddings=True)
    untied = load_file(two / "model.safetensors")
    untied["lm_head.weight"] = untied["model.embed_tokens.weight"] + 0.1
    save_file(untied, two / "model.safetensors", metadata={"format": "pt"})
    for value in (0.5, weight):  # the first load must not decide for the second merge
        config = dare([base, one, two]).config
        config["models"][1]["parameters"]["weight"] = value
        live = merger.merge(Recipe(config))
        assert_equals_folder(live, build_in_process(config, tmp_path / f"out_{value == weight}"))


def test_an_equal_head_of_its_own_stays_writable_apart(
    tmp_path: Path, merger: ResidentMerger
) -> None:
    base, one, two = tiny_family(tmp_path, tie_word_embeddings=True)
    for folder in (base, one, two):
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    merger.merge(linear([base, one], 0.5, 0.5))
    apart = linear([base, one], 0.5, 0.5).config
    apart["models"][0]["parameters"]["weight"] = [
        {"filter": "lm_head", "value": 0.1},
        {"value": 0.5},
    ]
    live = merger.merge(Recipe(apart))
    assert_equals_folder(live, build_in_process(apart, tmp_path / "out"))


def test_a_source_with_nan_is_refused_by_tensor_name(
    family: list[Path], merger: ResidentMerger, tmp_path: Path
) -> None:
    broken = tiny_model(tmp_path / "broken", base=family[0], seed=9)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    recipe = linear([family[0], broken], 0.5, 0.5)
    for _ in range(2):
        told = rf"^model\.norm\.weight: .*not finite: NaN or infinity stands there in {broken}\."
        with pytest.raises(MergeError, match=told):
            merger.merge(recipe)


def test_weights_that_sum_to_nothing_are_refused_and_the_next_merge_is_whole(
    family: list[Path], merger: ResidentMerger
) -> None:
    good = linear(family[1:], 0.5, 0.5)
    expected = weights(merger, good)
    with pytest.raises(MergeError, match="not finite"):
        merger.merge(linear(family[1:], 0.5, -0.5))
    assert_same(weights(merger, good), expected)


def test_what_mergekit_refuses_is_one_sentence_with_its_cause(
    family: list[Path], merger: ResidentMerger
) -> None:
    recipe = linear(family[1:], 0.5, 0.5)
    recipe.config["models"][0]["parameters"].clear()  # type: ignore[attr-defined]  # a dict
    with pytest.raises(MergeError, match="Missing required parameter weight") as caught:
        merger.merge(recipe)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        RuntimeError("Disk quota exceeded (os error 122)"),
        Exception("No space left on device (os error 28)"),
    ],
)
def test_a_full_temporary_folder_is_no_missing_model(
    family: list[Path], merger: ResidentMerger, full: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        raise full

    monkeypatch.setattr(Outputs, "write", write)
    with pytest.raises(LostFileError, match="there is no room in ") as told:
        merger.merge(linear(family, 1.0, 1.0, 1.0))
    assert "TMPDIR" in str(told.value)
    assert "files back" not in str(told.value)


def test_a_model_without_tensors_it_needs_is_refused(
    merger: ResidentMerger, tmp_path: Path
) -> None:
    model = tiny_model(tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    del tensors["lm_head.weight"]  # untied by its configuration
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no 'lm_head\.weight'"):
        merger.merge(parent(model))


def test_a_model_rewritten_in_place_is_read_anew_by_a_new_merger(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", seed=1)
    weights(ResidentMerger(), parent(model))
    assert LoaderCache().loaders
    (model / "model.safetensors").unlink()
    tiny_model(model, seed=2)
    assert_same(weights(ResidentMerger(), parent(model)), load_file(model / "model.safetensors"))
