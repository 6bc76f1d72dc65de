"""Whatever model files hold, a check ends in findings, never in a traceback."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.foundations.errors import ModelError
from evomerge.genome.model_names import ModelName
from evomerge.models.headers import BrokenFileError, read_header
from evomerge.models.inspect import read_model
from evomerge.models.repository import Folder
from evomerge.models.vocabulary import load_tokenizer
from tests.preflight.variants import adapter, check, in_json, variant
from tests.thinned import thinned

VALUES = [True, -1, 10**40, 0, 1.5, "x", "", [], [1, "x"], [[]], {}, {"x": []}, [None]]
KEYS = {
    "config.json": [
        *("architectures", "model_type", "num_hidden_layers", "vocab_size", "head_dim"),
        *("rope_scaling", "rope_parameters", "rope_theta", "sliding_window", "text_config"),
        *("quantization_config", "auto_map", "tie_word_embeddings", "dtype", "eos_token_id"),
    ],
    "generation_config.json": ["eos_token_id", "pad_token_id"],
    "tokenizer_config.json": ["eos_token", "chat_template", "added_tokens_decoder", "auto_map"],
    "tokenizer.json": ["model", "added_tokens"],
    "special_tokens_map.json": ["eos_token"],
    "model.safetensors.index.json": ["weight_map"],
    "added_tokens.json": ["<tool>"],
    "chat_template.json": ["chat_template"],
}


PLACES = [(file, key) for file, keys in KEYS.items() for key in keys]


@pytest.mark.parametrize(("file", "key"), thinned(PLACES))
def test_a_strange_value_ends_in_findings(file, key, base, tuned, tmp_path):
    other = variant(tuned, tmp_path / "other")
    kept = (other / file).read_text() if (other / file).exists() else "{}"
    for index, value in enumerate(VALUES, PLACES.index((file, key))):
        (other / file).write_text(kept)
        in_json(file, **{key: value})(other)
        if index % 2:
            check([base, other])
        else:
            check([other, base], tokenizer_source="union")


@pytest.mark.parametrize(
    ("file", "key"), [(f, key) for f in ("config.json", "tokenizer_config.json") for key in KEYS[f]]
)
def test_a_tokenizer_with_a_strange_value_is_loaded_or_refused(file, key, tuned, tmp_path):
    other = variant(tuned, tmp_path / "other")
    for value in VALUES:
        in_json(file, **{key: value})(other)
        with contextlib.suppress(ModelError):
            load_tokenizer(read_model(ModelName(path=str(other))))


@pytest.mark.parametrize("text", ["", "[", "[]", "1", "null", "[" * 100_000, "\0"])
@pytest.mark.parametrize("file", KEYS)
def test_a_file_that_is_no_json_object_ends_in_findings(file, text, base, tuned, tmp_path):
    other = variant(tuned, tmp_path / "other")
    (other / file).write_text(text)
    check([base, other])


@pytest.mark.parametrize("key", ["peft_type", "target_modules", "r", "base_model_name_or_path"])
def test_a_strange_adapter_ends_in_findings(key, base, tuned, tmp_path):
    for index, value in enumerate(VALUES):
        lora = adapter(tmp_path / str(index), **{key: value})
        check([tuned, f"{base}+{lora}"])


@pytest.mark.parametrize("card", ["license: [a]", "license: {a: 1}", "base_model: [1]", "- a", "["])
def test_a_strange_card_ends_in_findings(card, base, tuned, tmp_path):
    other = variant(tuned, tmp_path / "other")
    (other / "README.md").write_text(f"---\n{card}\n---\n")
    check([base, other])


def test_an_index_cannot_lead_out_of_its_folder(base, tuned, tmp_path):
    other = variant(tuned, tmp_path / "other")
    (tmp_path / "secret").write_text("x")
    index = {"weight_map": {"a": "../secret", "b": "/etc/hostname"}}
    (other / "model.safetensors.index.json").write_text(json.dumps(index))
    found = "\n".join(map(str, check([base, other])))
    assert "2 of the weight files that the index of" in found


HEADERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "dtype", "shape", "data_offsets", "__metadata__"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(header=HEADERS, values=st.binary(max_size=16))
def test_a_header_is_read_or_refused(header, values, tmp_path_factory):
    text = json.dumps(header).encode()
    folder: Path = tmp_path_factory.getbasetemp()
    content = len(text).to_bytes(8, "little") + text + values
    (folder / "strange.safetensors").write_bytes(content)
    try:
        found = read_header(Folder(folder), "strange.safetensors", len(content))
    except BrokenFileError:
        return
    assert sum(tensor.n_bytes for tensor in found.values()) >= 0


@settings(max_examples=30)
@given(content=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(content, tmp_path_factory):
    folder: Path = tmp_path_factory.getbasetemp()
    (folder / "any.safetensors").write_bytes(content)
    try:
        read_header(Folder(folder), "any.safetensors", len(content))
    except BrokenFileError:
        return
