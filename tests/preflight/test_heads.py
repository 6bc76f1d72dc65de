"""Configuration and files that disagree on a tied head."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evomerge.foundations.findings import Severity
from tests.preflight.variants import adapter, check, config, in_json, lines, tensors, variant

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SAVED = "base_model.model.{}.weight"
TIED = config(tie_word_embeddings=True)
EQUAL = tensors(lambda held: {**held, HEAD: held[EMBEDDINGS]})
NONE = tensors(lambda held: {name: t for name, t in held.items() if name != HEAD})


def warnings(models, **definition):
    found = lines(check(models, **definition), Severity.WARNING).splitlines()
    return [line for line in found if "has a head of its own" in line or "makes a head" in line]


def test_a_head_beside_a_configuration_that_ties_it_is_told_with_its_file(base, tuned, tmp_path):
    odd = variant(tuned, tmp_path / "odd", TIED)
    (line,) = warnings([base, odd])
    assert (
        f"genome.models[1]: model.safetensors of {odd} has a head of its own ({HEAD}), which "
        "config.json ties to the embeddings: transformers, and so every score here, takes the "
        "head, lm-eval by itself the embeddings. Set tie_word_embeddings: false in its config.json"
    ) in line


def test_a_head_under_a_tied_configuration_is_told_with_whose_configuration_they_take(
    base, tuned, tmp_path
):
    tied = variant(base, tmp_path / "tied", TIED, NONE)
    (line,) = warnings([tied, tuned])
    assert f"model.safetensors of {tuned} has a head of its own ({HEAD}), and" in line
    assert f"and config.json of {tied}, which merges take, ties it" in line


@pytest.mark.parametrize("changes", [(TIED, EQUAL), (TIED, NONE), ()], ids=["equal", "none", "own"])
def test_heads_of_which_nobody_can_doubt_are_no_word(base, tuned, tmp_path, changes):
    models = [variant(m, tmp_path / m.name, *changes) for m in (base, tuned)]
    assert warnings(models) == []


def test_a_type_that_ties_by_default_need_not_say_so(base, tuned, tmp_path):
    gemma = config(tie_word_embeddings=None, model_type="gemma2")
    odd = variant(tuned, tmp_path / "odd", gemma)
    assert len(warnings([base, odd])) == 1
    plain = variant(tuned, tmp_path / "plain", config(tie_word_embeddings=None))
    assert warnings([base, plain]) == []


@pytest.mark.parametrize(
    ("replaced", "settings", "told"),
    [
        ([EMBEDDINGS], {}, True),
        ([HEAD], {}, True),
        ([EMBEDDINGS, HEAD], {}, True),
        ([EMBEDDINGS], {"ensure_weight_tying": True}, False),
        ([], {}, False),
    ],
)
def test_an_adapter_that_parts_a_tied_head_is_told(base, tuned, tmp_path, replaced, settings, told):
    tied = variant(base, tmp_path / "tied", TIED, NONE)
    modules = [name.split(".")[-2] for name in replaced] or None
    lora = adapter(tmp_path / "lora", modules_to_save=modules, **settings)
    file = lora / "adapter_model.safetensors"
    random = np.random.default_rng(0)
    names = [SAVED.format(name.removesuffix(".weight")) for name in replaced]
    saved = {name: random.random((96, 32), "f4") for name in names}
    save_file({**load_file(file), **saved}, file)
    found = warnings([tied, f"{tied}+{lora}"])
    assert len(found) == told
    if told:
        assert f"adapter_model.safetensors of {lora} makes a head of its own" in found[0]
        assert f"(it trains {', '.join(modules or [])})" in found[0]
    in_json("adapter_config.json", modules_to_save=None)(lora)
    assert warnings([tied, f"{tied}+{lora}"]) == []


def test_an_adapter_that_replaces_both_by_the_same_leaves_them_tied(base, tmp_path):
    tied = variant(base, tmp_path / "tied", TIED, NONE)
    lora = adapter(tmp_path / "lora", modules_to_save=["embed_tokens", "lm_head"])
    rows = np.ones((96, 32), "f4")
    names = [SAVED.format(n.removesuffix(".weight")) for n in (EMBEDDINGS, HEAD)]
    save_file(dict.fromkeys(names, rows), lora / "adapter_model.safetensors")
    assert warnings([tied, f"{tied}+{lora}"]) == []
