"""What is said of errors that others raise."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from evomerge.foundations.errors import GenomeError, Problem, told, why

PACKAGE = Path(__file__).parents[1] / "evomerge"
NAMELESS = re.compile(r"\{type\((\w+)\)\.__name__\}: \{(str\()?\1\b")


@pytest.mark.parametrize(
    ("error", "text", "kind_and_text"),
    [
        (MemoryError(), "MemoryError", "MemoryError"),
        (AssertionError(""), "AssertionError", "AssertionError"),
        (TimeoutError("\n"), "TimeoutError", "TimeoutError"),
        (ValueError("a\n  b"), "a b", "ValueError: a b"),
        (KeyError("x"), "'x'", "KeyError: 'x'"),
    ],
)
def test_an_error_without_a_text_is_named(error, text, kind_and_text):
    assert why(error) == text
    assert told(error) == kind_and_text


def test_no_message_ends_where_the_text_of_an_error_would_stand():
    files = sorted(set(PACKAGE.rglob("*.py")) - set(PACKAGE.rglob("errors.py")))
    found = {file: NAMELESS.findall(file.read_text(encoding="utf-8")) for file in files}
    assert {str(file): texts for file, texts in found.items() if texts} == {}


def test_a_process_tells_another_every_problem():
    problems = [Problem("no metric 'a'", "tasks[0].metric", "Mend it."), Problem("fails", "tasks")]
    error = pickle.loads(pickle.dumps(GenomeError.of(problems)))
    assert error.problems == tuple(problems)
    assert str(error) == "\n".join(map(str, problems))
