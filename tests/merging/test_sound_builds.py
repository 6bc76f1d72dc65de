"""A model appears under its name when it is complete and finite; else nothing does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.foundations.creating import MARK
from evomerge.foundations.errors import OccupiedError, RunError
from evomerge.merging.built import build_into, flaws
from evomerge.recipe.plain import Recipe
from tests.tiny_models import tiny_model

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("built") / "model")


@pytest.fixture
def model(template, tmp_path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "model"))


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        held = load_file(model / WEIGHTS)
        change(held)
        save_file(held, model / WEIGHTS, {"format": "pt"})

    return spoil


def filled(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda held: held[name].view(-1)[3:4].fill_(value)


def indexed(places: dict[str, str]) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        names = dict.fromkeys(load_file(model / WEIGHTS), WEIGHTS)
        (model / INDEX).write_text(json.dumps({"weight_map": {**names, **places}}))

    return spoil


def text(file: str, content: str) -> Callable[[Path], None]:
    return lambda model: (model / file).write_text(content) and None


NORM, EMBEDDING = "model.norm.weight", "model.embed_tokens.weight"
FLAWS: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN": (tensors(filled(NORM, float("nan"))), f"NaN or infinity in {NORM}"),
    "infinity": (tensors(filled(EMBEDDING, float("inf"))), f"NaN or infinity in {EMBEDDING}"),
    "-infinity": (tensors(filled(NORM, -float("inf"))), f"NaN or infinity in {NORM}"),
    "all NaN": (
        tensors(lambda held: [tensor.fill_(float("nan")) for tensor in held.values()]),
        "and 16 more",
    ),
    "a tensor lacks": (tensors(lambda held: held.pop(NORM)), f"needs {NORM}"),
    "no weights": (lambda model: (model / WEIGHTS).unlink(), "there are no weights"),
    "weights cut": (
        lambda model: os.truncate(model / WEIGHTS, (model / WEIGHTS).stat().st_size - 1),
        "bytes, expected",
    ),
    "weights empty": (lambda model: os.truncate(model / WEIGHTS, 0), "no safetensors file"),
    "a shard lacks": (indexed({"x": "model-2.safetensors"}), "there is no model-2.safetensors"),
    "an index of more": (indexed({"x": WEIGHTS}), "no shard holds x"),
    "an index of less": (
        text(INDEX, json.dumps({"weight_map": {NORM: WEIGHTS}})),
        f"{INDEX} does not name",
    ),
    "an index of elsewhere": (indexed({"x": f"../{WEIGHTS}"}), f"there is no ../{WEIGHTS}"),
    "an index that is none": (text(INDEX, "[]"), f"{INDEX}: it holds list"),
    "no config": (lambda model: (model / "config.json").unlink(), "there is no config.json"),
    "config cut": (text("config.json", '{"a":'), "config.json: it is not JSON"),
    "no tokenizer": (
        lambda model: [path.unlink() for path in model.glob("tokenizer*")] and None,
        "there is no tokenizer",
    ),
    "tokenizer cut": (text("tokenizer.json", "{"), "tokenizer.json: it"),
    "a FIFO": (lambda model: os.mkfifo(model / "chat_template.jinja"), "is a FIFO"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_what_is_wrong_with_a_built_folder_is_told(model, flaw):
    spoil, message = FLAWS[flaw]
    spoil(model)
    assert message in "; ".join(flaws(model))


def test_a_sound_folder_has_no_flaws(model):
    assert list(flaws(model)) == []


def test_tensors_of_every_dtype_are_looked_at(model):
    held = load_file(model / WEIGHTS)
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn):
        held[NORM] = held[NORM].to(dtype)
        save_file(held, model / WEIGHTS)
        assert list(flaws(model)) == []


def passthrough(model: Path) -> Recipe:
    return Recipe({"merge_method": "passthrough", "models": [{"model": str(model)}]})


@pytest.mark.slow  # mergekit in a process of its own
def test_a_build_with_weights_that_are_no_numbers_leaves_nothing(model, tmp_path):
    tensors(filled(NORM, float("nan")))(model)
    with pytest.raises(RunError, match=rf"out: what mergekit built .* NaN or infinity in {NORM}"):
        build_into(passthrough(model), tmp_path / "below" / "out")
    assert list((tmp_path / "below").iterdir()) == []


@pytest.mark.slow  # the same
def test_a_build_takes_the_place_of_a_model_only_by_force(model, tmp_path):
    out = Path(shutil.copytree(model, tmp_path / "out"))
    (out / "tokenizer.model").write_text("of the model that was there")
    with pytest.raises(OccupiedError, match="out: holds other things than a built model"):
        build_into(passthrough(model), out, force=True)
    (out / MARK).write_text("what a build leaves beside its weights")
    with pytest.raises(OccupiedError, match="out: holds a built model already"):
        build_into(passthrough(tmp_path / "no such model"), out)
    build_into(passthrough(model), out, force=True)
    assert not (out / "tokenizer.model").exists()
    assert list(flaws(out)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]
