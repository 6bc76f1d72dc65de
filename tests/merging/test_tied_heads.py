"""A head that the configuration ties and the files do not: scored as lm-eval scores the build."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.inference import ENGINES
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED, build_in_process, load
from tests.merging.layouts import recipe_config
from tests.tiny_models import tiny_family

TOKENS = torch.arange(4, 24)[None]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt_neox"])
def family(request, tmp_path_factory) -> list[Path]:
    """Models whose configurations tie their heads; the last one holds another head all the same."""
    folders = tiny_family(
        tmp_path_factory.mktemp("family"), request.param, tie_word_embeddings=True
    )
    file = folders[2] / "model.safetensors"
    held = load_file(file)
    names = {"gpt_neox": ("gpt_neox.embed_in.weight", "embed_out.weight")}
    embeddings, head = names.get(request.param, ("model.embed_tokens.weight", "lm_head.weight"))
    held[head] = held[embeddings].flip(0).contiguous()
    save_file(held, file, {"format": "pt"})
    return folders


@pytest.mark.parametrize(
    "method",
    [
        "task_arithmetic",
        pytest.param("dare_ties", marks=pytest.mark.slow),
        pytest.param("linear", marks=pytest.mark.slow),
    ],
)
def test_scores_are_those_of_lm_eval_on_the_built_folder(family, tmp_path, method):
    merger = ResidentMerger(merge_seed=SEED, ties=True)
    plain = ResidentMerger(merge_seed=SEED)
    for scale in (0.9, 1.0):  # the first load must not decide for the second merge
        config = recipe_config(method, "models", family, scale=scale, dtype="float32")
        live = merger.merge(Recipe(config)).module
        built = build_in_process(config, tmp_path / f"out_{scale}")
        theirs = HFLM(pretrained=str(built), device="cpu", batch_size=1).model
        head, embeddings = live.get_output_embeddings(), live.get_input_embeddings()
        assert head.weight is embeddings.weight
        with torch.no_grad():
            assert torch.equal(live(TOKENS).logits, theirs(TOKENS).logits)
            # transformers alone keeps the head, and so does a merger that is not to tie.
            kept = load(built)(TOKENS).logits
            assert torch.equal(plain.merge(Recipe(config)).module(TOKENS).logits, kept)
            assert not torch.allclose(kept, live(TOKENS).logits)
    assert merger.homes is not None  # written in place


def test_a_model_that_is_bound_is_tied_as_lm_eval_ties_it(family):
    module = load(family[2])
    assert module.get_output_embeddings().weight is not module.get_input_embeddings().weight
    LiveLanguageModel(ENGINES["transformers"](AutoTokenizer.from_pretrained(family[2]))).bind(
        module
    )
    assert module.get_output_embeddings().weight is module.get_input_embeddings().weight
