"""Models that mergekit cannot read whole: they are what transformers loads, alone and mixed."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evomerge.foundations.errors import ModelError
from evomerge.genome.model_names import ModelName
from evomerge.merging.mergers import Mergers
from evomerge.merging.resident import ResidentMerger
from evomerge.models.completeness import can_be_merged
from evomerge.models.inspect import read_model
from evomerge.recipe.plain import Recipe
from tests.tiny_models import tiny_model

TOKENS = torch.arange(4, 24).reshape(2, 10)
WEIGHTS = (0.7, 0.3)


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A mixture of experts without a definition of mergekit's, with padded embeddings."""
    folder = tmp_path_factory.mktemp("strange")
    return tiny_model(folder, "qwen2_moe", vocab_size=128, tie_word_embeddings=True)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("known"), "llama")


def copy_of(model):
    return Recipe({"merge_method": "passthrough", "models": [{"model": str(model)}]})


@torch.no_grad()
def logits(folder):
    return AutoModelForCausalLM.from_pretrained(folder)(TOKENS).logits


@torch.no_grad()
def test_alone_it_is_what_transformers_loads(strange, known):
    names = [ModelName(path=str(one)) for one in (strange, known)]
    assert [can_be_merged(read_model(one)) for one in names] == [False, True]
    mergers = Mergers(ResidentMerger)
    for folder in (strange, known, strange):  # each takes the place of the one before
        live = mergers.merge(copy_of(folder))
        assert torch.equal(live.module(TOKENS).logits, logits(folder))
        assert live.module.get_output_embeddings().weight.shape[0] in (96, 128)
    assert mergers.merge(copy_of(strange)).module is live.module
    assert not any(one.requires_grad for one in live.module.parameters())


@torch.no_grad()
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_beside_others_it_answers_and_tokens_that_one_lacks_have_no_probability(
    strange, known, mean
):
    members = [
        {"model": str(m), "weight": w} for m, w in zip((known, strange), WEIGHTS, strict=True)
    ]
    live = Mergers(ResidentMerger).merge(Recipe({"mixture": members, "mean": mean}))
    found = live.module(TOKENS).logits
    few, many = (torch.log_softmax(logits(one).double(), -1) for one in (known, strange))
    few = torch.nn.functional.pad(few, (0, 32), value=-torch.inf)
    if mean == "arithmetic":
        expected = (WEIGHTS[0] * few.exp() + WEIGHTS[1] * many.exp()).log()
    else:
        expected = torch.log_softmax(WEIGHTS[0] * few + WEIGHTS[1] * many, -1)
    assert live.module.config.vocab_size == found.shape[-1] == 128
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert torch.allclose(found.exp().sum(-1), torch.ones(2, 10), atol=1e-5)


def test_one_that_lacks_tensors_is_refused_by_name(strange, tmp_path):
    broken = shutil.copytree(strange, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.layers.1.mlp.shared_expert_gate.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    what = r"the models hold no 'model\.layers\.1\.mlp\.shared_expert_gate\.weight'"
    with pytest.raises(ModelError, match=what):
        Mergers(ResidentMerger).merge(copy_of(broken))
