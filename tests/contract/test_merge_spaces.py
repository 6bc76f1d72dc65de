"""What every merge space must show, for every merge method in every layout."""

from __future__ import annotations

import copy
import itertools
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import validate_genome
from evomerge.genome.methods import METHODS
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import MERGE_SPACES, merge_space_for
from evomerge.merge_spaces.unit_weights import Affine, Shares
from evomerge.nouns.space import Real
from tests.contract.merge_space_cases import CASES, GPT, LAYOUTS, LLAMA, MET, build, definition
from tests.contract.resolved import resolved

ROOT = Path(__file__).parents[2]
N_ALL_CORNERS = 3  # with more dimensions a few corners are drawn

ELSEWHERE = """
import json, sys
from tests.contract.merge_space_cases import CASES, build
spaces = {name: build(case) for name, case in CASES.items()}
print(json.dumps({name: space.recipe(space.space.decode(space.space.initial)).digest
                  for name, space in spaces.items()}))
"""


@cache
def built(name):
    return build(CASES[name])


@pytest.fixture(
    params=[pytest.param(n, marks=[] if n in MET else pytest.mark.slow) for n in sorted(CASES)]
)
def merge_space(request):
    return built(request.param)


def corners(n_dims):
    if n_dims <= N_ALL_CORNERS:
        yield from (
            np.array(corner, dtype=float) for corner in itertools.product((0, 1), repeat=n_dims)
        )
    else:
        drawn = np.random.default_rng(0).integers(0, 2, (2, n_dims))
        yield from (np.zeros(n_dims), np.ones(n_dims), *drawn.astype(float))
    yield np.full(n_dims, 0.5)


def values_at(merge_space, genotype):
    recipe = merge_space.recipe(merge_space.space.decode(genotype))
    return resolved(recipe, merge_space.architecture)


def effective(merge_space, values):
    """The values up to the scale that the method divides by."""
    name = merge_space.method.normalized_by
    totals = {}
    for (tensor, model, parameter), value in values.items():
        if parameter == "weight" and model:
            totals[tensor] = totals.get(tensor, 0.0) + value
    return {
        (tensor, model, parameter): (
            round(value / totals[tensor], 5)
            if parameter == "weight" and (name == "always" or values.get((tensor, "", name)))
            else value
        )
        for (tensor, model, parameter), value in values.items()
    }


def test_every_space_of_the_table_has_a_case_and_its_own_name():
    assert {built(name).name for name in CASES} == set(MERGE_SPACES)
    assert all(MERGE_SPACES[name].name == name for name in MERGE_SPACES)


def test_every_corner_and_the_centre_is_a_recipe_mergekit_accepts(merge_space):
    assert merge_space.space.n_dims > 0
    for genotype in (*corners(merge_space.space.n_dims), merge_space.space.initial):
        for value in values_at(merge_space, genotype).values():
            assert value is None or isinstance(value, (bool, tuple)) or np.isfinite(value)


def test_every_coordinate_changes_what_some_tensor_is_merged_with(merge_space):
    genotype = np.random.default_rng(1).uniform(0.2, 0.8, merge_space.space.n_dims)
    before = effective(merge_space, values_at(merge_space, genotype))
    for index, n_levels in enumerate(merge_space.space.levels):
        if merge_space.space.parameters[index].name in merge_space.conditional:
            continue  # what it depends on, the space's own tests set
        other = genotype.copy()
        other[index] = (other[index] + (0.15 if n_levels is None else 1 / n_levels)) % 1.0
        after = effective(merge_space, values_at(merge_space, other))
        assert after != before, merge_space.space.parameters[index].name


def test_different_points_are_different_recipes(merge_space):
    genotypes = np.random.default_rng(2).uniform(0.05, 0.95, (4, merge_space.space.n_dims))
    points = [merge_space.space.decode(genotype) for genotype in genotypes]
    different = {json.dumps(point) for point in points}
    assert len({merge_space.recipe(point).digest for point in points}) == len(different)
    values = [effective(merge_space, values_at(merge_space, genotype)) for genotype in genotypes]
    for (one, p), (other, q) in itertools.combinations(zip(values, points, strict=True), 2):
        assert (one == other) == (p == q)


