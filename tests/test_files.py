from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.foundations.canonical import canonical_json, digest
from evomerge.foundations.errors import LostFileError
from evomerge.foundations.files import write_atomic


def test_an_atomic_write_replaces_the_content_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "best.yml"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["best.yml"]


def test_a_write_that_fails_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "best.yml"
    write_atomic(path, "old")

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(LostFileError, match=r"best.yml: cannot be written \(disk full\)"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["best.yml"]


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=5))
def test_equal_values_have_equal_digests_whatever_the_order_of_keys(value):
    turned = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(turned)
    assert digest(value) == digest(turned)
    assert len(digest(value)) == 64


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_numbers_that_json_does_not_have(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": value})
