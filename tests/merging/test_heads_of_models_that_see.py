"""Whether the head of a model that sees is tied: `check` says what loading it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from evomerge.checks.heads import is_tied
from evomerge.genome.model_names import ModelName
from evomerge.models.inspect import read_model
from tests.preflight.variants import check, config, lines, variant
from tests.thinned import thinned
from tests.tiny_vision_models import tiny_vision_model

KEY = "tie_word_embeddings"


@pytest.mark.parametrize("kind", thinned(["mistral3", "qwen3_vl", "gemma3", "qwen2_5_vl", "llava"]))
def test_a_head_is_tied_where_transformers_ties_it(kind: str, tmp_path: Path) -> None:
    whole = tiny_vision_model(tmp_path / "whole", kind, tie_word_embeddings=False)
    text = json.loads((whole / "config.json").read_text())["text_config"]
    for outside, inside in ((None, None), (False, True), (True, False), (None, False)):
        model = variant(whole, tmp_path / f"{outside}-{inside}")
        inner = {**text, KEY: inside}
        if inside is None:
            del inner[KEY]
        config(text_config=inner, **{KEY: outside})(model)
        live = AutoModelForImageTextToText.from_pretrained(model)
        live.tie_weights()  # as lm-eval does after loading
        head, embeddings = live.get_output_embeddings(), live.get_input_embeddings()
        is_live = torch.equal(head.weight, embeddings.weight)
        assert is_tied(read_model(ModelName(path=str(model)))) is is_live, (outside, inside)
        assert ("has a head of its own" in lines(check([model]))) is is_live, (outside, inside)