def test_a_recipe_is_a_pure_function_of_its_point(merge_space):
    point = merge_space.space.decode(merge_space.space.initial)
    before = copy.deepcopy(point)
    first = merge_space.recipe(point)
    text = first.to_yaml()
    resolved(first, merge_space.architecture)
    assert merge_space.recipe(point).digest == first.digest
    assert point == before
    assert first.to_yaml() == text


def test_recipes_name_a_base_or_a_tokenizer_and_both_dtypes(merge_space):
    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial))
    assert merge_space.mixes == (recipe.pool is not None)
    if merge_space.mixes:  # its models stay as they are
        assert all(one["merge_method"] == "passthrough" for one in recipe.documents)
        return
    assert recipe.dtype == "bfloat16"
    for config in recipe.documents:
        assert "base_model" in config or "tokenizer_source" in config
        assert (config["dtype"], config["out_dtype"]) == ("float32", "bfloat16")


def test_what_a_kind_of_recipe_cannot_be_written_as_its_space_says(merge_space):
    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial))
    assert recipe.unadapted in ("", merge_space.unadapted)


def test_a_point_that_is_encoded_and_decoded_is_the_same_recipe(merge_space):
    space = merge_space.space
    point = space.decode(np.random.default_rng(3).random(space.n_dims))
    again = space.decode(space.encode(point))
    assert merge_space.recipe(again).digest == merge_space.recipe(point).digest


def test_known_points_give_a_source_the_base_or_the_average(merge_space):
    models = merge_space.definition.models
    for index in range(len(models)):
        check_known(merge_space, merge_space.source_point(index), one_hot=models[index].model.text)
    base = merge_space.definition.base_model
    check_known(merge_space, merge_space.base_point(), one_hot=base.text if base else "")
    check_known(merge_space, merge_space.average_point(), one_hot=None)


def check_known(merge_space, point, one_hot):
    """``one_hot``: the model a point gives back; None where it is the average of all."""
    if point is None:
        return
    values = effective(merge_space, resolved(merge_space.recipe(point), merge_space.architecture))
    average = pytest.approx(1 / len(merge_space.definition.models), rel=1e-4)
    for (tensor, model, parameter), value in values.items():
        if parameter == "weight":
            assert value == (average if one_hot is None else float(model == one_hot))
        elif parameter == "t":
            first, second = values.get((tensor, "", "pair")) or slerp_ends(merge_space)
            assert one_hot == {0.0: first, 1.0: second}[value]


def slerp_ends(merge_space):
    config = merge_space.recipe(merge_space.space.decode(merge_space.space.initial)).config
    base = config["base_model"]
    part = next(iter(config["modules"].values())) if "modules" in config else config
    inputs = part.get("models") or part["slices"][0]["sources"]
    return base, next(entry["model"] for entry in inputs if entry["model"] != base)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_linear_methods_know_the_points_of_all_baselines(method, layout):
    merge_space = build(definition(METHODS[method], **LAYOUTS[layout]))
    assert all(merge_space.source_point(index) is not None for index in range(3))
    assert merge_space.average_point() is not None
    assert (merge_space.base_point() is not None) == (method == "task_arithmetic")


def test_no_recipe_depends_on_the_order_of_sets():
    here = {
        name: space.recipe(space.space.decode(space.space.initial)).digest
        for name, space in ((name, build(case)) for name, case in CASES.items())
    }
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        )
        assert json.loads(done.stdout) == here


# Layouts: where values of their own stand


