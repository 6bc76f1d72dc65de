"""Builds by the real ``mergekit-yaml``, in a process of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from evomerge.foundations.errors import ModelError, RunError, TrialTimeoutError
from evomerge.merging.build import _reason, _run, build, mergekit_commands
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.merging.built import assert_equals_folder
from tests.merging.layouts import N_LAYERS, recipe_config
from tests.test_lifetime import is_gone
from tests.tiny_models import tiny_family, tiny_model

PLAIN = Recipe({"merge_method": "linear"})


@pytest.mark.slow
def test_the_real_command_builds_the_resident_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    family = tiny_family(tmp_path / "family", num_hidden_layers=N_LAYERS)
    recipe = Recipe(recipe_config("dare_ties", "groups", family, dtype="float32"))
    live = ResidentMerger(merge_seed=11).merge(recipe)
    capfd.readouterr()
    shares: list[float] = []
    threads = torch.get_num_threads()
    build(recipe, tmp_path / "out", merge_seed=11, threads=threads, report=shares.append)
    assert capfd.readouterr() == ("", "")
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert_equals_folder(live, tmp_path / "out")


@pytest.mark.slow
def test_a_build_that_stops_says_why(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    (tmp_path / "file").write_text("no folder")
    recipe = Recipe({"merge_method": "passthrough", "models": [{"model": str(model)}]})
    with pytest.raises(RunError, match="mergekit-yaml stopped: NotADirectoryError"):
        build(recipe, tmp_path / "file" / "out")


def test_a_command_that_stops_says_why() -> None:
    fails = "print('careful', end='\\r', flush=True); open('no/such/file')"
    shares: list[float] = []
    code, said = _run([sys.executable, "-c", fails], {}, shares.append, lambda: None)
    assert code == 1
    told = _reason("mergekit-yaml", said)
    assert re.search(r"mergekit-yaml stopped: FileNotFoundError.*no/such/file", told)
    assert shares == []


def test_a_command_that_says_nothing_is_ended_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evomerge.merging.build._LOOKS_EVERY", 0.02)
    hangs = f"import os, time; os.symlink(str(os.getpid()), {str(tmp_path / 'pid')!r})"
    looked: list[int] = []

    def check() -> None:
        looked.append(1)
        if (tmp_path / "pid").is_symlink():
            raise TrialTimeoutError("took longer than 2 seconds")

    with pytest.raises(TrialTimeoutError):
        _run([sys.executable, "-c", f"{hangs}; time.sleep(600)"], {}, looked.append, check)
    assert is_gone(int((tmp_path / "pid").readlink().name))


def test_a_model_that_is_not_there_is_told_before_mergekit_starts(tmp_path: Path) -> None:
    missing = {"model": str(tmp_path / "missing"), "parameters": {"weight": 1.0}}
    recipe = Recipe({"merge_method": "linear", "models": [missing]})
    with pytest.raises(ModelError, match="there is no folder"):
        build(recipe, tmp_path / "out")


def test_the_command_for_people_quotes_paths_and_names_the_seed() -> None:
    assert mergekit_commands(PLAIN, ["my best.yml"], "out", 5)[0] == (
        "mergekit-yaml 'my best.yml' out --random-seed 5 --no-write-model-card"
    )
    assert mergekit_commands(PLAIN, ["best.yml"], "out", 0, lora_cache="lora")[0].endswith(
        "--random-seed 0 --lora-merge-cache lora --no-write-model-card"
    )


def test_the_reason_of_a_build_that_stops_has_no_traceback() -> None:
    said = [
        "WARNING: careful",
        "Traceback (most recent call last):",
        '  File "merge.py", line 1, in <module>',
        "    run()",
        "RuntimeError: no rule to produce it",
    ]
    assert _reason("mergekit-yaml", said) == (
        "mergekit-yaml stopped: RuntimeError: no rule to produce it\n"
        "Before that it said:\nWARNING: careful"
    )
    assert _reason("mergekit-yaml", []) == "mergekit-yaml stopped: it said nothing"
