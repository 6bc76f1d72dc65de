from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.foundations.errors import ModelError, UnreadableError
from evomerge.genome.model_names import ModelName
from evomerge.models import fingerprint as module
from evomerge.models.digests import Digests, FileDigest
from evomerge.models.fingerprint import fingerprint, fingerprints
from evomerge.models.inspect import read_model
from evomerge.models.kept import FileState, Kept
from tests.lora_experts import lora_expert
from tests.tiny_models import tiny_model

LATER = 60_000_000_000


def settled(folder: Path, **settings: int) -> Kept[FileDigest]:
    """As a minute later, when no file has just been written."""
    return Kept("digests", FileDigest, folder, lambda: time.time_ns() + LATER, **settings)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def copy(model, tmp_path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


def flip(file: Path, at: int) -> None:
    """Changes one bit, and nothing else that a listing shows."""
    found = file.stat()
    with file.open("r+b") as content:
        content.seek(at)
        byte = content.read(1)
        content.seek(at)
        content.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_a_copy_elsewhere_is_the_same_model(model, copy):
    assert fingerprint(str(copy)) == fingerprint(str(model))


def test_a_bit_of_any_file_makes_another_model(model, copy):
    original, draw = fingerprint(str(model)), random.Random(0)
    files = [file for file in copy.iterdir() if file.name != "README.md"]
    assert len(files) > 3
    for file in files:
        for at in {0, file.stat().st_size - 1, draw.randrange(file.stat().st_size)}:
            flip(file, at)
            assert fingerprint(str(copy)) != original, (file.name, at)
            flip(file, at)
    assert fingerprint(str(copy)) == original


def test_a_bit_of_any_tensor_changes_its_digest_alone(copy):
    file = copy / "model.safetensors"
    before = Digests().of(file)
    header = int.from_bytes(file.read_bytes()[:8], "little")
    places = json.loads(file.read_bytes()[8 : 8 + header])
    places.pop("__metadata__", None)
    assert set(before.tensors) == set(places)
    for name, place in places.items():
        flip(file, 8 + header + place["data_offsets"][1] - 1)
        after = Digests().of(file)
        flip(file, 8 + header + place["data_offsets"][1] - 1)
        changed = {other for other in places if after.tensors[other] != before.tensors[other]}
        assert changed == {name}
        assert after.whole != before.whole


def test_equal_tensors_have_one_digest_wherever_they_stand(model, tmp_path):
    tensors = load_file(model / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    one = tensors[name]
    others = {"a": one.clone(), "shape": one.T.contiguous().reshape(one.shape[::-1])}
    others |= {"flat": one.flatten(), "half": one.half(), "b": one.clone()}
    save_file(others, tmp_path / "other.safetensors", {"kind": "another header"})
    found = Digests().of(tmp_path / "other.safetensors").tensors
    expected = Digests().of(model / "model.safetensors").tensors[name]
    assert [key for key in others if found[key] == expected] == ["a", "b"]


@pytest.mark.parametrize("name", ["new.json", "additional_chat_templates/tool.jinja", "code.py"])
def test_a_file_more_makes_another_model_where_it_is_loaded(model, copy, name):
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("{}")
    assert fingerprint(str(copy)) != fingerprint(str(model))


@pytest.mark.parametrize("name", ["README.md", "training.log", "events/run.json"])
def test_what_nobody_loads_does_not_count(model, copy, name):
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("{}")
    assert fingerprint(str(copy)) == fingerprint(str(model))


def test_names_count_as_well_as_contents(copy, model):
    (copy / "generation_config.json").rename(copy / "generation.json")
    assert fingerprint(str(copy)) != fingerprint(str(model))


def test_an_adapter_belongs_to_its_model(model, tmp_path):
    adapter = lora_expert(tmp_path / "lora", model, 1)
    name = f"{model}+{adapter}"
    before = fingerprint(name)
    flip(
        adapter / "adapter_model.safetensors",
        -1 + (adapter / "adapter_model.safetensors").stat().st_size,
    )
    assert fingerprint(name) != before
    assert before.startswith(fingerprint(str(model)))


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_safetensors_is_its_bytes(copy, content):
    (copy / "model.safetensors").write_bytes(content)
    before = fingerprint(str(copy))
    (copy / "model.safetensors").write_bytes(content + b"x")
    assert fingerprint(str(copy)) != before


def test_a_file_without_tensors_is_digested_in_parts(tmp_path):
    digests = Digests(stretch=1000)
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(random.Random(1).randbytes(4567))
    before = digests.of(file)
    assert before.tensors == {}
    for at in (0, 999, 1000, 4000, 4566):
        flip(file, at)
        assert digests.of(file).whole != before.whole
        flip(file, at)
    assert digests.of(file) == before


# What is known is not read again


def test_a_file_is_read_once(copy, tmp_path):
    file, known = copy / "model.safetensors", settled(tmp_path / "known")
    heard: list[int] = []
    digests = Digests(known, heard.append)
    assert digests.unread([file]) == file.stat().st_size
    found = digests.of(file)
    assert sum(heard) == file.stat().st_size
    assert digests.unread([file]) == 0
    assert digests.of(file) == found
    assert sum(heard) == file.stat().st_size


@pytest.mark.parametrize("change", ["content", "touched", "another"])
def test_a_file_that_changed_is_read_again(copy, tmp_path, change):
    file, known = copy / "model.safetensors", settled(tmp_path / "known")
    before = Digests(known).of(file)
    if change == "content":
        flip(file, file.stat().st_size - 1)  # its time is put back, and the inode's tells
    elif change == "touched":
        file.touch()
    else:
        shutil.copy2(file, copy / "again")
        os.replace(copy / "again", file)
    heard: list[int] = []
    after = Digests(known, heard.append).of(file)
    assert sum(heard) == file.stat().st_size
    assert (after == before) == (change != "content")


def test_a_file_that_was_written_just_now_is_not_taken_as_known(copy, tmp_path):
    """Within one tick of a file system's clock it could change and look the same."""
    file = copy / "config.json"
    known = Kept("digests", FileDigest, tmp_path / "known", lambda: file.stat().st_ctime_ns + 1)
    digests = Digests(known)
    digests.of(file)
    assert digests.unread([file]) == file.stat().st_size


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"states": [1]}', b'{"found": {"whole": "", "tensors": {}}}'],
)
def test_a_torn_or_foreign_entry_is_written_anew(copy, tmp_path, content):
    file, known = copy / "config.json", settled(tmp_path / "known")
    found = Digests(known).of(file)
    (entry,) = (tmp_path / "known").iterdir()
    entry.write_bytes(content)
    assert Digests(known).of(file) == found
    assert Digests(known).unread([file]) == 0


