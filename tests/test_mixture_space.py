"""Mixtures as a space: weights of models, for all tasks or each; and as a baseline of a search."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from evomerge.checks.context import CheckContext
from evomerge.checks.resources import sizes_of
from evomerge.checks.token_ids import added_tokens, mixed_vocabularies, vocabularies
from evomerge.compiler.chosen_space import with_space
from evomerge.compiler.compiled import tasks_together
from evomerge.compiler.seeds import seeds_of
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.findings import Severity
from evomerge.genome.load import validate_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.model_names import ModelName
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces.baselines import baselines
from evomerge.merge_spaces.mixture_weights import uniform_mixture
from evomerge.models.inspect import read_model
from evomerge.nouns.origin import OriginKind
from evomerge.recipe.plain import Recipe
from evomerge.recipe.stage_names import stage_name
from tests.contract.merge_space_cases import build
from tests.tiny_models import tiny_model

MODELS = ["org/a", "org/b", "org/c"]


def mixture(settings=None, **fields):
    space = {"name": "mixture", **(settings or {})}
    return build(MergeDefinition.model_validate({"models": MODELS, "space": space, **fields}))


def test_a_point_is_a_mixture_whose_weights_sum_to_1():
    merge_space = mixture({"mean": "geometric"})
    assert [one.name for one in merge_space.space] == ["share[a]", "share[b]"]
    for genotype in np.random.default_rng(0).random((20, 2)):
        recipe = merge_space.recipe(merge_space.space.decode(genotype))
        weights = [one["weight"] for one in recipe.config["mixture"]]
        assert [one["model"] for one in recipe.config["mixture"]] == MODELS
        assert sum(weights) == pytest.approx(1, abs=3e-6)
        assert recipe.config["mean"] == "geometric"
        point = merge_space.point_of(Recipe(yaml.safe_load(recipe.to_yaml())))
        again = [one["weight"] for one in merge_space.recipe(point).config["mixture"]]
        assert again == pytest.approx(weights, abs=2e-6)


def test_weights_of_a_task_hold_in_every_split():
    merge_space = mixture({"per": "task"})
    names = [one.name for one in merge_space.space]
    assert names == ["share[a, sums]", "share[b, sums]", "share[a, rhymes]", "share[b, rhymes]"]
    point = {**merge_space.source_point(0), "share[a, rhymes]": 0.0, "share[b, rhymes]": 1.0}
    config = merge_space.recipe(point).config
    assert config["tasks"] == {
        "sums": [1.0, 0.0, 0.0],
        "sums_holdout": [1.0, 0.0, 0.0],
        "rhymes": [0.0, 1.0, 0.0],
    }
    assert [one["weight"] for one in config["mixture"]] == [0.5, 0.5, 0.0]  # any other task
    assert merge_space.recipe(merge_space.point_of(Recipe(config))) == Recipe(config)
    assert merge_space.point_of(mixture().recipe(mixture().average_point())) is None


def test_a_search_begins_at_equal_weights_and_knows_each_model_alone():
    merge_space = mixture(base_model="org/b")
    start = merge_space.space.decode(merge_space.space.initial)
    uniform = merge_space.recipe(start)
    assert uniform.digest == merge_space.average_recipe().digest
    first = {str(c.origin): c for c in baselines(merge_space, ("models", "average", "mixture"))}
    assert set(first) == {*(f"model {name}" for name in MODELS), "uniform mixture"}
    assert first["uniform mixture"].recipe == uniform
    assert merge_space.recipe(first["model org/b"].point).config["mixture"][1]["weight"] == 1.0
    assert merge_space.base_point() == merge_space.source_point(1)
    assert merge_space.point_of(merge_space.model_recipe(merge_space.models[0])) is None


GENOME = """
genome:
  models: [org/a, org/b]
  space: {name: mixture%s}
