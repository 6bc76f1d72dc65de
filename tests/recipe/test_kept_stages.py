"""What earlier stages found: whole in a recipe, and read from the folder it was built into."""

from __future__ import annotations

import pytest

from evomerge.recipe.kept_stages import folded, unfolded
from evomerge.recipe.plain import Recipe
from tests.recipe.test_multi import named

KEPT, OTHER = "run/models/0123/sums", "run/models/4567/twice"


def merge(*models, method="linear", **beside):
    listed = [{"model": model, "parameters": {"weight": 1}} for model in models]
    frame = {"dtype": "float32", "out_dtype": "bfloat16"}
    return Recipe({"merge_method": method, "models": listed, **frame, **beside})


def copy_of(model, dtype="float32", out_dtype="bfloat16"):
    models = [{"model": model}]
    return Recipe(
        {"merge_method": "passthrough", "models": models, "dtype": dtype, "out_dtype": out_dtype}
    )


SUMS = merge("a", "b")
MADE = {KEPT: SUMS}


def test_a_recipe_of_sources_alone_is_left_as_it_is():
    assert unfolded(SUMS, MADE) is SUMS
    assert folded(merge("b", "c"), MADE).config == merge("b", "c").config
    assert folded(SUMS, {}) is SUMS


def test_what_was_made_is_a_stage_of_what_is_made_of_it():
    recipe = unfolded(merge(KEPT, "c", base_model=KEPT, tokenizer_source=KEPT), MADE)
    (name,) = recipe.made
    assert [dict(one) for one in recipe.documents] == [
        dict(SUMS.config),
        dict(merge(name, "c", base_model=name, tokenizer_source=name).config),
    ]
    recipe.check()
    assert [model.text for model in recipe.named] == ["a", "b", "c"]
    assert folded(recipe, MADE) == merge(KEPT, "c", base_model=KEPT, tokenizer_source=KEPT)


def test_stages_of_stages_stand_once_and_in_the_order_in_which_they_are_built():
    twice = unfolded(merge(KEPT, "c"), MADE)
    both = {KEPT: SUMS, OTHER: twice}
    recipe = unfolded(merge(OTHER, KEPT, "d"), both)
    first, second = recipe.made
    assert named(recipe) == [["a", "b"], [first, "c"], [second, first, "d"]]
    recipe.check()
    assert folded(recipe, both) == merge(OTHER, KEPT, "d")
    only_first = folded(recipe, MADE)
    assert named(only_first) == [[KEPT, "c"], [only_first.made[0], KEPT, "d"]]
    only_first.check()
    turned = unfolded(merge(KEPT, OTHER, "d"), both)  # its stages are met in another order
    assert named(turned)[-1][:2] == [first, second]
    assert folded(turned, {OTHER: unfolded(merge(KEPT, "c"), MADE)}).made == (first,)


def test_what_two_stages_found_is_two_models_even_where_it_is_the_same():
    both = {KEPT: SUMS, OTHER: SUMS}
    recipe = unfolded(merge(KEPT, OTHER, "c"), both)
    assert named(recipe) == [["a", "b"], ["a", "b"], [*recipe.made, "c"]]
    assert len(set(recipe.made)) == len(both)
    assert folded(recipe, both) == merge(KEPT, OTHER, "c")


def test_a_copy_of_what_was_made_is_what_was_made_where_no_bit_is_lost():
    assert unfolded(copy_of(KEPT), MADE) == SUMS
    assert folded(SUMS, MADE) == Recipe(
        {"merge_method": "passthrough", "models": [{"model": KEPT}], "dtype": "bfloat16"}
    )
    for other in (copy_of(KEPT, out_dtype="float16"), copy_of(KEPT, dtype="float16")):
        assert unfolded(other, MADE).kind == "multi"


@pytest.mark.parametrize("content", [{"weight": 2}, {"weight": 1, "density": 0.5}])
def test_a_stage_that_is_another_one_is_not_taken_for_what_was_built(content):
    changed = merge("a", "b")
    entries = [{"model": "a", "parameters": content}, changed.config["models"][1]]
    other = unfolded(merge(KEPT, "c"), {KEPT: Recipe({**changed.config, "models": entries})})
    assert folded(other, MADE) == other


def test_experts_stay_as_many_as_they_are_be_they_equal_or_what_a_stage_found():
    experts = [merge(KEPT, "c"), merge(KEPT, "c"), SUMS]
    merges = [{"name": f"evomerge-stage-{n}", **one.config} for n, one in enumerate(experts, 1)]
    named_so = [*(one["name"] for one in merges), KEPT]
    joined = {
        "base_model": named_so[0],
        "gate_mode": "random",
        "experts": [{"source_model": name} for name in named_so],
    }
    recipe = Recipe({"merges": merges, "moe": joined})
    whole = unfolded(recipe, MADE)
    whole.check()
    assert [model.text for model in whole.named] == ["a", "b", "c"]
    first, *own = whole.made
    _, last = whole.parts
    assert last["base_model"] == own[0]
    assert [one["source_model"] for one in last["experts"]] == [*own, first]
    again = folded(whole, MADE)
    assert [one["source_model"] for one in again.parts[1]["experts"]] == [
        *again.made[:2],
        KEPT,
        KEPT,
    ]
    assert [dict(one) for one in again.documents] == [dict(one.config) for one in experts[:2]]
