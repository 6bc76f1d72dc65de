"""Merges a search begins from, and the points their recipes are read back to."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from evomerge.compiler.seeds import seeds_of
from evomerge.foundations.errors import GenomeError
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.methods import METHODS
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.baselines import baselines
from evomerge.merge_spaces.layer_paths.layer_space import LayerSpace
from evomerge.merge_spaces.read_back import TOLERANCE
from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.chain import Chain, Link
from evomerge.optimizers.islands import Islands
from evomerge.optimizers.search_context import SearchContext
from evomerge.recipe.plain import Recipe
from tests.contract.merge_space_cases import CASES, GATED, LLAMA, MET, build, definition
from tests.optimizers.labels import labels_of
from tests.recorded_runs import record_run

FILTERED = {"merge_method": "linear", "filters": ["mlp", "self_attn"], "layer_granularity": 2}


def space_of(**fields):
    method = fields.pop("merge_method")
    return build(definition(METHODS[method], **fields))


def genome_from(*names, **fields):
    data = {
        "genome": {"models": ["org/a", "org/b"], "merge_method": "linear"},
        "tasks": ["arc_easy"],
        "optimizer": {"name": "random", "seed_from": list(map(str, names))},
        **fields,
    }
    return Genome.model_validate(data)


def written(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.fixture
def merge_space():
    return space_of(merge_method="task_arithmetic")


def some_recipe(merge_space, seed=0):
    genotype = np.random.default_rng(seed).random(merge_space.space.n_dims)
    return merge_space.recipe(merge_space.space.decode(genotype))


def numbers(config):
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        return [number for part in config for number in numbers(part)]
    return [float(config)] if isinstance(config, (int, float)) else []


# Reading


def test_the_recipe_of_a_point_is_read_back_to_it():
    for name in sorted(MET):
        merge_space = build(CASES[name])
        if type(merge_space).point_of is not MergeSpace.point_of:  # it reads none
            recipe = some_recipe(merge_space)
            kept = Recipe(json.loads(json.dumps(recipe.config)))
            point = merge_space.point_of(kept)
            assert point is not None, name
            again, expected = numbers(merge_space.recipe(point).config), numbers(recipe.config)
            np.testing.assert_allclose(again, expected, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", ["task_arithmetic-evolve", "linear-layers", "slerp-model"])
def test_the_points_of_parents_and_average_are_read_back(name):
    merge_space = build(CASES[name])
    points = [merge_space.source_point(0), merge_space.average_point()]
    for point in filter(None, points):
        assert merge_space.point_of(merge_space.recipe(point)) == pytest.approx(point, abs=1e-4)


def broken_recipes():
    def without_filters(config):
        for slice_ in config["slices"]:
            for source in slice_["sources"]:
                source["parameters"]["weight"] = [{"filter": "norm", "value": 0.5}, {"value": 0.5}]

    def with_a_text_among_filters(config):
        config["slices"][0]["sources"][0]["parameters"]["weight"].append("mlp")

    def without_weight(config):
        for slice_ in config["slices"]:
            for source in slice_["sources"]:
                for entry in source["parameters"]["weight"]:
                    entry["value"] = 0.0

    def with_a_text_for_a_number(config):
        config["slices"][0]["sources"][0]["parameters"]["weight"][0]["value"] = "a lot"

    def without_slices(config):
        del config["slices"]

    def with_no_slices(config):
        config["slices"] = None

    def with_other_method(config):
        config["merge_method"] = "ties"

    def with_other_dtype(config):
        config["dtype"] = "bfloat16"

    def with_a_model_less(config):
        config["slices"][0]["sources"].pop()

    return [value for value in locals().values() if callable(value)]


@pytest.mark.parametrize("change", broken_recipes(), ids=lambda change: change.__name__)
def test_a_recipe_that_is_no_point_has_none(change):
    merge_space = space_of(**FILTERED)
    recipe = some_recipe(merge_space)
    config = copy.deepcopy(dict(recipe.config))
    assert merge_space.point_of(Recipe(copy.deepcopy(config))) is not None
    change(config)
    assert merge_space.point_of(Recipe(config)) is None


def test_values_outside_the_range_are_no_point(merge_space):
    config = copy.deepcopy(dict(some_recipe(merge_space).config))
    config["models"][0]["parameters"]["weight"] = 7.0
    assert merge_space.point_of(Recipe(config)) is None


def shared_family(**fields):
    """A space of four models, and the same one told which of them hold equal tensors."""
    block = definition(METHODS[fields.pop("merge_method")], granularity="layer", **fields)
    names = [source.model for source in block.models] + [block.base_model]
    equal = {
        **{name: dict.fromkeys(names, 0) for name in LLAMA.embeddings},
        **{name: {names[0]: 0, names[-1]: 0} for name in LLAMA.final_norm},  # one is the base
    }
    return build(block), build(block, replace(LLAMA, alike=equal))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "linear", "ties"])
def test_values_that_change_nothing_are_no_reason_to_be_outside(name, normalize):
    base = {"base_model": "org/base"} if name != "linear" else {"base_model": "org/model_0"}
    whole, less = shared_family(merge_method=name, normalize=normalize, **base)
    assert less.idle or (name == "linear" and not normalize)
    point = less.point_of(some_recipe(whole))
    assert point is not None
    same = {p.name for p in less.space} & {p.name for p in whole.space if p.name[:5] != "share"}
    genotype = np.random.default_rng(0).random(whole.space.n_dims)
    drawn = whole.space.decode(genotype)
    assert {n: point[n] for n in same} == pytest.approx({n: drawn[n] for n in same}, abs=1e-4)


@pytest.mark.parametrize("density", [0.3, 1e-3, 1])
def test_what_is_said_of_a_model_of_weight_0_is_no_reason_to_be_outside(density):
    space = space_of(merge_method="dare_ties", normalize=False)
    config = copy.deepcopy(dict(some_recipe(space).config))
    config["models"][0]["parameters"] = {"weight": 0, "density": density}
    point = space.point_of(Recipe(config))
    assert point["weight[model_0]"] == 0
    config["models"][0]["parameters"]["weight"] = 0.1
    within = next(p for p in space.space if p.name == "density[model_0]").holds(float(density))
    assert (space.point_of(Recipe(config)) is not None) == within


def test_weights_of_which_the_method_takes_shares_are_read_at_any_scale():
    space = space_of(merge_method="linear", models=["org/a", "org/b"])
    config = copy.deepcopy(dict(some_recipe(space).config))
    for entry, weight in zip(config["models"], (0.6, 1.8), strict=True):
        entry["parameters"]["weight"] = weight
    again = space.recipe(space.point_of(Recipe(config)))
    assert [e["parameters"]["weight"] for e in again.config["models"]] == [0.25, 0.75]


def test_pairs_of_models_are_not_read(merge_space):
    pairs = build(CASES["slerp-three"])
    assert pairs.point_of(some_recipe(pairs)) is None


# Seeds


def test_a_recipe_that_is_a_point_has_its_genotype(tmp_path, merge_space):
    recipe = some_recipe(merge_space)
    path = written(tmp_path / "winner.yml", recipe.to_yaml())
    (seed,) = seeds_of(genome_from(path), merge_space)
    assert seed.recipe.digest == recipe.digest
    assert seed.trial_id == len(baselines(merge_space))
    assert str(seed.origin) == f"seed {path}"
    assert seed.is_baseline
    assert seed.label == ""
    expected = np.random.default_rng(0).random(merge_space.space.n_dims)
    np.testing.assert_allclose(seed.genotype, expected, atol=TOLERANCE)
    assert merge_space.recipe(seed.point).digest == recipe.digest


def test_a_recipe_of_another_shape_is_tried_as_it_is(tmp_path, merge_space):
    model = merge_space.definition.models[0].model.in_recipe
    entry = {"model": model, "parameters": {"weight": 1.0}}
    config = {"merge_method": "linear", "models": [entry], "dtype": "float32"}
    (seed,) = seeds_of(genome_from(written(tmp_path / "other.yml", config)), merge_space)
    assert seed.recipe == Recipe(config)
    assert seed.genotype is None
    assert seed.point == {}


def test_a_recipe_of_other_models_is_refused(tmp_path, merge_space):
    config = {"merge_method": "linear", "models": [{"model": "org/x"}], "dtype": "float32"}
    with pytest.raises(GenomeError, match=r"merges models that this genome does not: org/x"):
        seeds_of(genome_from(written(tmp_path / "other.yml", config)), merge_space)


def test_layers_are_those_of_each_model(tmp_path):
    deep = replace(GATED, depths={ModelName.model_validate("org/b"): 5})
    block = {"models": ["org/a", "org/b"], "space": "layers"}
    space = LayerSpace(MergeDefinition.model_validate(block), deep, "float32")

    def stack(model, start, end):
        return {"sources": [{"model": model, "layer_range": [start, end]}]}

    def seeds(*slices):
        config = {"merge_method": "passthrough", "slices": list(slices), "dtype": "float32"}
        file = written(tmp_path / "path.yml", {**config, "base_model": "org/a"})
        return seeds_of(genome_from(file, genome=block), space)

    assert len(seeds(stack("org/a", 0, 3), stack("org/b", 3, 5))) == 1
    with pytest.raises(GenomeError, match=r"\[3, 6\] of org/b, which has 5 layers"):
        seeds(stack("org/a", 0, 3), stack("org/b", 3, 6))
    with pytest.raises(GenomeError, match=r"\[2, 4\] of org/a, which has 3 layers"):
        seeds(stack("org/a", 2, 4), stack("org/b", 3, 5))


MERGED = {"merge_method": "linear", "dtype": "float32"}
REFUSED = {
    "a model twice": (
        {**MERGED, "merge_method": "karcher", "models": ["org/a", "org/b", "org/a"]},
        "mergekit refuses .*refused.yml: models: org/a stands there twice",
    ),
    "no weight": (
        {**MERGED, "models": ["org/a", "org/b"]},
        "linear, model org/b: parameter weight is missing",
    ),
    "a text for a number": (
        {**MERGED, "merge_method": "slerp", "base_model": "org/a", "models": ["org/a", "org/b"]}
        | {"parameters": {"t": [{"filter": "mlp", "value": ["some", 1]}, {"value": 0}]}},
        "slerp: t is 'some': Input should be a valid number",
    ),
    "an unknown method": ({**MERGED, "merge_method": "lineal", "models": ["org/a"]}, "lineal"),
    "an unknown dtype": ({**MERGED, "dtype": "fp8", "models": ["org/a"]}, "fp8"),
    "too many models": (
        {**MERGED, "merge_method": "passthrough", "models": ["org/a", "org/b"]},
        "mergekit refuses",
    ),
    "models beside slices": (
        {**MERGED, "models": ["org/a"], "slices": [{"sources": []}]},
        "one of",
    ),
    "layers that no model has": (
        {
            "merge_method": "passthrough",
            "slices": [{"sources": [{"model": "org/a", "layer_range": [2, 40]}]}],
        },
        r"layer_range \[2, 40\] of org/a, which has \d+ layers",
    ),
    "slices of different lengths": (
        {
            "merge_method": "slerp",
            "base_model": "org/a",
            "parameters": {"t": 0.5},
            "slices": [
                {
                    "sources": [
                        {"model": "org/a", "layer_range": [0, 2]},
                        {"model": "org/b", "layer_range": [0, 3]},
                    ]
                }
            ],
        },
        r"slices\[0\]: its sources have ranges of different lengths",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_recipe_that_mergekit_refuses_is_told_before_the_run(tmp_path, name):
    config, message = REFUSED[name]
    models = [{"model": m} if isinstance(m, str) else m for m in config.get("models", [])]
    config = {**config, **({"models": models} if models else {})}
    merge_space = space_of(merge_method="linear", models=["org/a", "org/b"])
    genome = genome_from(written(tmp_path / "refused.yml", config))
    with pytest.raises(GenomeError, match=message):
        seeds_of(genome, merge_space)


def test_what_mergekit_ignores_in_a_seed_is_told_and_left_out(tmp_path, merge_space):
    recipe = some_recipe(merge_space)
    noisy = copy.deepcopy(dict(recipe.config))
    noisy |= {"name": "mine", "author": "me"}
    noisy["parameters"] = {**noisy["parameters"], "int8_mask": True}
    told = []
    path = written(tmp_path / "noisy.yml", noisy)
    (seed,) = seeds_of(genome_from(path), merge_space, told.append)
    assert seed.recipe.digest == recipe.digest
    assert {finding.problem.where for finding in told} == {"optimizer.seed_from"}
    for name in ("name", "author", "parameters.int8_mask"):
        assert any("noisy.yml:" in str(f) and f": {name}: " in str(f) for f in told), name


def test_a_merge_key_in_a_seed_gives_the_values_it_names(tmp_path, merge_space):
    models = [model.in_recipe for model in merge_space.inputs.models]
    text = "damped: &DAMPED {weight: 0.25}\nmerge_method: task_arithmetic\n"
    text += f"base_model: {models[-1]}\ndtype: float32\nout_dtype: bfloat16\nmodels:\n"
    text += "".join(f"  - {{model: {m}, parameters: {{<<: *DAMPED}}}}\n" for m in models[:-1])
    told = []
    path = written(tmp_path / "stack.yml", text)
    (seed,) = seeds_of(genome_from(path), merge_space, told.append)
    assert told == []
    assert set(seed.point.values()) == {0.25}


OTHER_FORMS = {
    "weights for all models": {"parameters": {"weight": 0.4, "density": 0.5, "normalize": 0.0}},
    "the base among the models": {
        "models": [{"model": "org/a"}, {"model": "org/base"}, {"model": "org/b"}],
        "parameters": {"weight": [{"filter": "*", "value": "0.4"}], "density": 0.5},
    },
    "one slice of all layers": {
        "models": None,
        "slices": [
            {
                "sources": [
                    {"model": "org/a", "layer_range": [0, 4], "parameters": {"weight": 0.4}},
                    {"model": "org/b", "layer_range": [0, 4]},
                ],
                "parameters": {"weight": 0.4, "density": 0.5},
            }
        ],
    },
    "one module": {
        "models": None,
        "modules": {
            "default": {
                "models": [{"model": "org/a"}, {"model": "org/b"}],
                "parameters": {"weight": {"value": 0.4}, "density": 0.5},
            }
        },
        "parameters": {"density": 0.1},
    },
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_a_point_that_is_written_in_another_form_is_read_too(name):
    models = [{"model": "org/a"}, {"model": "org/b"}]
    frame = {"merge_method": "dare_ties", "base_model": "org/base", "dtype": "float32"}
    frame["out_dtype"] = "bfloat16"
    config = {**frame, "models": models, **OTHER_FORMS[name]}
    listed = [entry["model"] for entry in config["models"] or models]
    merge_space = space_of(
        merge_method="dare_ties", models=listed, base_model="org/base", normalize=False
    )
    n_layers = merge_space.architecture.n_layers
    text = yaml.safe_dump({k: v for k, v in config.items() if v}).replace("- 4", f"- {n_layers}")
    point = merge_space.point_of(Recipe(yaml.safe_load(text)))
    assert sorted(point.values()) == pytest.approx([0.4, 0.4, 0.5, 0.5])


def test_of_a_run_it_is_the_best_few_and_of_a_best_yml_its_recipe(tmp_path):
    models = {"models": ["experts/sort", "experts/twice"], "base_model": "experts/base"}
    merge_space = space_of(merge_method="task_arithmetic", **models)
    run = record_run(tmp_path / "before")
    best = tmp_path / "before" / "best.yml"
    genome = genome_from(tmp_path / "before", best, finalists=3)
    *few, winner = seeds_of(genome, merge_space)
    ranked = [t for t in run.leaderboard.ranked() if not t.candidate.is_baseline][:3]
    assert [seed.recipe.digest for seed in few] == [t.candidate.recipe.digest for t in ranked]
    assert [str(seed.origin) for seed in few] == [
        f"seed {tmp_path / 'before'}, trial {trial.candidate.trial_id}" for trial in ranked
    ]
    assert winner.recipe.config == yaml.safe_load(best.read_text())["recipe"]
    first = len(baselines(merge_space))
    assert [seed.trial_id for seed in (*few, winner)] == [*range(first, first + 4)]


@pytest.mark.parametrize("taught_from", [None, 8])
def test_a_seed_says_whether_the_search_it_is_from_had_learned(tmp_path, taught_from):
    models = {"models": ["experts/sort", "experts/twice"], "base_model": "experts/base"}
    merge_space = space_of(merge_method="task_arithmetic", **models)
    record_run(tmp_path / "before", taught_from=taught_from)
    genome = genome_from(tmp_path / "before", tmp_path / "before" / "best.yml", finalists=5)
    *few, best = seeds_of(genome, merge_space)
    is_later = [int(str(seed.origin).rpartition(" ")[2]) - 4 >= (taught_from or 12) for seed in few]
    assert (True in is_later) == (taught_from is not None)
    assert False in is_later
    assert [seed.origin.is_taught for seed in few] == is_later
    assert best.origin.is_taught == (taught_from is not None)


def test_what_cannot_be_a_seed_is_told_all_at_once(tmp_path, merge_space):
    (tmp_path / "empty").mkdir()
    names = [
        tmp_path / "missing.yml",
        tmp_path / "empty",
        written(tmp_path / "list.yml", "[1, 2]\n"),
        written(tmp_path / "genome.yml", {"genome": {}}),
        written(tmp_path / "broken.yml", "merge_method: [linear\n"),
        written(tmp_path / "nan.yml", "merge_method: linear\nparameters: {weight: .nan}\n"),
    ]
    with pytest.raises(GenomeError, match="is no run folder") as caught:
        seeds_of(genome_from(*names), merge_space)
    problems = caught.value.problems
    assert {problem.where for problem in problems} == {"optimizer.seed_from"}
    for name in names:
        assert sum(str(name) in problem.what for problem in problems) == 1, name


def test_without_seeds_there_are_none(merge_space):
    assert seeds_of(genome_from(), merge_space) == []


# Where the search begins

CUBE = Space(tuple(Real(f"weight_{index}", 0.0, 1.0, initial=1 / 3) for index in range(12)))
SEEDS = np.random.default_rng(1).uniform(0.7, 0.9, (5, 12))
PARENTS = np.vstack([np.eye(12)[:3], np.full((1, 12), 1 / 3)])


def heard_seeds(optimizer, seed_losses=(0.30, 0.17, 0.25, 0.28, 0.26)):
    """Told of three models and their average, then of five seeds, the second the best of all."""
    optimizer.tell(
        np.vstack([PARENTS, SEEDS]), np.array([0.5, 0.6, 0.7, 0.4, *seed_losses]), [None] * 9
    )
    return optimizer


def begun_from_seeds(name, *, size=None, seeds=SEEDS, told=heard_seeds, **settings):
    kind = OPTIMIZERS[name]
    context = SearchContext(experts=PARENTS[:3], seeds=seeds)
    chosen = kind.Settings.model_validate(settings)
    return told(kind(CUBE, seed=0, population_size=size, settings=chosen, context=context))


def far(genotypes, place):
    return float(np.sqrt(((genotypes - place) ** 2).mean()))


def test_cma_es_begins_at_the_best_seed_and_looks_nearby():
    asked = begun_from_seeds("cma_es", size=200).ask()
    assert far(asked.mean(axis=0), SEEDS[1]) < 0.02
    assert asked.std(axis=0).mean() == pytest.approx(1 / 20, rel=0.2)


def test_cma_es_begins_where_it_did_when_no_seed_is_the_best():
    def told(optimizer):
        return heard_seeds(optimizer, (0.8, 0.9, 0.8, 0.9, np.inf))

    with_seeds = begun_from_seeds("cma_es", told=told).ask()
    np.testing.assert_array_equal(
        begun_from_seeds("cma_es", told=told, seeds=None).ask(), with_seeds
    )


def test_a_swarm_of_as_many_as_the_seeds_is_the_seeds():
    swarm = begun_from_seeds("swarm", size=5)
    swarm.ask()
    np.testing.assert_array_equal(swarm._own, SEEDS[[1, 2, 4, 3, 0]])
    assert swarm._own_losses.tolist() == [0.17, 0.25, 0.26, 0.28, 0.30]


def test_further_particles_begin_around_the_best_seed():
    asked = begun_from_seeds("swarm", size=30).ask()
    assert len(asked) == 25  # the losses of the five seeds are known
    assert far(asked, SEEDS[1]) == pytest.approx(1 / 20, rel=0.2)


def test_seeds_that_are_not_the_best_are_particles_before_the_models():
    def told(optimizer):
        return heard_seeds(optimizer, (0.8, 0.9, 0.7, 0.6, 0.65))

    swarm = begun_from_seeds("swarm", size=7, told=told)
    swarm.ask()
    np.testing.assert_array_equal(swarm._own[:5], SEEDS[[3, 4, 2, 0, 1]])
    np.testing.assert_array_equal(swarm._own[5:], PARENTS[:2])


def test_niches_begin_around_the_best_seed_and_mate_the_seeds():
    niches = begun_from_seeds("niches", n_startup_trials=13, spread=0.01)
    points = []
    for _ in range(4):
        points.append(niches.ask()[0])
        assert labels_of(niches) == ("first point",)
        niches.tell(points[-1][None], np.array([1.0]), [None])
    assert sum(far(point, SEEDS[1]) < 0.03 for point in points) == 2  # the others lie anywhere
    archived = [member.genotype.tolist() for member in niches._archive]
    assert all(seed in archived for seed in SEEDS.tolist())


def test_llm_begins_around_the_best_seed_when_it_begins_at_the_start():
    asked = begun_from_seeds("llm", size=40, first_generation="start", sigma_high=0.05).ask()
    assert not (asked == SEEDS[1]).all(axis=1).any()  # it is known: nobody scores it again
    assert far(asked, SEEDS[1]) == pytest.approx(0.05, rel=0.2)


def test_gradient_and_gp_hear_the_seeds_like_any_trial():
    process = begun_from_seeds("gp")
    n_asked = len(process.ask())
    assert len(process._study.trials) == 9 + n_asked
    assert begun_from_seeds("gradient")._known_start().genotype.tolist() == SEEDS[1].tolist()


def composed(kind, **arguments):
    def make(space, context):
        return OPTIMIZERS["cma_es"](space, seed=0, population_size=100, context=context)

    links = [Link("cma_es", OPTIMIZERS["cma_es"], make, 100)] * 2
    context = SearchContext(experts=PARENTS[:3], seeds=SEEDS)
    return heard_seeds(kind(links, CUBE, seed=0, context=context, **arguments))


@pytest.mark.parametrize(
    "make", [lambda: composed(Chain), lambda: composed(Islands, migrate_every=500)]
)
def test_the_first_of_a_chain_and_every_island_begin_at_the_best_seed(make):
    one = make()
    asked = one.ask()
    assert far(asked.mean(axis=0), SEEDS[1]) < 0.03
    one.tell(asked, np.ones(len(asked)), [None] * len(asked))
    assert far(one.ask().mean(axis=0), SEEDS[1]) < 0.03


def test_a_later_link_begins_at_the_best_of_all_though_a_seed_was_the_best_before():
    chain = composed(Chain)
    asked = chain.ask()
    losses = np.ones(len(asked))
    losses[7] = 0.01
    chain.tell(asked, losses, [None] * len(asked))
    later = chain.ask().mean(axis=0)
    assert far(later, asked[7]) < 0.02 < far(later, SEEDS[1])


def test_a_seed_as_good_as_a_model_is_begun_at():
    def told(optimizer):
        return heard_seeds(optimizer, (0.4, 0.9, 0.9, 0.9, 0.9))

    asked = begun_from_seeds("cma_es", size=200, told=told).ask()
    assert far(asked.mean(axis=0), SEEDS[0]) < 0.02