%s
tasks: [x, y]
"""


def refused(settings="", more=""):
    source = parse_yaml(GENOME % (settings, more), "g.yml")
    with pytest.raises(GenomeError) as raised:
        with_space(validate_genome(source), source)
    return [problem.what for problem in raised.value.problems]


def test_what_a_mixture_cannot_do_is_told_before_a_model_is_read():
    nothing = "a mixture merges nothing: each of its models stays as it is"
    tokens = "a mixture adds probabilities token by token"
    assert refused(more="  tokenizer_source: union\n  out_dtype: float16") == [tokens, nothing]
    assert refused(more="  merge_method: ties\n  base_model: org/c") == [
        "a mixture merges nothing, got ties"
    ]
    assert refused(more="  granularity: layer") == ["space mixture does not read granularity"]
    assert "expected 'arithmetic' or 'geometric'" in refused(", mean: harmonic")[0]
    assert "expected 'model' or 'task'" in refused(", per: layer")[0]


@pytest.mark.parametrize(
    ("splits", "together"),
    [
        ("holdout: [v, w]", (("x", "v"), ("y", "w"))),
        ("validation: [y, x]", (("x",), ("y",))),
        ("holdout: [v]\nvalidation: [p, q]", (("x", "p"), ("y", "q"))),
    ],
)
def test_which_tasks_of_other_splits_have_the_weights_of_a_search_task(splits, together):
    genome = validate_genome(parse_yaml(GENOME % ("", splits), "g.yml"))
    assert tasks_together(genome) == together


def context(tmp_path, extra, **fields):
    folders = [tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b", extra_tokens=extra)]
    block = {"models": list(map(str, folders)), **fields.pop("genome")}
    text = yaml.safe_dump({"genome": block, "tasks": ["x"], **fields})
    models = [
        read_model(ModelName.model_validate(str(one)), f"m[{i}]") for i, one in enumerate(folders)
    ]
    return CheckContext(validate_genome(parse_yaml(text, "g.yml")), models=models)


def test_members_with_different_tokens_are_refused_and_the_difference_named(tmp_path):
    subject = context(tmp_path, ["<think>"], genome={"space": "mixture"})
    [found] = vocabularies(subject)
    assert "has 1 token not as in" in found.problem.what
    assert "'<think>': id 96, expected None" in found.problem.what
    assert "take models with one tokenizer" in found.problem.fix


def test_a_mixture_beside_a_search_needs_one_tokenizer_too(tmp_path):
    union = {"merge_method": "linear", "tokenizer_source": "union"}
    kinds = ["models", "mixture"]
    subject = context(tmp_path, ["<think>"], genome=union, baselines=kinds)
    [found] = mixed_vocabularies(subject)
    assert found.severity is Severity.ERROR
    assert found.problem.where == "baselines"
    assert not [*mixed_vocabularies(context(tmp_path / "same", [], genome=union, baselines=kinds))]
    assert not [*added_tokens(subject)]


def test_the_memory_of_all_members_is_counted(tmp_path):
    alone = context(tmp_path, [], genome={"merge_method": "linear"})
    beside = context(
        tmp_path, [], genome={"merge_method": "linear"}, baselines=["models", "mixture"]
    )
    mixed = context(tmp_path, [], genome={"space": "mixture"})
    sizes = [sizes_of(one.genome, one.models, "float32").n_mixed for one in (alone, beside, mixed)]
    assert sizes == [0, 2, 2]


def test_a_mixture_is_a_baseline_of_a_merge_only_where_it_is_asked_for():
    merges = build(MergeDefinition.model_validate({"models": MODELS, "merge_method": "linear"}))
    assert OriginKind.MIXTURE not in {c.origin.kind for c in baselines(merges)}
    [found] = [c for c in baselines(merges, ("models", "mixture")) if not c.origin.may_win]
    assert (str(found.origin), found.genotype) == ("uniform mixture", None)
    assert found.recipe == uniform_mixture([source.model for source in merges.definition.models])


def test_there_is_no_uniform_mixture_of_what_a_stage_merged_of_another():
    merges = build(MergeDefinition.model_validate({"models": MODELS, "merge_method": "linear"}))
    sums = Recipe({"merge_method": "linear", "models": [{"model": "org/x"}]})
    first = merges.definition.models[0].model.path
    kinds = ("models", "mixture")
    merges.made = {first: sums}
    assert [c for c in baselines(merges, kinds) if c.origin.kind is OriginKind.MIXTURE]
    last = {"merge_method": "linear", "models": [{"model": stage_name(0)}]}
    merges.made = {first: sums.of_parts([sums.config], last)}
    assert OriginKind.MIXTURE not in {c.origin.kind for c in baselines(merges, kinds)}


def test_a_mixture_is_no_seed_of_a_search_for_merges(tmp_path):
    file = tmp_path / "mixture.yml"
    file.write_text(uniform_mixture([ModelName(path=m) for m in MODELS[:2]]).to_yaml())
    text = yaml.safe_dump(
        {
            "genome": {"models": MODELS, "merge_method": "linear"},
            "tasks": ["x"],
            "optimizer": {"seed_from": [str(file)]},
        }
    )
    genome = validate_genome(parse_yaml(text, "g.yml"))
    with pytest.raises(GenomeError, match="is no merge: a mixture is several models side by side"):
        seeds_of(genome, build(genome.genome), lambda finding: None)
