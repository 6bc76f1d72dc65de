"""Weights of parts of models that see: trained as those of any model, and no other part moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evomerge.genome.merge_block import MergeDefinition
from evomerge.merge_spaces import merge_space_for
from evomerge.merging.resident import ResidentMerger
from evomerge.models.inspect import read_model
from evomerge.models.shared_layers import describe
from evomerge.training.coefficients import Coefficients
from evomerge.training.mixture import Mixture
from tests.tiny_vision_models import tiny_vision_family
from tests.training.test_mixture import gradient_at, slopes
from tests.training.tiny_mixtures import somewhere

METHODS = {
    "tensors": {"merge_method": "task_arithmetic", "granularity": "tensor"},
    "arithmetic": {"merge_method": "task_arithmetic", "granularity": "layer"},
    "shares": {"merge_method": "linear", "granularity": "layer"},
}
PARTS = {
    "qwen2_5_vl": ({"text_decoder": {}}, {"text_decoder": {}, "vision_tower": {}}),
    "llava": ({"model.language_model.layers": {}, "default": {}},),
}


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    return {kind: tiny_vision_family(tmp_path_factory.mktemp(kind), kind) for kind in PARTS}


def mixture_of(folders, modules, **fields):
    base, *models = map(str, folders)
    block = {"models": models, "base_model": base, "modules": modules, **fields}
    if fields["merge_method"] == "linear":
        block["models"] = [base, *models]
    definition = MergeDefinition.model_validate(block)
    names = [source.model for source in definition.models]
    architecture = describe([read_model(name, "genome.models") for name in names])
    space = merge_space_for(definition)(definition, architecture, "float32")
    return space, Mixture(ResidentMerger(cache_bytes=0), Coefficients(space.learnable()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("kind", "modules"), [(kind, modules) for kind, given in PARTS.items() for modules in given]
)
def test_gradients_are_the_slopes_of_the_loss_of_merged_models(families, kind, modules, method):
    space, mixture = mixture_of(families[kind], modules, **METHODS[method])
    values = somewhere(mixture)
    genotype = mixture.coefficients.genotype(values)
    assert len(genotype) == space.space.n_dims
    np.testing.assert_allclose(mixture.coefficients.of(genotype), values, atol=1e-12)
    held = {k: v.clone() for k, v in mixture.at(values).module.state_dict().items()}
    merged = ResidentMerger(cache_bytes=0).merge(space.recipe(space.space.decode(genotype)))
    for name, tensor in merged.module.state_dict().items():
        torch.testing.assert_close(held[name], tensor, rtol=0, atol=1e-6)
    found = gradient_at(mixture, values)
    np.testing.assert_allclose(found, slopes(mixture, values), rtol=2e-2, atol=1e-3)
    assert np.count_nonzero(found) >= 6  # the language part's; no text reaches the others