def groups_of_equal_values(merge_space):
    """Sets of tensors that share every value at a random point."""
    values = values_at(
        merge_space,
        np.random.default_rng(5).uniform(0.1, 0.9, merge_space.space.n_dims),
    )
    by_tensor = {}
    for (tensor, model, parameter), value in values.items():
        by_tensor.setdefault(tensor, []).append((model, parameter, value))
    groups = {}
    for tensor, found in by_tensor.items():
        groups.setdefault(repr(sorted(found, key=repr)), set()).add(short(tensor))
    return sorted(map(sorted, groups.values()))


def short(tensor):
    for long in ("model.", "layers.", ".weight", "self_attn.", "mlp.", "_tokens", "_proj"):
        tensor = tensor.replace(long, "")
    return tensor.replace("input_layernorm", "ln").replace("lm_head", "head")


def layer(*indices):
    return sorted(f"{i}.{kind}" for i in indices for kind in ("ln", "q", "q.bias", "up"))


Q, ALL = ("q", "q.bias"), (0, 1, 2)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("evolve", [["embed", "head", "norm", *layer(*ALL)]]),
        ("model", [["embed", "head", "norm", *layer(*ALL)]]),
        ("evolve-groups", [["embed", *layer(0, 1)], ["head", "norm", *layer(2)]]),
        ("layers", [["embed"], ["head"], ["norm"], layer(0, 1), layer(2)]),
        ("layer", [["embed"], ["head"], ["norm"], layer(0), layer(1), layer(2)]),
        (
            "parameter",
            [
                ["embed"],
                ["head"],
                ["norm"],
                [f"{i}.ln" for i in ALL],
                [f"{i}.{q}" for i in ALL for q in Q],
                [f"{i}.up" for i in ALL],
            ],
        ),
        (
            "tensor",
            [["embed"], ["head"], ["norm"]]
            + [[f"{i}.{kind}"] for i in ALL for kind in ("ln", "up")]
            + [[f"{i}.{q}" for q in Q] for i in ALL],
        ),
        (
            "evolve-filters",
            [
                [f"{i}.{q}" for i in (0, 1) for q in Q],
                [f"2.{q}" for q in Q],
                ["0.ln", "0.up"],
                ["1.ln", "1.up", "embed"],
                ["head"],
                ["2.ln", "2.up", "norm"],
            ],
        ),
    ],
)
@pytest.mark.parametrize("method", ["linear", "dare_ties"])
def test_tensors_share_values_exactly_as_the_layout_says(method, layout, expected):
    merge_space = build(definition(METHODS[method], **LAYOUTS[layout]))
    assert groups_of_equal_values(merge_space) == sorted(map(sorted, expected))


def test_modules_are_told_apart_in_another_architecture():
    merge_space = build(definition(METHODS["linear"], granularity="parameter"), GPT)
    assert groups_of_equal_values(merge_space) == sorted(
        [
            ["ln_f", "ln_f.bias"],
            ["wpe"],
            ["wte"],
            ["h.0.ln_1", "h.1.ln_1"],
            ["h.0.attn.c", "h.1.attn.c"],
            ["h.0.c", "h.1.c"],
            ["h.0.c_gate", "h.1.c_gate"],
        ]
    )


def test_a_smooth_profile_passes_through_its_control_points():
    merge_space = build(definition(METHODS["task_arithmetic"], layer_granularity=1, smooth=True))
    names = [p.name for p in merge_space.space if "model_0" in p.name]
    assert names == [f"weight[model_0, depth {t}]" for t in ("0", "0.5", "1")]
    point = {**merge_space.space.decode(merge_space.space.initial)}
    point.update(zip(names, (0.1, 0.5, 1.2), strict=True))
    values = resolved(merge_space.recipe(point), LLAMA)
    found = [values[f"model.layers.{i}.mlp.up_proj.weight", "org/model_0", "weight"] for i in ALL]
    assert found == [0.1, 0.5, 1.2]
    assert values["lm_head.weight", "org/model_0", "weight"] == 0.1


