"""Models that see read plain text with tokens computed once, as plain rows have them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, GenerationConfig

from evomerge.inference.transformers.sharing import SEEING
from tests.evaluators.tiny_requests import (
    asked,
    assert_same,
    bound,
    prompts,
    questions,
    small_trees,
)
from tests.tiny_vision_models import SETTINGS, tiny_vision_config


@pytest.fixture(autouse=True)
def _small_trees(monkeypatch):
    small_trees(monkeypatch)


# Of gemma3, layers of both kinds.
TEXT = {
    "gemma3": {
        "sliding_window": 8,
        "layer_types": [f"{k}_attention" for k in ("sliding", "full", "sliding")],
    }
}


def build(kind: str) -> Any:
    text = {**SETTINGS[kind]["text_config"], **TEXT.get(kind, {})}
    config = tiny_vision_config(kind, text_config=text)
    found: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    torch.manual_seed(0)
    module = found(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    module.generation_config = GenerationConfig.from_model_config(config)
    return module


@pytest.mark.parametrize("kind", sorted(SEEING))
def test_shared_tokens_give_the_answers_of_plain_rows(kind):
    module = build(kind)
    model, plain = bound(module), bound(module, "reference")
    assert model.engine.shares
    requests = asked("loglikelihood", questions())
    assert_same(model.loglikelihood(requests), plain.loglikelihood(requests))
    settings = {"until": ["e", "ju"], "max_gen_toks": 10}
    written = asked("generate_until", [(prompt, settings) for prompt in prompts()])
    assert model.generate_until(written) == plain.generate_until(written)


def test_language_models_in_others_that_see_are_read_one_by_one():
    module = build("llava")
    module.config.text_config.model_type = "phi"
    assert not bound(module).engine.shares
