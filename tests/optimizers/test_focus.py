"""Where an optimizer looks: near the start first, in steps of the parameter, whatever the box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.nouns.space import WIDEST_STEP, Choice, Integer, Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.focus import Focus
from evomerge.optimizers.search_context import SearchContext

MIXED = Space(
    (
        Real("weight", -1.5, 1.5, initial=0.3, scale=0.1),
        Real("gamma", 0.001, 0.1, log=True),
        Integer("start", 0, 3),
        Choice("method", ("linear", "ties")),
    )
)
LOOKING = sorted({*OPTIMIZERS} - {"random", "grid", "gradient"})  # they go anywhere, or learn


def weights(low, high, n=6):
    return Space(tuple(Real(f"w{i}", low, high, initial=0.3, scale=0.1) for i in range(n)))


def test_a_step_is_the_scale_and_at_most_a_sixth_of_the_range():
    steps = [Real("x", low, high, scale=0.1).step for low, high in ((0, 1), (-2, 3), (0.2, 0.4))]
    assert steps == pytest.approx([0.1, 0.02, WIDEST_STEP])
    assert MIXED.steps == pytest.approx([0.1 / 3, *[WIDEST_STEP] * 3])


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_a_scale_that_is_no_length_is_refused(scale):
    with pytest.raises(ValueError, match="a scale is above 0"):
        Real("x", 0, 1, scale=scale)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_the_view_is_the_cube_and_back(place):
    focus = Focus(MIXED)
    genotype = focus.meant(np.array(place))
    assert ((genotype >= 0) & (genotype <= 1)).all()
    np.testing.assert_allclose(focus.seen(genotype), place, atol=1e-6)
    assert (genotype[2:] == place[2:]).all()


def test_the_view_ends_some_steps_away():
    focus = Focus(weights(-4.7, 5.3))
    ends = [focus.meant(np.full(6, end)) for end in (0.0, 1.0)]
    np.testing.assert_allclose(ends, [np.full(6, 0.38), np.full(6, 0.62)])
    assert focus.holds(np.array([*ends, [0.5] * 5 + [0.9]])).tolist() == [True, True, False]


@pytest.mark.parametrize("n_asked", [0, 1])
def test_a_sampler_hears_of_no_trial_where_it_was_not(n_asked):
    space = weights(-10.0, 10.0)
    optimizer = OPTIMIZERS["tpe"](space, seed=0)
    for _ in range(n_asked):
        asked = optimizer.ask()
        optimizer.tell(asked, np.ones(len(asked)))
    far, near = space.initial + 0.4, space.initial + 0.01
    optimizer.context = replace(optimizer.context, begins_at_best=True)
    optimizer.tell(np.array([far, near]), np.array([0.0, 0.5]))
    optimizer.ask()
    values = [trial.value for trial in optimizer._study.trials if trial.value is not None]
    assert values == [1.0] * n_asked + [0.5]


def test_all_of_a_narrow_range_is_in_view():
    focus = Focus(weights(0, 1))
    for end in (0.0, 1.0):
        np.testing.assert_allclose(focus.meant(np.full(6, end)), end, atol=1e-9)


def test_half_of_what_is_drawn_lies_within_some_steps_of_the_start():
    drawn = Focus(weights(-1.5, 1.5)).meant(np.random.default_rng(0).random((4000, 6)))
    away = np.median(np.abs(3 * drawn - 1.5 - 0.3))
    assert 0.15 < away < 0.3


def first_weights(name, low, high):
    """The weights that an optimizer asks for first, in a search that knows its start alone."""
    space = weights(low, high)
    optimizer = OPTIMIZERS[name](space, seed=0, context=SearchContext(budget=60))
    asked = [list(space.decode(genotype).values()) for genotype in optimizer.ask()]
    while len(asked) < 20:
        (open_,) = [ask.genotypes for ask in optimizer._out._asks]
        optimizer.tell(open_, np.linspace(1, 2, len(open_)))
        asked += [list(space.decode(genotype).values()) for genotype in optimizer.ask()]
    return np.array(asked[:20], dtype=float)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in LOOKING if n != "llm"])
def test_a_wider_box_does_not_send_a_search_farther_away(name):
    narrow, wide = (first_weights(name, *box) for box in ((-0.9, 1.5), (-4.5, 5.5)))
    assert np.abs(wide - 0.3).mean() < 1.5 * np.abs(narrow - 0.3).mean() + 0.02


def bowl(w):
    """A score that says nothing far away, as scores of merges do."""
    return 1 - np.exp(-6 * ((w - 0.4) ** 2).sum())


@pytest.mark.parametrize("name", ["cma_es", "tpe"])
def test_a_wider_box_finds_what_a_narrow_one_finds(name):
    found = []
    for low, high in ((0, 1), (-2, 3)):
        losses = []
        for seed in range(3):
            space = weights(low, high)
            optimizer = OPTIMIZERS[name](space, seed=seed)
            start = np.array([space.initial])
            optimizer.tell(start, np.array([bowl(np.full(6, 0.3))]))
            best, n = np.inf, 0
            while n < 60:
                asked = optimizer.ask()
                values = [bowl(np.array(list(space.decode(g).values()))) for g in asked]
                optimizer.tell(asked, np.array(values))
                best, n = min(best, *values), n + len(asked)
            losses.append(best)
        found.append(np.mean(losses))
    assert max(found) < bowl(np.full(6, 0.3)) / 3
