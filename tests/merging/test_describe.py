"""What models have in common, and how their tokenizer is read."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

from evomerge.foundations.errors import ModelError
from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.inspect import read_model
from evomerge.models.merge_dtype import common_dtype
from evomerge.models.quiet import quiet_transformers
from evomerge.models.shared_layers import describe
from evomerge.models.vocabulary import load_tokenizer
from tests.tiny_models import ARCHITECTURES, tiny_model, tiny_tokenizer


def facts(*folders: Path) -> list[ModelFacts]:
    return [read_model(ModelName(path=str(folder))) for folder in folders]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_of_a_file_has_its_place(tmp_path: Path, architecture: str) -> None:
    model = tiny_model(tmp_path, architecture, num_hidden_layers=3)
    found = describe(facts(model))
    layers = [t.format(layer=i) for t in found.layer_tensors for i in range(3)]
    placed = {*found.embeddings, *layers, *found.final_norm, *found.head}
    buffers = (".masked_bias", ".attention.bias", ".inv_freq")
    stored = {n for n in load_file(model / "model.safetensors") if not n.endswith(buffers)}
    assert placed == stored
    assert found.n_layers == 3
    assert len(found.embeddings) == len(found.head) == 1
    assert found.name.endswith("ForCausalLM")


def test_a_tied_head_has_no_tensor(tmp_path: Path) -> None:
    assert describe(facts(tiny_model(tmp_path, tie_word_embeddings=True))).head == ()


def test_a_vocabulary_of_another_size_fits(tmp_path: Path) -> None:
    one = tiny_model(tmp_path / "one")
    wider = tiny_model(tmp_path / "wider", extra_tokens=["<tool>"])
    assert describe(facts(one, wider)) == describe(facts(one))


def test_an_architecture_that_mergekit_does_not_know_is_refused(tmp_path: Path) -> None:
    (model,) = facts(tiny_model(tmp_path))
    unknown = ModelFacts(config={"architectures": ["Zebra"]}, tensors=model.tensors, key="m")
    with pytest.raises(ModelError, match="m: architecture Zebra is no language model"):
        describe([unknown])


def test_the_common_dtype_is_that_of_the_configurations(tmp_path: Path) -> None:
    half = tiny_model(tmp_path / "half", dtype="bfloat16")
    full = tiny_model(tmp_path / "full")
    assert common_dtype(facts(half, half)) == "bfloat16"
    assert common_dtype(facts(half, full)) == "float32"
    assert common_dtype([ModelFacts(config={"torch_dtype": "float16"})]) == "float16"
    assert common_dtype([ModelFacts()]) == "float32"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_tokenizer_is_the_one_that_transformers_chooses(
    tmp_path: Path, architecture: str
) -> None:
    model = tiny_model(tmp_path, architecture)
    tokenizer, config = load_tokenizer(*facts(model))
    expected = AutoTokenizer.from_pretrained(model)
    assert type(tokenizer) is type(expected)
    assert tokenizer.get_vocab() == expected.get_vocab()
    assert tokenizer.special_tokens_map == expected.special_tokens_map
    theirs = AutoConfig.from_pretrained(model)
    assert config.model_type == theirs.model_type
    assert config.max_position_embeddings == theirs.max_position_embeddings


def test_a_model_without_tokenizer_is_told(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    bare = shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ModelError, match="no readable tokenizer"):
        load_tokenizer(*facts(bare))


def test_of_texts_that_are_too_long_for_a_model_transformers_says_nothing() -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]  # one line of a handler
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 2
    with quiet_transformers():
        pass
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        assert len(tokenizer.encode("the quick brown fox")) > 2
    finally:
        logger.removeHandler(handler)
    assert not said
