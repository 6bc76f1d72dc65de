"""Anything in the place of any file of a model: `check` ends well or with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.conftest import _template, make_workplace  # noqa: F401  # a fixture
from tests.hostile.things import SPECIAL, THINGS, assert_told, command, in_turn

MODEL = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
    "pytorch_model.bin.index.json", "adapter_config.json", "adapter_model.safetensors",
    "generation_config.json", "chat_template.jinja", "README.md", "added_tokens.json",
    "additional_chat_templates", "model.json",
)  # fmt: skip
TASKS = ("tasks/search.yaml", "tasks/search.jsonl", "tasks/stray.yaml")
GENOMES = ("genome.yml", "seed.yml", "prompts.jsonl")
NAMED = {  # settings that make a genome read a file
    "seed.yml": "{name: cma_es, budget: 6, seed_from: seed.yml}",
    "prompts.jsonl": "{name: gradient, budget: 6, losses: {kl: 1}, prompts: {models/model_1: "
    "[{file: prompts.jsonl}], models/model_2: [{file: prompts.jsonl}]}}",
}
PLACES = (*(f"models/model_1/{name}" for name in MODEL), *TASKS, *GENOMES)
CASES = in_turn(PLACES, 3)
FAST = set(CASES[:: max(len(CASES) // 16, 1)])


@pytest.fixture
def workplace(_template, tmp_path, monkeypatch) -> Path:  # noqa: F811  # the fixture
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = make_workplace(_template, tmp_path / "workplace")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(*c, marks=[] if c in FAST else [pytest.mark.slow]) for c in CASES],
)
def test_check_ends_well_or_with_a_sentence(workplace, name, kind):
    if name in NAMED:
        genome = (workplace / "genome.yml").read_text().partition("optimizer:")[0]
        (workplace / "genome.yml").write_text(f"{genome}optimizer: {NAMED[name]}\n")
    THINGS[kind](workplace / name)
    done = command("check", "genome.yml")
    assert_told(done)
    if kind in SPECIAL:
        assert done.code == 2, done


@pytest.mark.slow  # some seconds
def test_twenty_thousand_filters_are_told_each_and_soon(workplace):
    genome = (workplace / "genome.yml").read_text()
    filters = "".join(f"  - layers.{index}.x\n" for index in range(20_000))
    text = genome.replace("  granularity: layers", f"  filters:\n{filters}  granularity: layers")
    (workplace / "genome.yml").write_text(text)
    done = command("check", "genome.yml")  # which ends what takes minutes
    assert done.code == 2
    assert done.err.count("is in no tensor's name") == 20_000
