"""Which tensors of several models are equal, and which only may be."""

from __future__ import annotations

import itertools
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.genome.model_names import ModelName
from evomerge.merging.sources import fold_adapters
from evomerge.merging.structure import Configuration
from evomerge.models.alike import alike, hold_equal
from evomerge.models.fingerprint import fingerprints
from evomerge.models.inspect import read_model
from tests.lora_experts import lora_expert
from tests.thinned import ZIGZAG, thinned
from tests.tiny_models import tiny_family, tiny_model

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Q, K = (f"model.layers.1.self_attn.{kind}_proj.weight" for kind in "qk")


@pytest.fixture
def family(tmp_path):
    return tiny_family(tmp_path / "models")


@pytest.fixture
def bytes_read(monkeypatch, tmp_path):
    """Lengths of what is read of tensors, long after the files were written; nothing is known."""
    lengths, pread = [], os.pread

    def counted(handle, n_bytes, at):
        lengths.append(n_bytes)
        return pread(handle, n_bytes, at)

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("evomerge.models.kept._SETTLED_NS", -(10**18))
    return lengths


def found(*names, **settings):
    models = [read_model(ModelName.model_validate(str(name))) for name in names]
    return alike(models, **settings)


def rewritten(folder, change, **config):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **config}))
    return folder


def test_models_that_differ_everywhere_have_no_equal_tensors(family):
    assert found(*family) == {}


def test_equal_tensors_are_found_among_others_that_differ_in_the_last_byte(family):
    base, one, two = family
    held = load_file(base / "model.safetensors")

    def frozen(tensors):
        tensors[EMBEDDINGS] = held[EMBEDDINGS].clone()
        tensors[Q] = held[Q].clone()
        tensors[Q].view(-1)[-1] += 1

    rewritten(one, frozen)
    assert found(*family) == {EMBEDDINGS: {0: 0, 1: 0, 2: 2}}
    rewritten(two, frozen)
    assert found(base, one, two)[EMBEDDINGS] == {0: 0, 1: 0, 2: 0}
    assert found(base, one, two)[Q] == {0: 0, 1: 1, 2: 1}  # two of them, and not the base


def test_equal_bytes_of_another_dtype_or_shape_are_another_tensor(family):
    base, one, _ = family

    def turned(tensors):
        tensors[EMBEDDINGS] = load_file(base / "model.safetensors")[EMBEDDINGS].view(torch.int32)

    rewritten(one, turned)
    assert found(base, one) == {}


def test_a_cut_off_file_is_equal_to_nothing(family, tmp_path):
    base = family[0]
    copy = shutil.copytree(base, tmp_path / "copy")
    models = [read_model(ModelName.model_validate(str(folder))) for folder in (base, copy)]
    with (copy / "model.safetensors").open("r+b") as file:
        file.truncate(5000)
    assert not any(name.startswith("model.norm") for name in alike(models))


def test_rows_that_are_permuted_are_equal_for_one_tokenizer_only(family, tmp_path):
    base = family[0]
    copy = shutil.copytree(base, tmp_path / "copy")
    assert EMBEDDINGS in found(base, copy, is_permuted=True)
    other = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = other["model"]["vocab"]
    first, second = list(vocabulary)[10:12]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (copy / "tokenizer.json").write_text(json.dumps(other))
    assert EMBEDDINGS in found(base, copy)
    permuted = found(base, copy, is_permuted=True)
    assert Q in permuted
    assert not {EMBEDDINGS, HEAD} & set(permuted)


LEFT_ALONE = (
    {"target_modules": ["q_proj"]},
    {"target_modules": ["k_proj"], "bias": "all"},
    {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    {"target_modules": ["q_proj", "embed_tokens"]},
    {"target_modules": ["q_proj"], "use_dora": True},
    {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6]},
    {"target_modules": ["q_proj"], "layers_to_transform": [0]},
)