def test_layers_that_are_left_over_have_a_control_point_too():
    merge_space = build(definition(METHODS["linear"], layer_granularity=2, smooth=True))
    names = [p.name for p in merge_space.space if "model_0" in p.name]
    assert names == ["share[model_0, depth 0]", "share[model_0, depth 1]"]


# Settings of the genome


def weights(recipe, tensor="lm_head.weight", parameter="weight"):
    return {
        model: value
        for (name, model, p), value in resolved(recipe, LLAMA).items()
        if (name, p) == (tensor, parameter) and model
    }


def test_settings_of_a_model_and_of_a_filter_win_over_the_wider_ones():
    merge_space = build(
        definition(
            METHODS["ties"],
            normalize=False,
            models=[
                "org/a",
                {
                    "model": "org/b",
                    "parameters": {"weight": 0.3, "density": {"choice": [0.2, 0.4]}},
                },
            ],
            parameters={"weight": [{"filter": "mlp", "range": [1.0, 3.0]}, {"value": 0.5}]},
        )
    )
    assert [p.name for p in merge_space.space] == [
        "weight[a, mlp]",
        "density[a]",
        "density[b]",
    ]
    recipe = merge_space.recipe(merge_space.space.decode(np.ones(3)))
    assert weights(recipe) == {"org/a": 0.5, "org/b": 0.3}
    assert weights(recipe, "model.layers.1.mlp.up_proj.weight") == {"org/a": 3.0, "org/b": 0.3}
    assert weights(recipe, parameter="density") == {"org/a": 1.0, "org/b": 0.4}


def test_allowing_negative_weights_opens_the_range_from_the_other_side():
    merge_space = build(definition(METHODS["task_arithmetic"], allow_negative_weights=True))
    assert {(p.low, p.high) for p in merge_space.space} == {(-1.5, 1.5)}
    coupled = build(definition(METHODS["linear"], allow_negative_weights=True))
    assert {(p.low, p.high) for p in coupled.space} == {(-1.0, 1.0)}
    recipe = coupled.recipe(coupled.space.decode(np.zeros(2)))
    assert weights(recipe) == {"org/model_0": -1.0, "org/model_1": -1.0, "org/model_2": 3.0}


def test_without_them_no_weight_is_negative_and_none_is_mirrored():
    for normalize in (True, False):
        merge_space = build(definition(METHODS["ties"], normalize=normalize))
        recipe = merge_space.recipe(merge_space.space.decode(np.zeros(merge_space.space.n_dims)))
        assert min(weights(recipe).values()) >= 0


def test_weights_that_are_divided_by_their_sum_are_searched_as_shares():
    merge_space = build(definition(METHODS["linear"]))
    assert [p.name for p in merge_space.space] == ["share[model_0]", "share[model_1]"]
    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial))
    assert weights(recipe) == pytest.approx(dict.fromkeys(weights(recipe), 1 / 3), rel=1e-5)


def test_a_fixed_position_is_not_taken_for_a_source():
    merge_space = build(
        definition(
            METHODS["slerp"],
            parameters={"t": [{"filter": "mlp", "value": 0.5}, {"range": [0.0, 1.0]}]},
        )
    )
    assert merge_space.source_point(0) is None


@pytest.mark.parametrize("method", ["della", "della_linear"])
def test_della_stays_where_it_can_draw(method):
    merge_space = build(
        definition(METHODS[method], parameters={"epsilon": {"range": [0.01, 0.15]}})
    )
    for genotype in corners(merge_space.space.n_dims):
        recipe = merge_space.recipe(merge_space.space.decode(genotype))
        density, epsilon = (weights(recipe, parameter=p) for p in ("density", "epsilon"))
        for model, kept in density.items():
            assert 0 < kept - epsilon[model] < kept + epsilon[model] < 1


def test_models_are_named_apart_by_as_much_of_their_names_as_it_takes():
    models = ["a/x", "b/x", "b/y"]
    merge_space = build(definition(METHODS["task_arithmetic"], models=models))
    assert [p.name for p in merge_space.space] == [f"weight[{name}]" for name in models]


