"""How ``evomerge verify`` tells what it found; the real thing is in tests/end_to_end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from evomerge.cli.main import entry_point
from evomerge.cli.verify_command import _tell
from evomerge.cli.watching import lines
from evomerge.nouns.evaluation import Document
from evomerge.verify.differences import Difference
from evomerge.verify.rebuild import Rebuilt

DOCUMENTS = tuple(Document("sort", index, {}) for index in range(30))
RECORDED = SimpleNamespace(trial_id=7, documents={"tasks": DOCUMENTS, "holdout": DOCUMENTS})


def tell(capsys, monkeypatch, *differences, folder=None):
    monkeypatch.setenv("COLUMNS", "80")
    _tell(Rebuilt(RECORDED, differences, folder))  # type: ignore[arg-type]  # no run behind it
    return capsys.readouterr().out


def test_equal_documents_are_one_sentence(capsys, monkeypatch):
    out = tell(capsys, monkeypatch, folder=Path("kept"))
    assert out == "trial 7: all 60 documents of 2 splits answer as recorded\nmodel kept\n"


def test_the_first_differing_documents_are_listed(capsys, monkeypatch, is_golden):
    many = [Difference("tasks", "sort", i, "answer", 1, 2) for i in range(22)]
    others = (
        Difference("tasks", "sort", 4, "answer", "a text\nof two lines, and far too long", "b"),
        Difference("tasks", "sort", 3, "ppl,none", 7.123456789, None),
        Difference("tasks", "sort", None, "acc,none", 0.5, 0.25),
    )
    is_golden("cli/verify.txt", tell(capsys, monkeypatch, *others, *many))


def test_progress_without_a_terminal_is_a_line_per_quarter(capsys):
    watch = lines()
    for share in range(201):
        watch("lm-eval scores search tasks", share / 200)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["lm-eval scores search tasks", "lm-eval scores search tasks: 25 %"]
    assert len(said) == 4


def test_bad_input_ends_with_exit_code_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        entry_point(["verify", "nowhere"])
    assert capsys.readouterr().err.splitlines()[-1] == (
        "nowhere: does not exist. Name a run folder or the best.yml in it."
    )
