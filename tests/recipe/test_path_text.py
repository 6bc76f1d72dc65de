"""Stacks of layers in a few characters."""

from __future__ import annotations

import pytest

from evomerge.recipe.path_text import path_text
from evomerge.recipe.plain import Recipe


def stack(*rows):
    slices = [{"sources": [{"model": m, "layer_range": [a, b]}]} for m, a, b in rows]
    return Recipe({"merge_method": "passthrough", "slices": slices})


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([("x/a", 0, 4), ("x/b", 2, 8)], "a 0-3, b 2-7"),
        ([("x/a", 0, 4), ("x/a", 2, 3), ("x/b", 3, 4)], "a 0-3, 2, b 3"),
        ([("x/a", 0, 2), ("x/a", 2, 4)], "a 0-3"),
        ([("x/a", 0, 3)], "a 0-2"),
        ([("x/a", 0, 2), ("y/a", 2, 4)], "x/a 0-1, y/a 2-3"),
        ([(f"x/{n % 2}", n, n + 1) for n in range(40)], None),
    ],
)
def test_layers_in_a_row_are_one_and_a_model_is_named_where_it_changes(rows, text):
    found = path_text(stack(*rows))
    assert found == text if text else found.endswith(", ...") and 40 < len(found) <= 60


def test_what_is_no_stack_has_no_path():
    assert path_text(Recipe({"merge_method": "linear", "models": [{"model": "x/a"}]})) == ""
