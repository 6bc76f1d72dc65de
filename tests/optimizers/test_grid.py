"""Grid search tries every combination once, and says before a run how many there are."""

import itertools

import numpy as np
import pytest

from evomerge.compiler.make_optimizer import obstacles, oddities
from evomerge.nouns.space import Choice, Integer, Real, Space
from evomerge.optimizers.grid import Grid, GridSettings
from tests.optimizers.test_oddities import searched

MIXED = Space(
    (Real("weight", 0.0, 2.0), Choice("method", ("linear", "ties", "slerp")), Integer("cut", 1, 2))
)


def round_of(space, seed=0, size=1, **settings):
    """Points of one round, generation by generation."""
    grid = Grid(space, seed=seed, population_size=size, settings=GridSettings(**settings))
    while not grid.is_finished:
        asked = grid.ask()
        grid.tell(asked, np.zeros(len(asked)))
        yield [tuple(space.decode(one).values()) for one in asked]


@pytest.mark.parametrize("size", [1, 7])
def test_every_combination_is_tried_once(size):
    generations = list(round_of(MIXED, size=size, n_values=3))
    every = itertools.product((0.0, 1.0, 2.0), ("linear", "ties", "slerp"), (1, 2))
    assert sorted(itertools.chain(*generations)) == sorted(every)
    assert [len(one) for one in generations] == ([1] * 18 if size == 1 else [7, 7, 4])


def test_the_order_is_drawn_from_the_seed():
    orders = {str(list(round_of(MIXED, seed, n_values=3))) for seed in range(5)}
    assert len(orders) == 5


def test_a_grid_beyond_counting_costs_nothing_to_begin():
    space = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(500)))
    grid = Grid(space, seed=0, population_size=3)
    assert len({tuple(one) for one in grid.ask()}) == 3
    assert not grid.is_finished


def test_more_combinations_than_trials_are_refused_with_their_number():
    place = "optimizer.budget: the grid has 27 combinations of 3 parameters, the budget is"
    assert obstacles(*searched("{name: grid, n_values: 3, budget: 27}")) == []
    (found,) = obstacles(*searched("{name: grid, n_values: 3, budget: 26}"))
    fix = "Raise it to 27, make n_values fewer, or use optimizer: auto."
    assert str(found) == f"{place} 26 trials. {fix}"


def test_a_part_of_a_chain_is_told_of_its_own_part_of_the_budget():
    chain = searched("{budget: 40, chain: [{name: grid, n_values: 3, budget: 20}, tpe]}")
    assert obstacles(*chain) == []
    (found,) = oddities(*chain)
    assert str(found).startswith("optimizer.chain[0].budget: the grid has 27 combinations")