def test_a_model_with_plus_or_at_in_its_name_reads_back_as_itself():
    models = [{"model": {"path": "org/a+b"}}, {"model": {"path": "org/c@d"}}]
    merge_space = build(definition(METHODS["linear"], models=models))
    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial))
    assert len(weights(recipe)) == 2
    assert recipe.config["models"][0]["model"] == {"model": {"path": "org/a+b"}}


MISTAKES = {
    "dead parameter": (
        {"merge_method": "task_arithmetic", "parameters": {"density": {"range": [0, 1]}}},
        "genome.parameters.density: task_arithmetic reads density and ignores it. Remove it.",
    ),
    "shared parameter under a model": (
        {"models": ["a", {"model": "b", "parameters": {"lambda": 1.0}}]},
        r"genome.models\[1\].parameters.lambda: lambda belongs to the whole merge",
    ),
    "unknown parameter": (
        {"parameters": {"densty": 0.5}},
        "genome.parameters.densty: merge method ties has no parameter 'densty'; did you mean",
    ),
    "out of bounds": (
        {"parameters": {"density": {"range": [0.5, 1.5]}}},
        r"genome.parameters.density: 1.5 is outside \[0, 1\]",
    ),
    "text for a number": (
        {"parameters": {"density": "abc"}},
        "genome.parameters.density: got 'abc', expected a number",
    ),
    "boolean for a number": (
        {"parameters": {"density": True}},
        "genome.parameters.density: got True, expected a number",
    ),
    "range for a boolean": (
        {"parameters": {"rescale": {"range": [0, 1]}}},
        r"genome.parameters.rescale: got 'range \[0.0, 1.0\]', expected true or false.",
    ),
    "range for a whole number": (
        {"merge_method": "karcher", "parameters": {"max_iter": {"range": [1, 9]}}},
        "genome.parameters.max_iter: .* expected a whole number. Write {integer",
    ),
    "choice over depth": (
        {"smooth": True, "layer_granularity": 1, "parameters": {"density": {"choice": [0.1, 0.2]}}},
        "genome.parameters.density: smooth interpolates over depth",
    ),
    "list with slices": (
        {"layer_granularity": 1, "parameters": {"density": [0.1, 0.9]}},
        "genome.parameters.density: a list is interpolated anew in each of the 3 slices",
    ),
    "starts over depth with slices": (
        {
            "layer_granularity": 1,
            "parameters": {"density": {"range": [0, 1], "initial": [0.1, 0.9]}},
        },
        "genome.parameters.density: a list is interpolated anew in each of the 3 slices",
    ),
    "a start over depth outside of its range": (
        {"parameters": {"density": {"range": [0, 0.5], "initial": [0.1, 0.9]}}},
        r"genome.parameters.density: initial \[0.1, 0.9\] is outside \[0.0, 0.5\]",
    ),
    "starts over depth of a choice": (
        {"parameters": {"density": {"choice": [0.1, 0.5], "initial": [0.1, 0.5]}}},
        r"genome.parameters.density: initial \[0.1, 0.5\] goes with a range only",
    ),
    "weight range under normalize": (
        {"parameters": {"weight": {"range": [0, 2]}}},
        "genome.parameters.weight: a range for weight, while ties divides by the sum",
    ),
    "filters without a rest": (
        {"parameters": {"density": [{"filter": "mlp", "value": 0.5}]}},
        "genome.parameters.density: every entry has a filter, so other tensors have no value",
    ),
    "filter that finds nothing": (
        {"filters": ["mlp", "self_atn"]},
        r"genome.filters\[1\]: 'self_atn' is in no tensor's name",
    ),
    "filter hidden by another": (
        {"filters": ["self_attn", "q_proj"]},
        r"genome.filters\[1\]: 'q_proj' is in no tensor's name that the entries before it leave",
    ),
    "parameter filter that finds nothing": (
        {"parameters": {"density": [{"filter": "mpl", "value": 0.5}, {"value": 0.4}]}},
        "genome.parameters.density: 'mpl' is in no tensor's name",
    ),
    "normalize twice": (
        {"normalize": True, "parameters": {"normalize": False}},
        "genome.parameters.normalize: stands beside genome.normalize. Drop one",
    ),
    "normalize as a range": (
        {"parameters": {"normalize": {"choice": [True, False]}}},
        "genome.parameters.normalize: expected true or false",
    ),
    "normalize where there is none": (
        {"merge_method": "sce", "normalize": True},
        "genome.normalize: sce has no such parameter",
    ),
    "nothing varies": (
        {"parameters": {"weight": 0.5, "density": 0.5}},
        "genome.merge_method: nothing varies: ties has no parameter left to search. Open one of",
    ),
    "nothing can vary": (
        {"merge_method": "arcee_fusion", "models": ["a"]},
        "genome.merge_method: nothing varies: arcee_fusion has no parameter left to search. Merge",
    ),
    "della out of reach": (
        {"merge_method": "della", "parameters": {"density": {"range": [0.1, 0.9]}}},
        r"genome.parameters.density: density in \[0.1, 0.9\] with epsilon up to 0.15",
    ),
    "slerp over many by kind": (
        {"merge_method": "slerp", "models": ["a", "b", "c"], "granularity": "parameter"},
        "genome.granularity: slerp over 3 models chooses one pair per layer group",
    ),
}


