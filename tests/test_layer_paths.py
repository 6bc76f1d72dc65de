"""Paths over the layers of several models: edits, masks and slices, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from evomerge.compiler.chosen_space import space_problems
from evomerge.foundations.errors import GenomeError
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.model_names import ModelName
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces.baselines import baselines
from evomerge.merge_spaces.layer_paths.layer_space import LayerSpace
from evomerge.optimizers import OPTIMIZERS
from tests.contract.merge_space_cases import GATED

SIX = replace(GATED, n_layers=6)


def space_of(architecture=SIX, models=("org/a", "org/b"), **settings):
    block = {"models": list(models), "space": {"name": "layers", **settings}}
    return LayerSpace(MergeDefinition.model_validate(block), architecture, "bfloat16")


def text(path):
    """``a0 a1 b2*0.5``: model, layer, and its weight where it is not 1."""
    return " ".join(
        f"{'abc'[hop.model]}{hop.layer}" + (f"*{hop.weight:.4g}" if hop.weight != 1 else "")
        for hop in path
    )


def edited(space, *edits, start="a"):
    """The path of edits ``(kind, layer, layers, scale)``."""
    point = dict(space.source_point("ab".index(start)))
    for index, (kind, layer, layers, scale) in enumerate(edits):
        values = {"kind": kind, "layer": layer, "layers": layers, "scale": scale}
        point |= {f"{name}[{index}]": value for name, value in values.items()}
    return text(space.path(point))


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], "a0 a1 a2 a3 a4 a5"),
        ([("skip", 1, 2, 1.0)], "a0 a3 a4 a5"),
        ([("skip", 1, 2, 0.5)], "a0 a3*0.5 a4*0.5 a5*0.5"),
        ([("repeat", 1, 2, 0.5)], "a0 a1 a2 a1*0.5 a2*0.5 a3 a4 a5"),
        ([("swap", 1, 2, 2.0)], "a0 b1*2 b2*2 a3 a4 a5"),
        ([("swap", 1, 2, 2.0), ("swap", 2, 1, 0.5)], "a0 b1*2 a2 a3 a4 a5"),
        ([("cross over", 4, 1, 1.0)], "a0 a1 a2 a3 b4 b5"),
        ([("cross over", 4, 3, 0.5)], "a0 a1 a2 a3 b2*0.5 b3*0.5 b4*0.5 b5*0.5"),
        ([("cross over", 2, 1, 1.0), ("cross over", 4, 1, 1.0)], "a0 a1 b2 b3 a4 a5"),
        # The third time is one too many.
        ([("repeat", 0, 2, 1.0), ("repeat", 1, 2, 1.0)], "a0 a1 a0 a1 a2 a3 a4 a5"),
        # Nothing would be left.
        ([("skip", 0, 3, 1.0), ("skip", 3, 3, 1.0)], "a3 a4 a5"),
    ],
)
def test_edits_do_what_they_are_called(edits, expected):
    assert edited(space_of(longest_edit=3), *edits) == expected


def test_a_path_starts_at_any_model_and_may_change_to_a_deeper_one():
    deep = replace(SIX, n_layers=4, depths={ModelName.model_validate("org/b"): 6})
    space = space_of(deep)
    assert edited(space, start="b") == "b0 b1 b2 b3 b4 b5"
    assert edited(space) == "a0 a1 a2 a3"
    assert edited(space, ("cross over", 2, 1, 1.0)) == "a0 a1 b2 b3 b4 b5"
    assert edited(space, ("cross over", 2, 1, 1.0), start="b") == "b0 b1 a2 a3"
    assert edited(space, ("swap", 5, 1, 1.0), start="b") == "b0 b1 b2 b3 b4 b5"


def test_of_three_models_an_edit_goes_to_the_next_or_the_one_after():
    space = space_of(models=("org/a", "org/b", "org/c"), edits=1)
    kinds = space.space.parameters[1].values
    assert kinds == ("none", "skip", "repeat", "swap", "swap +2", "cross over", "cross over +2")
    assert edited(space, ("swap +2", 1, 1, 1.0)) == "a0 c1 a2 a3 a4 a5"
    assert edited(space, ("cross over", 4, 1, 1.0), start="b") == "b0 b1 b2 b3 c4 c5"


def test_random_points_are_paths_that_are_not_empty_nor_longer_than_they_say():
    for space in (space_of(), space_of(longest_edit=6, repeats=3), space_of(encoding="mask")):
        for genotype in np.random.default_rng(0).random((300, space.space.n_dims)):
            path = space.path(space.space.decode(genotype))
            assert 0 < len(path) <= space.longest_path
            runs = [(hop.model, hop.layer) for hop in path]
            assert max(map(runs.count, runs)) <= space.settings.repeats


@pytest.mark.parametrize("depth", [6, 9])
@pytest.mark.parametrize("settings", [{}, {"kinds": ["repeat"]}, {"kinds": ["cross over"]}])
@pytest.mark.parametrize("repeats", [2, 3, 8])
def test_no_path_of_long_edits_is_longer_than_the_longest(depth, settings, repeats):
    deep = replace(SIX, depths={ModelName.model_validate("org/b"): depth})
    space = space_of(deep, longest_edit=4, repeats=repeats, edits=6, **settings)
    draw = np.random.default_rng(repeats)
    lengths = []
    for genotype in draw.random((400, space.space.n_dims)):
        point = space.space.decode(genotype)
        # Long edits at one place, which pile up.
        near = {f"layers[{i}]": int(draw.integers(3, 5)) for i in range(6)}
        near |= {f"layer[{i}]": int(draw.integers(1, 5)) for i in range(6)}
        lengths += [len(space.path({**point, **more})) for more in ({}, near)]
    assert max(lengths) <= space.longest_path <= repeats * (6 + depth)


def test_edits_of_one_place_make_it_longer_than_their_layers():
    space = space_of(longest_edit=4, repeats=8, edits=4, kinds=["repeat"])
    path = edited(space, *[("repeat", 1, 4, 1.0)] * 3)
    assert len(path.split()) == 6 + 4 + 8 + 16 > 6 + 4 * 4
    assert space.longest_path == 6 + 4 + 8 + 16 + 32


def test_a_mask_scales_the_stream_that_later_layers_find():
    space = space_of(encoding="mask", repeats=1)
    point = dict(space.source_point(0))
    assert text(space.path(point)) == "a0 a1 a2 a3 a4 a5"
    point |= {"run[a, 1]": "out", "run[b, 0]": "in", "scale[a, 2]": 2.0, "scale[b, 0]": 0.25}
    assert text(space.path(point)) == "a0 a2*0.5 a3*0.5 a4*0.5 a5*0.5 b0*2"
    assert text(space.path(space.source_point(1))) == "b0 b1 b2 b3 b4 b5"
    nothing = {name: "out" if name.startswith("run") else value for name, value in point.items()}
    assert text(space.path(nothing)) == "a0 a1 a2 a3 a4 a5"
    twice = space_of(encoding="mask", repeats=2)
    assert text(twice.path(twice.source_point(1))) == "b0 b1 b2 b3 b4 b5"


def test_slices_have_ends_and_scales_that_vary():
    slices = [
        {"model": "org/a", "layer_range": [0, {"integer": [3, 4]}]},
        {"model": "org/b", "layer_range": [{"integer": [1, 2]}, 6], "scale": {"range": [0.5, 2]}},
        {"model": "org/a", "layer_range": [5, 6], "scale": 0.5},
    ]
    space = space_of(encoding="slices", slices=slices)
    assert [p.name for p in space.space] == ["end[0]", "start[1]", "scale[1]"]
    path = space.path({"end[0]": 4, "start[1]": 2, "scale[1]": 0.8})
    assert text(path) == "a0 a1 a2 a3 b2*0.8 b3*0.8 b4*0.8 b5*0.8 a5*0.5"
    assert space.source_point(0) is None
    assert space.longest_path == 10


def test_layers_in_a_row_are_one_slice_and_weights_stand_where_layers_add():
    space = space_of()
    point = {**space.source_point(0), "kind[0]": "repeat", "layer[0]": 2, "scale[0]": 0.5}
    config = space.recipe(point).config
    ranges = [slice_["sources"][0]["layer_range"] for slice_ in config["slices"]]
    assert ranges == [[0, 3], [2, 3], [3, 6]]
    assert config["slices"][1]["sources"][0]["parameters"] == {
        "scale": [
            {"filter": "o_proj", "value": 0.5},
            {"filter": "down_proj", "value": 0.5},
            {"value": 1.0},
        ]
    }
    assert config["base_model"] == "org/a"


def test_models_are_tried_first_and_an_average_only_of_models_of_one_depth():
    found = [str(one.origin) for one in baselines(space_of(), ("models", "average"))]
    deep = replace(SIX, depths={ModelName.model_validate("org/b"): 8})
    assert len(found) == 3
    assert [str(one.origin) for one in baselines(space_of(deep), ("models", "average"))] == found[
        :2
    ]
    points = [one.point for one in baselines(space_of(), ("models",))]
    assert [text(space_of().path(point))[:2] for point in points] == ["a0", "b0"]


FIVE = {"model": "org/a", "layer_range": [0, 5]}
SLICE = "{model: org/a, layer_range: [0, 6]}"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("scales: [0, 2]", "scales: expected .low, high. with 0 < low <= 1 <= high"),
        ("scales: [1.1, 2]", "scales: expected .low, high. with 0 < low <= 1 <= high"),
        ("kinds: [skip, hop]", "kinds.1.: .*'skip', 'repeat', 'swap' or 'cross over'"),
        ("kinds: [skip, skip]", "kinds stand twice"),
        ("edits: 0", "edits: .*greater than or equal to 1"),
        ("encoding: tree", "encoding: .*'path', 'mask' or 'slices'"),
        ("encoding: mask, edits: 3", "edits: belongs to encoding path, got encoding mask"),
        ("encoding: slices", "slices: is missing"),
        (f"slices: [{SLICE}]", "slices: belongs to encoding slices, got encoding path"),
        (
            "encoding: slices, slices: [{model: org/a, layer_range: [{integer: [0, 4]}, 4]}]",
            "layer_range: may be empty: it starts at layer 4 at the latest",
        ),
        (
            "encoding: slices, slices: [{model: org/a, layer_range: [0, 2], scale: -1}]",
            "scale: .*expected",
        ),
    ],
)
def test_settings_that_mean_nothing_are_told_with_their_key(settings, sentence):
    block = f"{{models: [org/a, org/b], space: {{name: layers, {settings}}}}}"
    source = parse_yaml(f"genome: {block}\ntasks: [x]", "g.yml")
    definition = MergeDefinition.model_validate(yaml.safe_load(block))
    told = " / ".join(f"{p.where}: {p.what}" for p in space_problems(definition, source))
    assert re.search(sentence, told), told


@pytest.mark.parametrize(
    ("fields", "architecture", "sentence"),
    [
        ({"kinds": ["swap"]}, replace(SIX, name="Gemma2ForCausalLM"), "norm what they add"),
        ({}, replace(SIX, name="StrangeForCausalLM"), "nobody has shown"),
        ({}, replace(SIX, lists_layers=True), "lists the kind of every layer"),
        ({"encoding": "mask"}, replace(SIX, lists_layers=True), "lists the kind of every layer"),
        (
            {"encoding": "slices", "slices": [{**FIVE, "scale": {"range": [0.5, 2]}}]},
            replace(SIX, lists_layers=True),
            "lists the kind of every layer",
        ),
        ({"models": ["org/a"], "kinds": ["swap"]}, SIX, "take two models or more, got 1"),
        ({"kinds": ["repeat"], "repeats": 1}, SIX, "every layer may run once"),
        ({"longest_edit": 7}, SIX, "expected at most 6"),
        (
            {"encoding": "slices", "slices": [{"model": "org/c", "layer_range": [0, 2]}]},
            SIX,
            "org/c is none of genome.models",
        ),
        (
            {
                "encoding": "slices",
                "slices": [{"model": "org/a", "layer_range": [0, {"integer": [3, 7]}]}],
            },
            SIX,
            "ends before layer 7, org/a has 6 layers",
        ),
        (
            {"encoding": "slices", "slices": [{"model": "org/a", "layer_range": [0, 2]}]},
            SIX,
            "nothing varies",
        ),
        ({"tokenizer_source": "base"}, SIX, "one vocabulary"),
        ({"merge_method": "linear"}, SIX, "merges by passthrough, got linear"),
    ],
)
def test_what_the_models_cannot_do_is_refused(fields, architecture, sentence):
    of_genome = {k: v for k, v in fields.items() if k in ("tokenizer_source", "merge_method")}
    models = fields.get("models", ["org/a", "org/b"])
    rest = {k: v for k, v in fields.items() if k not in of_genome and k != "models"}
    block = {"models": models, "space": {"name": "layers", **rest}, **of_genome}
    with pytest.raises(GenomeError, match=sentence):
        LayerSpace(MergeDefinition.model_validate(block), architecture, "bfloat16")


TAKERS = [n for n in OPTIMIZERS if not OPTIMIZERS[n].continuous_only and n not in ("auto", "llm")]


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("encoding", ["path", "mask"])
def test_every_optimizer_that_chooses_finds_paths(name, encoding):
    space = space_of(encoding=encoding)
    optimizer = OPTIMIZERS[name](space.space, seed=0)
    seen = set()
    for _ in range(4):
        genotypes = optimizer.ask()
        paths = [space.path(space.space.decode(one)) for one in genotypes]
        seen |= {text(path) for path in paths}
        optimizer.tell(genotypes, np.array([[float(len(path))] for path in paths]))
    assert len(seen) > 1


def test_paths_of_one_length_fit_configurations_that_list_layers():
    fields = {"kinds": ["swap", "cross over"], "longest_edit": 1}
    space = space_of(replace(SIX, lists_layers=True), **fields)
    for genotype in np.random.default_rng(1).random((50, space.space.n_dims)):
        assert len(space.path(space.space.decode(genotype))) == 6
