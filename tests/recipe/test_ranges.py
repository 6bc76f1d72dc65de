"""The range a number of a recipe is opened into: the rule of the page, by kind of parameter."""

from __future__ import annotations

import pytest

from evomerge.genome.methods import METHODS
from evomerge.genome.parameter_values import Setting
from evomerge.recipe.effective import ParameterEntry
from evomerge.recipe.ranges import della_bounds, opened, strongest

RULE = {
    ("linear", "weight", 0.6): {"range": [0.0, 1.2]},
    ("linear", "weight", 0.1): {"range": [0.0, 0.5]},
    ("ties", "weight", -0.7): {"range": [-1.4, 0.0]},
    ("passthrough", "scale", 0.0): {"range": [0.0, 0.5]},
    ("ties", "density", 0.6): {"range": [0.35, 0.85]},
    ("dare_ties", "density", 1.0): {"range": [0.75, 1.0]},
    ("ties", "density", 0.01): {"range": [0.01, 0.26]},
    ("sce", "select_topk", 0.9): {"range": [0.65, 1.0]},
    ("slerp", "t", 0.1): {"range": [0.0, 0.35]},
    ("slerp", "t", 1.5): {"range": [1.25, 1.5]},
    ("nearswap", "t", 0.001): {"range": [0.00025, 0.004], "log": True},
    ("breadcrumbs", "gamma", 0.02): {"range": [0.005, 0.08], "log": True},
    ("ramplus_tl", "alpha", 0.2): {"range": [0.05, 0.8], "log": True},
    ("ties", "lambda", 1.0): {"range": [0.5, 2.0]},
    ("karcher", "max_iter", 5): {"integer": [1, 20]},
    ("karcher", "max_iter", 40): {"integer": [1, 40]},
}


@pytest.mark.parametrize(("method", "name", "value"), RULE)
def test_a_number_becomes_a_range_that_begins_at_it(method, name, value):
    parameter = METHODS[method].parameter(name)
    setting = opened(METHODS[method], parameter, (ParameterEntry(None, value),))
    assert setting == {**RULE[method, name, value], "initial": value}
    assert Setting.model_validate(setting)


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("karcher", "tol", 1e-9),
        ("multislerp", "eps", 1e-8),
        ("ties", "normalize", True),
        ("ties", "rescale", False),
        ("della", "density", 1.0),
    ],
)
def test_what_nobody_searches_stays(method, name, value):
    parameter = METHODS[method].parameter(name)
    assert opened(METHODS[method], parameter, (ParameterEntry(None, value),)) == value


def test_filters_stay_and_depth_shares_a_range():
    entries = (ParameterEntry("mlp", [0.2, 0.8]), ParameterEntry(None, 0.5))
    ties = METHODS["ties"]
    assert opened(ties, ties.parameter("density"), entries) == [
        {"filter": "mlp", "range": [0.05, 1.0], "initial": [0.2, 0.8]},
        {"range": [0.25, 0.75], "initial": 0.5},
    ]
    groups = (ParameterEntry(None, [0.2, 0.8]),)
    over_groups = opened(ties, ties.parameter("density"), groups, over_depth=False)
    assert over_groups == {"range": [0.05, 1.0], "initial": 0.5}


@pytest.mark.parametrize(
    ("density", "epsilon"), [(0.5, 0.4), (0.3, 0.05), (0.9, 0.08), (0.15, 0.1)]
)
def test_della_has_room_at_every_corner(density, epsilon):
    bounds = della_bounds([(ParameterEntry(None, density),)], [(ParameterEntry(None, epsilon),)])
    low, high = bounds["density"]
    largest = bounds["epsilon"][1]
    assert low - largest > 0
    assert high + largest < 1
    assert low < density < high
    assert epsilon < largest


def test_della_without_room_is_left_to_the_check():
    assert della_bounds([(ParameterEntry(None, 0.9),)], [(ParameterEntry(None, 0.2),)]) == {}


def test_the_weight_that_stays_is_nowhere_small():
    weights = [
        (ParameterEntry("mlp", 0.9), ParameterEntry(None, 0.0)),
        (ParameterEntry(None, [0.5, 0.3]),),
    ]
    assert strongest(weights) == 1
