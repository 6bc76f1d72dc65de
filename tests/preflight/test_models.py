"""Situations of models that files can show: each is provoked, and its sentence matched."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evomerge.checks.context import CheckContext
from evomerge.checks.fitting_models import own_depths
from evomerge.checks.single_models import known_architecture
from evomerge.checks.tensor_names import complete
from evomerge.foundations.findings import Severity
from evomerge.foundations.permissions import Permissions
from evomerge.genome.schema import Genome
from evomerge.models.facts import ModelFacts, TensorFacts
from evomerge.models.families import family_of
from tests.preflight.variants import (
    Change,
    adapter,
    card,
    check,
    config,
    in_json,
    lines,
    removed,
    tensors,
    token,
    variant,
    without,
    written,
)
from tests.tiny_models import tiny_model

NORM = "model.norm.weight"
UP = "model.layers.1.mlp.up_proj.weight"


def pickled(folder: Path) -> None:
    """Keeps the weights in a pickle file only."""
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_off(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(20_000)


def sharded_without_the_second(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    places = {NORM: "model-00001-of-00002.safetensors", UP: "model-00002-of-00002.safetensors"}
    index = {"weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def renamed(held: dict) -> dict:
    return {n.replace("model.", "model.language_model.", 1): t for n, t in held.items()}


def slow_only(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"pieces")


def more_rows(n_rows: int) -> Change:
    """Embeddings and head of so many rows."""

    def grown(held: dict) -> dict:
        rows = {"model.embed_tokens.weight", "lm_head.weight"}
        return {n: np.zeros((n_rows, 32), "f4") if n in rows else t for n, t in held.items()}

    return lambda folder: (tensors(grown)(folder), config(vocab_size=n_rows)(folder))


def half_norms(held: dict) -> dict:
    noise = np.random.default_rng(0).normal(size=(5, 32)).astype("f4")
    names = [name for name in held if "norm" in name]
    return {**held, **dict(zip(names, noise, strict=True))}


# Situation of users.md, or a name -> changes of the second model, what is said, how badly.
SITUATIONS = {
    "3 depth": ([config(num_hidden_layers=3)], "has 3 layers, expected 2 as", "error"),
    "4 width": (
        [
            config(intermediate_size=80),
            tensors(lambda held: {**held, UP: np.zeros((80, 32), "f4")}),
        ],
        r"1 tensors of .* have other shapes .*\(intermediate_size 80, expected 64\): "
        r"model\.layers\.1\.mlp\.up_proj\.weight \[80, 32\], expected \[64, 32\]",
        "error",
    ),
    "4 heads": (
        [config(num_attention_heads=8)],
        "have the shapes of .* and another meaning \\(num_attention_heads 8, expected 4\\)",
        "error",
    ),
    "5 architecture": (
        [config(architectures=["MistralForCausalLM"], model_type="mistral")],
        "has architecture MistralForCausalLM, expected LlamaForCausalLM as",
        "error",
    ),
    "5 several parts": (
        [config(architectures=["Qwen2VLForConditionalGeneration"], model_type="qwen2_vl")],
        r"looks for num_hidden_layers of Qwen2VLForConditionalGeneration outside of text_config",
        "error",
    ),
    "6 ancestor by norms": (
        [tensors(half_norms)],
        r"does not look like a relative of .*: their norms correlate by -?0\.\d\d",
        "warning",
    ),
    "9 rows": (
        [more_rows(104)],
        "has vocab_size 104, expected 96 as .*or union",
        "error",
    ),
    "9 ids": (
        [token(50, "<tool>")],
        "has 1 token not as in .*, first '<tool>': id 50, expected None",
        "error",
    ),
    "11 ids without rows": (
        [token(96, "<far>")],
        "has 1 added token without a row in its 96 embeddings: <far>",
        "warning",
    ),
    "11 clash": (
        [token(3, "<tool>")],
        "has 1 added token with an id of another meaning .*: 3 is '<tool>', in .* '<pad>'",
        "warning",
    ),
    "13 special tokens": (
        [in_json("tokenizer_config.json", eos_token="<pad>")],
        "has other special tokens: eos_token '<pad>', in .* '</s>'",
        "warning",
    ),
    "13 stop tokens": (
        [in_json("generation_config.json", eos_token_id=[2, 3])],
        r"has other special tokens: eos_token_id \[2, 3\], in .* 2",
        "warning",
    ),
    "13 chat template": (
        [written("chat_template.jinja", "{{ messages }}")],
        "has a chat template, .*, whose tokenizer the merge takes, has none",
        "warning",
    ),
    "14 positions": (
        [config(rope_parameters={"rope_theta": 1e6, "rope_type": "default"})],
        "to see positions in another way: rope_theta 1000000.0, in .* 10000.0",
        "warning",
    ),
    "14 context": (
        [config(max_position_embeddings=512)],
        "another way: max_position_embeddings 512, in .* 256",
        "warning",
    ),
    "15 tied head": (
        [without("lm_head"), config(tie_word_embeddings=True)],
        "the head of .* is tied to its embeddings, .* has one of its own",
        "warning",
    ),
    "15 lost head": (
        [without("lm_head")],
        "has no tensor for its head although tie_word_embeddings is false",
        "warning",
    ),
    "16 missing": ([without(UP)], f"lacks 1 tensor that LlamaForCausalLM needs: {UP}", "error"),
    "16 extra": (
        [tensors(lambda held: {**held, "score.weight": np.zeros((2, 32), "f4")})],
        "mergekit knows no tensors score.weight in LlamaForCausalLM and would leave them out",
        "error",
    ),
    "17 prefix": (
        [tensors(renamed)],
        r"tensor names of .* begin with 'model\.language_model\.', expected 'model\.'",
        "error",
    ),
    "18 misspelt": (
        [config(architectures=["LamaForCausalLM"])],
        "no definition of architecture LamaForCausalLM; did you mean 'LlamaForCausalLM'",
        "error",
    ),
    "18 unknown": (
        [config(architectures=["Zebra"])],
        "no definition of architecture Zebra; its tensor names show 2 layers and 3 tensors outside",
        "error",
    ),
    "18 none": ([config(architectures=None)], "names architectures None, expected one", "error"),
    "19 quantised": (
        [config(quantization_config={"quant_method": "awq"})],
        r"is quantised \(awq\), expected weights in bfloat16",
        "error",
    ),
    "19 gguf": (
        [removed("config.json"), written("model.gguf", "")],
        "no config.json; it holds a quantised GGUF file",
        "error",
    ),
    "20 diffusers": (
        [removed("config.json"), written("model_index.json", "{}")],
        "no transformers checkpoint: it has no config.json; it is a diffusers pipeline",
        "error",
    ),
    "20 no weights": ([removed("model.safetensors")], "has no weights, expected model", "error"),
    "21 pickle": (
        [pickled],
        r"in pickle files only \(pytorch_model.bin\), .* allow it with --allow-pickle",
        "error",
    ),
    "own code": (
        [config(auto_map={"AutoConfig": "code.Config"}, model_type="zebra")],
        r"needs Python code of its own \(auto_map\): transformers has no model type 'zebra'",
        "error",
    ),
    "unknown type": (
        [config(model_type="lama")],
        "has model type 'lama', which this transformers does not know; did you mean 'llama'",
        "error",
    ),
    "20 gguf beside config.json": (
        [removed("model.safetensors"), written("model-Q4.gguf", "")],
        "has no weights, but a quantised GGUF file, expected model.safetensors",
        "error",
    ),
    "missing shard": (
        [sharded_without_the_second],
        "1 of the weight files .* are not there: model-00002-of-00002.safetensors",
        "error",
    ),
    "truncated": (
        [cut_off],
        r"model.safetensors of .* is broken: it has 20000 bytes, expected \d+",
        "error",
    ),
    "no safetensors": (
        [written("model.safetensors", "version https://git-lfs.github.com/spec/v1")],
        "model.safetensors of .* is broken: it is no safetensors file",
        "error",
    ),
    "config is no JSON": ([written("config.json", "{")], "config.json of .* is not JSON", "error"),
    "tokenizer is broken": (
        [written("tokenizer.json", "{}")],
        "tokenizer.json of .* is broken: it cannot be read",
        "error",
    ),
    "41 licence": (
        [card(license="cc-by-nc-4.0")],
        "licence cc-by-nc-4.0 of .* allows no commercial use, and binds the merged model",
        "note",
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_situation_is_said_in_one_sentence(situation, base, tuned, tmp_path):
    changes, message, severity = SITUATIONS[situation]
    other = variant(tuned, tmp_path / "other", *changes)
    found = lines(check([base, other]), Severity(severity))
    where = r"genome\.models(\[1\])?"
    assert re.search(rf"^{severity}: {where}: .*{message}", found, re.M), found


def test_models_that_fit_give_no_finding(base, tuned):
    assert lines(check([base, tuned])) == ""


def test_every_problem_of_every_model_is_found_at_once(base, tuned, tmp_path):
    names = ("3 depth", "14 positions", "16 extra", "truncated")
    others = [variant(tuned, tmp_path / str(i), *SITUATIONS[n][0]) for i, n in enumerate(names)]
    found = lines(check([base, *others, tmp_path / "missing"]))
    for name in names:
        assert re.search(SITUATIONS[name][1], found), found
    assert f"genome.models[5]: there is no folder {tmp_path / 'missing'}" in found


def test_the_base_is_what_others_are_held_against(base, tuned, tmp_path):
    deep = variant(tuned, tmp_path / "deep", config(num_hidden_layers=3))
    found = lines(check([deep, base], base_model=str(base)))
    assert f"genome.models[0]: {deep} has 3 layers, expected 2 as {base}" in found


def test_a_pickle_that_is_allowed_by_name_is_looked_into(tuned, base, tmp_path):
    other = variant(tuned, tmp_path / "other", pickled)
    found = check([base, other], permissions=Permissions(pickle=frozenset({str(other)})))
    assert lines(found, Severity.ERROR) == ""
    assert "they are read slowly" in lines(found, Severity.WARNING)


def test_own_code_is_allowed_by_the_user_only(base, tuned, tmp_path):
    change = config(auto_map={"AutoConfig": "code.Config"}, model_type="zebra")
    other = variant(tuned, tmp_path / "other", change)
    assert "needs Python code" in lines(check([base, other]))
    allowed = check([base, other], permissions=Permissions(trust_remote_code=True))
    assert "needs Python code" not in lines(allowed)


def test_code_that_transformers_replaces_by_its_own_is_no_matter(base, tuned, tmp_path):
    other = variant(tuned, tmp_path / "other", config(auto_map={"AutoConfig": "code.Config"}))
    assert lines(check([base, other])) == ""


def test_neox_files_without_the_old_buffers_are_refused_with_the_reason(tmp_path):
    model = tiny_model(tmp_path / "neox", "gpt_neox")
    assert lines(check([model])) == ""
    without(".attention.bias", ".masked_bias", ".inv_freq")(model)
    found = lines(check([model]))
    assert "which transformers 5 no longer writes and mergekit still needs" in found


def test_a_misspelt_folder_is_told_its_nearest_name(base):
    found = lines(check([base.with_name("bases")]))
    assert "; did you mean 'base'?" in found


def test_a_folder_with_a_plus_in_its_name_is_told_how_to_write_it(base, tmp_path):
    folder = variant(base, tmp_path / "a+b")
    found = lines(check([str(folder)]))
    assert f"write {{model: {{path: {folder}}}}}" in found
    assert lines(check([{"model": {"path": str(folder)}}])) == ""


def test_an_ancestor_is_asked_from_the_cards_where_values_say_nothing(base, tuned, tmp_path):
    def flat(held: dict) -> dict:
        return {n: np.ones_like(t) if "norm" in n else t for n, t in held.items()}

    one = variant(base, tmp_path / "one", tensors(flat), card(base_model="org/one"))
    two = variant(tuned, tmp_path / "two", tensors(flat), card(base_model=["org/two"]))
    same = variant(tuned, tmp_path / "same", tensors(flat), card(base_model="other/One"))
    assert "says that it was made from two, expected" in lines(check([one, two]))
    assert lines(check([one, same])) == ""


def test_the_strictest_of_several_licences_is_a_warning(base, tuned, tmp_path):
    one = variant(base, tmp_path / "one", card(license="apache-2.0"))
    two = variant(tuned, tmp_path / "two", card(license="other", license_name="llama3"))
    found = lines(check([one, two]), Severity.WARNING)
    assert re.search(r"the licence other \(llama3\) of .* has terms of its own", found)
    assert "apache-2.0" in found


def test_a_card_that_is_no_yaml_is_no_reason_to_stop(base, tuned, tmp_path):
    other = variant(tuned, tmp_path / "other", written("README.md", "---\n{\n---\n"))
    assert lines(check([base, other])) == ""


def test_rows_that_differ_are_told_whose_vocabulary_to_take_with_a_base_and_without(
    base, tuned, tmp_path
):
    padded = variant(tuned, tmp_path / "padded", more_rows(104))
    found = lines(check([base, padded]))
    assert f"Set tokenizer_source: {base} (its vocabulary) or union (all tokens)." in found
    assert "base's" not in found
    found = lines(check([padded, base], base_model=str(base)), Severity.ERROR)
    assert "Set tokenizer_source: base (the base's vocabulary) or union (all tokens)." in found


@pytest.mark.parametrize("key", ["num_local_experts", "num_experts"])
def test_a_hybrid_without_experts_is_refused_for_mergekits_definition(key):
    settings = {"architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid"}
    whole = ModelFacts(
        name="m", key="genome.models[0]", config={**settings, "num_hidden_layers": 2}
    )
    family = family_of(whole)
    assert family is not None
    held = {
        w.name: TensorFacts((1,), "F32", 4)
        for w in family.weights(2)
        if "block_sparse_moe" not in w.name
    }
    dense = replace(whole, tensors=held, config={**whole.config, key: 0})
    (line,) = map(str, complete(context_of(dense)))
    assert f"mergekit's definition of {settings['architectures'][0]} has experts in every" in line
    assert f"does not know {key}: 0, as config.json of m has it: 6 tensors" in line
    assert "these files are whole" in line
    torn = {name: t for name, t in held.items() if "norm" not in name}
    (line,) = map(str, complete(context_of(replace(dense, tensors=torn))))
    assert "lacks" in line  # something else is missing, too


def test_a_model_that_sees_is_no_mistake():
    settings = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "text_config": {"num_hidden_layers": 2},
    }
    names = [f"model.layers.{i}.a" for i in range(2)]
    names += [f"visual.blocks.{i}.b" for i in range(4)]
    names += [f"visual.merger.mlp.{i}.c" for i in (0, 2)]
    tensors = {name: TensorFacts((9,), "F32", 36) for name in names}
    model = ModelFacts(name="vl", key="genome.models[0]", config=settings, tensors=tensors)
    assert not [f for rule in (known_architecture, own_depths) for f in rule(context_of(model))]


def test_a_model_that_reads_and_another_part_that_writes_is_refused_once():
    settings = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}
    model = ModelFacts(name="t5", key="genome.models[0]", config=settings)
    found = [str(f) for rule in (known_architecture, own_depths) for f in rule(context_of(model))]
    assert len(found) == 1
    assert "has several parts (decoder, encoder, shared), none of which is a" in found[0]


def context_of(model: ModelFacts) -> CheckContext:
    genome = {"models": [model.name], "merge_method": "passthrough"}
    block = Genome.model_validate({"genome": genome, "tasks": ["any"]})
    return CheckContext(block, models=(model,))


def test_one_folder_under_several_names_is_told_with_its_keys(base, tuned, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(base)
    dotted = base.parent / ".." / base.parent.name / base.name
    found = lines(check([base, link, tuned, dotted, f"{base}+{adapter(tmp_path / 'lora')}"]))
    for name, key in ((link, 1), (dotted, 3)):
        assert (
            f"genome.models[{key}]: {name} is the same folder as {base} (genome.models[0])" in found
        )
    assert found.count("is the same folder as") == 2