def loaded(data):
    """A genome block as a file gives it; its own contradictions end here."""
    text = yaml.safe_dump({"genome": data, "tasks": ["x"]})
    return validate_genome(parse_yaml(text, "g.yml")).genome


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_a_setting_that_contradicts_the_method_names_its_key(mistake):
    fields, message = MISTAKES[mistake]
    data = {"models": ["a", "b"], "base_model": "c", "merge_method": "ties", **fields}
    with pytest.raises(GenomeError, match=message):
        build(loaded(data))


def test_a_range_with_starts_over_depth_has_a_coordinate_for_each():
    weight = {"range": [0, 1], "initial": [0.1, 0.9, 0.4]}
    data = {"models": ["a", "b"], "base_model": "c", "merge_method": "task_arithmetic"}
    space = build(loaded({**data, "parameters": {"weight": weight, "int8_mask": True}}))
    assert space.space.n_dims == 6
    config = space.recipe(space.space.decode(space.space.initial)).config
    assert config["models"][1]["parameters"]["weight"] == pytest.approx([0.1, 0.9, 0.4])
    assert "int8_mask" not in config["parameters"]


def test_a_number_for_a_truth_value_is_read_as_mergekit_reads_it():
    data = {"models": ["a", "b"], "base_model": "c", "merge_method": "dare_ties"}
    space = build(loaded({**data, "parameters": {"normalize": 0.0, "rescale": 1.0}}))
    assert space.given.normalize is False
    assert space.recipe(space.space.decode(space.space.initial)).config["parameters"] == {
        "normalize": False,
        "rescale": 1.0,
    }


@pytest.mark.parametrize(
    ("method", "models", "message"),
    [
        ("slerp", ["a"], "slerp merges exactly 1"),
        ("nearswap", ["a", "b", "d"], "nearswap merges exactly 1"),
        ("arcee_fusion", ["a", "b", "d"], "arcee_fusion merges exactly 1"),
        ("nuslerp", ["a"], "nuslerp merges exactly 2"),
        ("nuslerp", ["a", "b", "d"], "nuslerp merges exactly 2"),
        ("passthrough", ["a", "b"], "passthrough merges exactly 1"),
        ("model_stock", ["a"], "model_stock merges at least 2"),
    ],
)
def test_a_wrong_number_of_models_is_refused(method, models, message):
    base = {"slerp": None, "nuslerp": None, "passthrough": None}.get(method, "c")
    data = {"models": models, "base_model": base, "merge_method": method}
    with pytest.raises(
        GenomeError, match=f"genome.models: {message} .*got {len(models) - (method == 'slerp')}"
    ):
        build(loaded(data))


