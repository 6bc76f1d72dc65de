from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.nouns.space import Choice, Integer, Real, Space, from_data, to_data

COORDINATES = st.floats(0.0, 1.0)


@st.composite
def reals(draw, name="real"):
    log = draw(st.booleans())
    if log:
        low = draw(st.floats(1e-6, 1e3))
        return Real(name, low, low * draw(st.floats(1.01, 1e6)), log=True)
    low = draw(st.floats(-1e3, 1e3))
    return Real(name, low, low + draw(st.floats(1e-2, 1e3)))


@st.composite
def integers(draw, name="integer"):
    low = draw(st.integers(-1000, 1000))
    return Integer(name, low, low + draw(st.integers(1, 1000)))


@st.composite
def choices(draw, name="choice"):
    kind = draw(st.sampled_from([st.text(max_size=5), st.integers(), st.floats(-9.0, 9.0)]))
    return Choice(name, tuple(draw(st.lists(kind, min_size=2, max_size=9, unique=True))))


@st.composite
def spaces(draw):
    kinds = draw(st.lists(st.sampled_from([reals, integers, choices]), min_size=1, max_size=6))
    return Space(tuple(draw(kind(f"p{index}")) for index, kind in enumerate(kinds)))


def values_of(parameter):
    if isinstance(parameter, Real):
        return st.floats(parameter.low, parameter.high)
    if isinstance(parameter, Integer):
        return st.integers(parameter.low, parameter.high)
    return st.sampled_from(parameter.values)


@given(reals(), COORDINATES)
def test_a_real_gives_back_the_coordinate_it_decoded(real, coordinate):
    assert math.isclose(
        real.encode(real.decode(coordinate)), coordinate, rel_tol=1e-9, abs_tol=1e-9
    )


@given(spaces(), st.data())
def test_every_kind_gives_back_the_value_it_encoded(space, data):
    for parameter in space:
        value = data.draw(values_of(parameter))
        decoded = parameter.decode(parameter.encode(value))
        if isinstance(parameter, Real):
            assert math.isclose(decoded, value, rel_tol=1e-9, abs_tol=1e-9)
        else:
            assert decoded == value


@given(spaces(), st.data())
def test_points_stay_inside_their_bounds(space, data):
    genotype = np.array(data.draw(st.lists(COORDINATES, min_size=len(space), max_size=len(space))))
    point = space.decode(genotype)
    for parameter in space:
        value = point[parameter.name]
        if isinstance(parameter, Choice):
            assert value in parameter.values
        else:
            assert parameter.low <= value <= parameter.high


@given(st.one_of(reals(), integers()), COORDINATES, COORDINATES)
def test_larger_coordinates_mean_no_smaller_numbers(parameter, one, other):
    low, high = sorted((one, other))
    assert parameter.decode(low) <= parameter.decode(high)


@given(spaces())
def test_a_point_holds_the_parameters_in_the_order_of_the_space(space):
    assert list(space.decode(np.full(len(space), 0.5))) == [p.name for p in space]


@given(spaces())
def test_a_space_is_read_back_from_its_data(space):
    assert from_data(to_data(space)) == space


@given(st.one_of(integers(), choices()))
def test_a_discrete_parameter_gives_each_value_the_same_share_of_its_coordinate(parameter):
    n = parameter.n_values
    found = [parameter.decode((index + 0.5) / n) for index in range(n)]
    assert len(set(found)) == n
    middles = (np.arange(n) + 0.5) / n
    assert [parameter.encode(value) for value in found] == pytest.approx(middles.tolist())
    for within in (0.01, 0.99):
        assert [parameter.decode((index + within) / n) for index in range(n)] == found
    assert parameter.decode(0.0) == found[0]
    assert parameter.decode(1.0) == found[-1]


def test_both_ends_of_the_coordinate_are_the_ends_of_the_range():
    for real in (Real("x", -2.0, 3.0), Real("x", 1e-5, 0.1, log=True)):
        assert (real.decode(0.0), real.decode(1.0)) == (real.low, real.high)
        assert (real.encode(real.low), real.encode(real.high)) == (0.0, 1.0)


def test_the_middle_of_a_log_range_is_its_geometric_mean():
    assert Real("x", 1e-4, 1e-2, log=True).decode(0.5) == pytest.approx(1e-3)


def test_values_outside_a_range_go_to_its_edge():
    assert Real("x", 0.0, 1.0).encode(7.0) == 1.0
    assert Integer("x", 1, 4).decode(Integer("x", 1, 4).encode(9)) == 4


def test_a_search_starts_at_the_initial_values_and_else_in_the_middle():
    space = Space(
        (Real("a", 0.0, 2.0, initial=0.5), Real("b", 0.0, 2.0), Choice("c", (1, 2), initial=2))
    )
    assert space.initial == pytest.approx([0.25, 0.5, 0.75])
    assert space.levels == (None, None, 2)
    assert space.is_ordered == (True, True, False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Real("x", 1.0, 1.0), r"x: range \[1.0, 1.0\]"),
        (lambda: Real("x", 0.0, math.inf), "x: range .* not finite"),
        (lambda: Real("x", 0.0, 1.0, log=True), "x: a log range needs low > 0, got 0.0"),
        (lambda: Real("x", 0.0, 1.0, initial=2.0), "x: initial 2.0 is outside"),
        (lambda: Integer("x", 3, 3), r"x: integer range \[3, 3\]"),
        (lambda: Integer("x", 3, 5, initial=6), "x: initial 6 is outside"),
        (lambda: Choice("x", ("a",)), "x: a choice needs two or more different values"),
        (lambda: Choice("x", ("a", "a")), "x: a choice needs two or more different values"),
        (lambda: Choice("x", ("a", "b"), initial="c"), "x: initial 'c' is not among"),
        (lambda: Space((Real("x", 0, 1), Integer("x", 0, 1))), "names stand twice .*: x"),
    ],
)
def test_refuses_what_cannot_be_searched_with_the_value_it_got(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_refuses_a_point_with_names_the_space_lacks():
    with pytest.raises(ValueError, match="parameters that the space lacks: y"):
        Space((Real("x", 0.0, 1.0),)).encode({"x": 0.5, "y": 1.0})


def test_refuses_a_genotype_of_another_length():
    with pytest.raises(ValueError, match="zip"):
        Space((Real("x", 0.0, 1.0),)).decode(np.array([0.1, 0.2]))
