from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from evomerge.recipe.plain import Recipe, rounded

# Without line separators of Unicode, which PyYAML folds.
TEXTS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.just("\n"), max_size=8
)
SCALARS = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-1e6, 1e6), TEXTS, st.none())
CONFIGS = st.dictionaries(
    TEXTS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
        max_leaves=8,
    ),
    max_size=5,
)


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(CONFIGS)
def test_the_digest_ignores_the_order_of_keys(config):
    assert Recipe(config).digest == Recipe(reversed_keys(config)).digest
    assert hash(Recipe(config)) == hash(Recipe(reversed_keys(config)))


@given(CONFIGS, CONFIGS)
def test_different_configurations_have_different_digests(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (Recipe(one).digest == Recipe(other).digest) == same


@given(CONFIGS)
def test_the_yaml_reads_back_as_the_same_recipe(config):
    assert yaml.safe_load(Recipe(config).to_yaml()) == config


def test_the_yaml_keeps_the_order_and_writes_numbers_on_one_line():
    weights = [0.1, 0.2]
    recipe = Recipe({"models": [{"model": "a", "weight": weights}, {"weight": weights}], "a": 1})
    assert recipe.to_yaml() == (
        "models:\n- model: a\n  weight: [0.1, 0.2]\n- weight: [0.1, 0.2]\na: 1\n"
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_twice_is_rounding_once(value):
    assert rounded(rounded(value)) == rounded(value)


def test_numbers_keep_six_significant_digits():
    assert rounded(1 / 3) == 0.333333
    assert rounded(1234567.0) == 1234570.0
    assert rounded(-1.23456789e-7) == -1.23457e-7
    assert rounded(0.0) == 0.0