def test_all_contradictions_are_reported_at_once():
    data = {"models": ["a", "b"], "base_model": "c", "merge_method": "ties"}
    parameters = {"densty": 1, "weight": "x", "int8_mask": {"choice": [True, False]}}
    with pytest.raises(GenomeError, match="densty") as raised:
        loaded({**data, "parameters": parameters})
    assert len(raised.value.problems) == 3


# Weights that sum to 1

SIMPLEX = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6).filter(lambda w: sum(w) > 1e-3)


def names(n):
    return tuple(f"w{index}" for index in range(n - 1))


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6))
def test_shares_are_never_negative_and_sum_to_1(coordinates):
    found = Shares(names(len(coordinates) + 1)).decode(coordinates)
    assert min(found) >= 0
    assert sum(found) == pytest.approx(1.0)


@given(SIMPLEX)
def test_shares_decode_what_they_encoded(given_weights):
    total = sum(given_weights)
    coupled = Shares(names(len(given_weights)))
    coordinates = coupled.encode(given_weights)
    assert all(-1e-9 <= u <= 1 + 1e-9 for u in coordinates)
    decoded = coupled.decode([min(max(u, 0.0), 1.0) for u in coordinates])
    # A coordinate near 1 is the k-th power of what it leaves to k sources, less than one step.
    finest = np.finfo(float).eps ** (1 / len(coordinates))
    assert decoded == pytest.approx([w / total for w in given_weights], abs=2 * finest)


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=6))
def test_affine_weights_sum_to_1_and_decode_what_they_encoded(coordinates):
    coupled = Affine(names(len(coordinates) + 1), -1.0, 1.0)
    found = coupled.decode(coordinates)
    assert sum(found) == pytest.approx(1.0)
    assert coupled.encode(found) == pytest.approx(coordinates, abs=1e-9)


@pytest.mark.parametrize("kind", [Shares, lambda names: Affine(names, -1.0, 1.0)])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_coupled_weights_start_equal(kind, n):
    coupled = kind(names(n))
    assert all(isinstance(p, Real) for p in coupled.parameters)
    assert coupled.decode([p.initial for p in coupled.parameters]) == pytest.approx([1 / n] * n)


def test_uniform_coordinates_give_weights_uniform_on_the_simplex():
    coordinates = np.random.default_rng(0).random((4000, 2))
    found = np.array([Shares(names(3)).decode(list(u)) for u in coordinates])
    assert found.mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.02)
    assert found.var(axis=0) == pytest.approx([1 / 18] * 3, abs=0.005)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_search_with_more_sources_still_knows_each_of_them(data):
    n = data.draw(st.integers(2, 6))
    models = [f"org/m{index}" for index in range(n)]
    merge_space = build(definition(METHODS["linear"], models=models))
    index = data.draw(st.integers(0, n - 1))
    found = weights(merge_space.recipe(merge_space.source_point(index)))
    assert found == {model: float(model == models[index]) for model in models}


def test_the_space_for_three_slerp_models_is_pairs():
    assert merge_space_for(CASES["slerp-three"]) is MERGE_SPACES["slerp_pairs"]


@pytest.mark.parametrize(
    ("values", "has_parents"),
    [({"choice": [0, 0.5, 1]}, True), ({"integer": [0, 3]}, True), ({"choice": [0.2, 0.5]}, False)],
)
def test_weights_may_be_choices_and_whole_numbers(values, has_parents):
    block = definition(METHODS["task_arithmetic"], parameters={"weight": values})
    space = build(block)
    point = space.source_point(0)
    assert (point is not None) == has_parents
    if point is not None:
        assert space.space.decode(space.space.encode(point)) == point
    assert space.average_point() is None