def test_an_entry_of_another_file_is_not_believed(copy, tmp_path):
    known = settled(tmp_path / "known")
    first = Digests(known).of(copy / "config.json")
    (entry,) = (tmp_path / "known").iterdir()
    Digests(known).of(copy / "tokenizer.json")
    (other,) = set((tmp_path / "known").iterdir()) - {entry}
    shutil.copy(other, entry)
    assert Digests(known).of(copy / "config.json") == first


def test_a_cache_that_cannot_be_written_costs_time_alone(copy, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "known").write_text("a file")
    Digests(settled(tmp_path / "known")).of(copy / "config.json")
    assert "digests are not kept" in caplog.text


def test_the_oldest_entries_go(tmp_path):
    known = settled(tmp_path / "known", most=4)
    for number in range(9):
        (tmp_path / "file").write_text(str(number))
        Digests(known).of(tmp_path / "file")
    assert 1 <= len(list((tmp_path / "known").iterdir())) <= 4
    assert Digests(known).unread([tmp_path / "file"]) == 0


def test_a_file_that_changes_while_it_is_read_is_refused(copy):
    file = copy / "model.safetensors"

    def grow(n_bytes: int) -> None:
        with file.open("ab") as content:
            content.write(b"more")

    with pytest.raises(UnreadableError, match="changes while it is read"):
        Digests(hear=grow).of(file)


def test_a_fifo_in_a_model_is_refused_and_does_not_hang(copy):
    os.mkfifo(copy / "pipe.json")
    with pytest.raises(ModelError, match=r"pipe.json is a FIFO, expected a regular file"):
        fingerprint(str(copy))


def test_long_reading_tells_how_far_it_is(model, copy, monkeypatch):
    monkeypatch.setattr(module, "_MUCH", 1000)
    flip(copy / "model.safetensors", 5000)
    shares: list[float] = []
    fingerprints([str(model), str(copy)], shares.append)
    assert shares == sorted(shares)
    assert 0 < len(shares) <= 101
    assert shares[-1] == 1.0


def test_short_reading_tells_nothing(copy):
    shares: list[float] = []
    fingerprints([str(copy)], shares.append)
    assert shares == []


def test_the_state_of_a_file_holds_what_no_program_can_put_back(copy):
    file = copy / "config.json"
    before = FileState.of(file.stat())
    flip(file, 3)
    after = FileState.of(file.stat())
    assert after.content_ns == before.content_ns
    assert after.inode_ns > before.inode_ns


def test_weights_are_compared_without_torch(model):
    """What the digest of a tensor is made of is written down: dtype, shape, bytes."""
    import hashlib

    tensor = load_file(model / "model.safetensors")["model.norm.weight"]
    assert tensor.dtype is torch.float32
    expected = hashlib.sha256(b"F32 [32]\n" + tensor.numpy().tobytes()).hexdigest()
    assert Digests().of(model / "model.safetensors").tensors["model.norm.weight"] == expected


def test_tensors_that_lie_one_over_the_other_are_read_once(copy):
    """A small file could otherwise name the same bytes a million times."""
    entry = {"dtype": "U8", "shape": [1000], "data_offsets": [0, 1000]}
    header = json.dumps({f"t{index}": entry for index in range(500)}).encode()
    file = copy / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(1000))
    heard: list[int] = []
    assert Digests(hear=heard.append).of(file).tensors == {}
    assert sum(heard) == file.stat().st_size
    assert "one over the other" in read_model(ModelName(path=str(copy))).broken[file.name]
