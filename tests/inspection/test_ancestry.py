"""Relatives and strangers are told apart by a few kilobytes of their weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from evomerge.genome.model_names import ModelName
from evomerge.models.ancestry import likeness
from evomerge.models.inspect import read_model
from tests.tiny_models import tiny_model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_fine_tune_is_alike_and_a_stranger_is_not(tmp_path: Path, dtype: str) -> None:
    base = tiny_model(tmp_path / "base", dtype=dtype)
    tuned = tiny_model(tmp_path / "tuned", base=base, seed=1, drift=0.01, dtype=dtype)
    stranger = tiny_model(tmp_path / "stranger", seed=2, dtype=dtype)
    one, two, three = (read_model(ModelName(path=str(m))) for m in (base, tuned, stranger))
    assert likeness(one, one) == pytest.approx(1)
    assert (likeness(one, two) or 0) > 0.9
    assert abs(likeness(one, three) or 0) < 0.5


def test_norms_that_are_all_equal_say_nothing(tmp_path: Path) -> None:
    flat = tiny_model(tmp_path, drift=0)
    model = read_model(ModelName(path=str(flat)))
    assert likeness(model, model) is None