@pytest.mark.filterwarnings("ignore")  # PEFT warns of the embeddings
@pytest.mark.parametrize(
    ("settings", "tied"), thinned(itertools.product(LEFT_ALONE, (False, True)), **ZIGZAG), ids=str
)
def test_what_an_adapter_leaves_alone_is_as_in_the_folder_that_mergekit_folds(
    tmp_path, tied, settings
):
    base = tiny_model(tmp_path / "base", "qwen2", tie_word_embeddings=tied)
    lora = lora_expert(tmp_path / "lora", base, 1, **settings)
    name = f"{base}+{lora}"
    config = Configuration.model_validate(
        {"merge_method": "passthrough", "models": [{"model": name}]}
    )
    fold_adapters(config.referenced_models(), tmp_path / "folded", trust_remote_code=False)
    (folded,) = (tmp_path / "folded").iterdir()
    held, own = (load_file(folder / "model.safetensors") for folder in (base, folded))
    numbers = found(base, name)
    assert numbers
    for tensor in numbers:
        stored = held.get(tensor, held[EMBEDDINGS])  # a tied head has no tensor of its own
        assert torch.equal(stored, own.get(tensor, own[EMBEDDINGS])), tensor
    changed = {n for n in held if not torch.equal(held[n], own[n])}
    assert changed.isdisjoint(numbers)
    if "q_proj" in settings["target_modules"]:
        assert K in numbers


def test_a_model_that_is_folded_in_another_dtype_is_not_its_base(tmp_path):
    base = tiny_model(tmp_path / "base")
    loras = [lora_expert(tmp_path / f"lora_{i}", base, i) for i in (1, 2)]
    rewritten(base, lambda tensors: None, dtype="bfloat16")  # the files hold float32
    numbers = found(base, *(f"{base}+{lora}" for lora in loras))
    assert numbers[K] == {0: 0, 1: 1, 2: 1}


# What was compared is known


def mostly_frozen(family):
    """Three whole checkpoints that differ in the first bytes of a tensor, and in the last."""
    base, one, two = family
    held = load_file(base / "model.safetensors")

    def frozen(at):
        def change(tensors):
            tensors.update({name: tensor.clone() for name, tensor in held.items()})
            tensors[Q].view(-1)[at] += 1

        return change

    return base, rewritten(one, frozen(0)), rewritten(two, frozen(-1))


def test_what_was_compared_once_is_not_read_again(family, bytes_read):
    models = mostly_frozen(family)
    first = found(*models)
    assert len(first) > 5
    assert Q not in first
    assert sum(bytes_read) > sum(file.stat().st_size for file in models[0].glob("*.safetensors"))
    bytes_read.clear()
    assert found(*models) == first
    assert set(found(*models[1::-1])) == set(first)  # whichever is named first
    assert bytes_read == []


def test_a_file_that_changed_is_compared_again(family, bytes_read):
    models = mostly_frozen(family)
    found(*models)

    def melt(tensors):
        tensors[K].view(-1)[-1] += 1

    rewritten(models[1], melt)
    assert found(*models)[K] == {0: 0, 1: 1, 2: 0}


def test_files_whose_digests_are_known_are_not_read(family, bytes_read):
    models = mostly_frozen(family)
    fingerprints(map(str, models))
    bytes_read.clear()
    by_digest = found(*models)
    assert bytes_read == []
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    assert found(*models) == by_digest
    assert bytes_read


def test_two_tensors_of_one_file_are_compared_once(family, bytes_read):
    def tied(tensors):
        tensors[HEAD] = tensors[EMBEDDINGS].clone()

    rewritten(family[0], tied)
    model = read_model(ModelName.model_validate(str(family[0])))
    assert hold_equal(model, HEAD, EMBEDDINGS)
    assert bytes_read
    bytes_read.clear()
    assert hold_equal(model, HEAD, EMBEDDINGS)
    assert not hold_equal(model, HEAD, Q)
    assert bytes_read == []
