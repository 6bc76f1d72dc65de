"""Anything in the place of any file of a run: what reads it ends well or with a sentence."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from evomerge.optimizers.gradient.lessons import name_of, to_bytes
from evomerge.optimizers.search_context import Effort, Lesson
from tests.hostile.things import THINGS, assert_told, command, in_turn
from tests.recorded_runs import record_run

DOCUMENTS = "documents/trial-00001-tasks.jsonl.gz"
FILES = (
    "ledger.jsonl", "genome.yml", "best.yml", "report.html", "log.txt", "study.journal",
    ".lock", ".lock-owner", DOCUMENTS, "optimizer/epoch-1.npz", "optimizer/epoch-2.npz",
    "optimizer/stray", "documents", "optimizer", "front",
)  # fmt: skip
SHOWS = (("show",), ("show", "--failed"), ("show", "--json"), ("export",))
CASES = in_turn(FILES, 3)
LESSON = Lesson(np.full(4, 0.5), b"state", {"nll": 1.0}, effort=Effort(1.0, 2, 3, 4))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A run whose optimizer was trained, so that `show` reads what the training kept."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    record_run(folder, optimizer="gradient")
    (folder / "optimizer").mkdir()
    for epoch in (1, 2):
        (folder / "optimizer" / name_of(epoch)).write_bytes(to_bytes(LESSON))
    return folder


@pytest.fixture
def run(recorded, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(recorded, tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(*c, marks=[] if i % 64 == 0 else [pytest.mark.slow])
        for i, c in enumerate(CASES)
    ],
)
def test_a_run_is_shown_and_exported_or_a_sentence_says_why_not(run, name, kind):
    THINGS[kind](run / name)
    for arguments in SHOWS:
        assert_told(command(*arguments, run))
    assert_told(command("export", run / "best.yml", "-o", "recipe.yml"))


@pytest.mark.parametrize("kind", [kind for kind in THINGS if kind != "nothing"])
@pytest.mark.parametrize(
    "force", [[], pytest.param(["--force"], marks=pytest.mark.slow)], ids=["", "force"]
)
def test_what_stands_where_a_recipe_is_exported_is_kept_or_replaced_as_said(run, kind, force):
    Path("recipe.yml").write_text("mine\n")
    THINGS[kind](Path("recipe.yml"))
    before = os.lstat("recipe.yml")
    done = command("export", run, "-o", "recipe.yml", *force)
    assert_told(done)
    is_replaced = bool(force) and stat.S_ISREG(before.st_mode)
    assert done.code == (0 if is_replaced else 2)
    assert (os.lstat("recipe.yml").st_ino != before.st_ino) == is_replaced
