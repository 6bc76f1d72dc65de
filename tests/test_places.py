"""Where in a model the coordinates of a space belong."""

from __future__ import annotations

import pytest

from evomerge.genome.methods import METHODS
from evomerge.merge_spaces.coordinate_places import places_of
from tests.contract.merge_space_cases import CASES, build, definition


def places(method, **fields):
    merge_space = build(definition(METHODS[method], **fields))
    found = places_of(merge_space)
    assert found is not None
    by_place = {}
    for parameter, place in zip(merge_space.space, found.tolist(), strict=True):
        by_place.setdefault(place, []).append(parameter.name)
    assert sorted(by_place) == list(range(len(by_place)))
    return [by_place[place] for place in sorted(by_place)]


def test_weights_of_all_models_in_a_layer_group_are_one_place():
    found = places("task_arithmetic", layer_granularity=2)
    assert [len(names) for names in found] == [len(found[0])] * len(found)
    for names in found:
        assert len({name.split(", ", 1)[1] for name in names}) == 1  # the same layers
        assert len({name.split("[")[1].split(",")[0] for name in names}) == len(names)
    depths = [int(names[0].rstrip("]").rsplit(" ", 1)[1].split("-")[0]) for names in found]
    assert depths == sorted(depths)


def test_what_lies_outside_the_layers_stands_at_its_end():
    found = places("task_arithmetic", granularity="layers", layer_granularity=2)
    assert all("embeddings" in name for name in found[0])
    ends = [name for names in found[-2:] for name in names]
    assert all("head" in name or "final norm" in name for name in ends)


def test_filters_are_places_of_their_own():
    found = places("task_arithmetic", layer_granularity=2, filters=["mlp", "self_attn"])
    assert len(found) == 3 * len(places("task_arithmetic", layer_granularity=2))


def test_numbers_of_several_kinds_in_one_place_belong_together():
    for names in places("dare_ties", layer_granularity=2):
        assert {name.partition("[")[0] for name in names} >= {"share", "density"}


def test_points_of_a_depth_profile_follow_the_layers():
    found = places("task_arithmetic", layer_granularity=2, smooth=True)
    depths = [float(names[0].rstrip("]").rsplit(" ", 1)[1]) for names in found]
    assert depths == sorted(depths)
    assert len(depths) > 1


@pytest.mark.parametrize("name", ["linear-model", "slerp-model", "slerp-three"])
def test_one_place_or_none_is_no_order(name):
    assert places_of(build(CASES[name])) is None


def test_every_coordinate_of_every_space_has_its_place():
    for case in CASES.values():
        merge_space = build(case)
        found = places_of(merge_space)
        assert found is None or found.shape == (merge_space.space.n_dims,)
