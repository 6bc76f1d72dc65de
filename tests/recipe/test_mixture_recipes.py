"""The file of a mixture: what it says, and every mistake in it at once."""

from __future__ import annotations

import pytest
import yaml

from evomerge.foundations.errors import GenomeError
from evomerge.recipe.file import documents_of, recipe_of
from evomerge.recipe.model_mixture import ModelMixture
from evomerge.recipe.plain import Recipe
from evomerge.recipe.pool import Pool
from evomerge.recipe.stage_names import stage_name

MERGE = {"merge_method": "linear", "models": [{"model": "c", "parameters": {"weight": 1}}]}
CONFIG = {
    "mixture": [{"model": "a", "weight": 0.25}, {"recipe": MERGE, "weight": 0.75}],
    "mean": "geometric",
    "tasks": {"sums": [1, 0]},
}


def read(text, tmp_path):
    file = tmp_path / "mixture.yml"
    file.write_text(text, encoding="utf-8")
    told = []
    return recipe_of(documents_of(file), told.append), told


def test_members_are_merges_of_their_own(tmp_path):
    recipe, _ = read(yaml.safe_dump(CONFIG), tmp_path)
    assert recipe.kind == "mixture"
    assert recipe.documents == (
        {"merge_method": "passthrough", "models": [{"model": "a"}]},
        MERGE,
    )
    assert [model.text for model in recipe.models] == ["a", "c"]
    assert recipe.methods == ("passthrough", "linear")
    merges, mixed = ModelMixture.parts(recipe.config)
    assert [one["model"] for one in mixed["mixture"]] == ["a", stage_name(0)]
    assert ModelMixture.whole(merges, mixed) == recipe.config


def test_its_text_begins_with_the_members(tmp_path):
    text = Recipe(CONFIG).to_yaml()
    assert text.startswith("mixture:\n- model: a\n  weight: 0.25\n- recipe:\n    merge_method:")
    assert text.endswith("mean: geometric\ntasks:\n  sums: [1, 0]\n")
    assert read(text, tmp_path)[0] == Recipe(CONFIG)


def test_weights_are_divided_by_their_sum_and_a_mean_is_arithmetic_unless_it_says():
    members = [{"model": "a", "weight": 0.3333}, {"model": "b", "weight": 0.6666}]
    pool = Pool.of({"mixture": members})
    assert sum(pool.weights) == pytest.approx(1, abs=1e-15)
    assert (pool.mean, pool.of_tasks) == ("arithmetic", {})
    assert Pool.of(CONFIG) == Pool("geometric", (0.25, 0.75), {"sums": (1.0, 0.0)})


def test_a_key_that_mergekit_ignores_is_told_of_the_merge_that_has_it(tmp_path):
    member = {**MERGE, "flavour": "sweet"}
    config = {"mixture": [{"recipe": member, "weight": 1}]}
    recipe, told = read(yaml.safe_dump(config, sort_keys=False), tmp_path)
    assert recipe.documents == (MERGE,)
    assert [one.problem.what.startswith("mergekit ignores 'flavour'") for one in told] == [True]
    assert "mixture.yml:8: flavour" in told[0].problem.where


WRONG = """
mixture:
- model: a
  weight: -0.5
- model: b
  recipe: {merge_method: linear}
  weight: 0.5
- {weight: 0.5, mdl: x}
- recipe: {models: []}
  weight: 0.5
mean: harmonic
tasks: {sums: [1], reasons: [0.5, 0.2, 0.1, 0.1]}
temperature: 2
"""


def test_every_mistake_is_told_at_once_with_its_line(tmp_path):
    with pytest.raises(GenomeError) as raised:
        read(WRONG, tmp_path)
    told = [f"{p.where.rpartition('mixture.yml:')[2]}: {p.what}" for p in raised.value.problems]
    assert told == [
        "13: temperature: a mixture has no key 'temperature'",
        "11: mean: mean is 'harmonic', expected arithmetic or geometric",
        "5: mixture[1]: a member has both a model and a recipe",
        "8: mixture[2]: a member is {'weight': 0.5, 'mdl': 'x'}, expected a model or a recipe",
        "9: mixture[3].recipe: the recipe of a member is no merge with a merge_method",
        "2: mixture: a weight is -0.5, expected a number of 0 or more",
        "12: tasks.sums: weights are [1], expected 4, one per member",
        "12: tasks.reasons: weights sum to 0.9, expected 1",
    ]


@pytest.mark.parametrize(
    "config",
    [
        {"mixture": []},
        {"mixture": "a"},
        {"mixture": [{"model": "a", "weight": True}]},
        {"mixture": [{"model": "a", "weight": float("nan")}]},
        {"mixture": [{"model": 7, "weight": 1}]},
        {"mixture": [{"model": "a", "weight": 1}], "tasks": [1]},
        {"mixture": [{"model": "a", "weight": 1}], "tasks": {1: [1]}},
        {"mixture": [{"recipe": {**MERGE, "x": object()}, "weight": 1}]},
    ],
)
def test_what_a_stranger_wrote_is_looked_at(config):
    with pytest.raises(ValueError):  # noqa: PT011  # any of its sentences
        Recipe(config).check()


def test_a_mixture_stands_alone_in_its_file(tmp_path):
    with pytest.raises(GenomeError, match="a mixture stands alone in its file, got 2 documents"):
        read(f"{yaml.safe_dump(MERGE)}---\n{yaml.safe_dump(CONFIG)}", tmp_path)
