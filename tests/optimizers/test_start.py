"""Where a search starts that knows trials made before it."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.compiler.make_optimizer import chosen_optimizer, optimizer_for
from evomerge.genome.load import load_genome
from evomerge.nouns.space import Choice, Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.search_context import SearchContext

SPACE = Space((Real("a", 0.0, 1.0), Real("b", 0.0, 2.0)))
BEFORE = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.3]])  # two parents and what lies between


def started(losses, *, space=SPACE, before=BEFORE, name="cma_es", **context):
    optimizer = OPTIMIZERS[name](space, seed=0, context=SearchContext(**context))
    optimizer.tell(before, np.array(losses))
    return optimizer, optimizer.ask()


@pytest.mark.parametrize("best", range(3))
def test_it_starts_at_the_best_of_them(best):
    losses = np.full(3, 0.5)
    losses[best] = 0.25
    optimizer, asked = started(losses)
    np.testing.assert_allclose(optimizer.space.initial, BEFORE[best])
    distances = np.abs(BEFORE[:, None] - asked).mean(axis=(1, 2))
    assert np.argmin(distances) == best


def test_among_equals_it_starts_nearest_to_the_start_of_the_space():
    optimizer, _ = started([0.5, 0.5, 0.5])
    np.testing.assert_allclose(optimizer.space.initial, BEFORE[2])


@pytest.mark.parametrize("losses", [[np.inf] * 3, [0.1, 0.2, 0.3]])
def test_it_keeps_the_start_of_the_space_where_that_is_named_or_nothing_is_known(losses):
    optimizer, _ = started(losses, keeps_start=bool(np.isfinite(losses[0])))
    np.testing.assert_allclose(optimizer.space.initial, SPACE.initial)


def test_a_seed_goes_before_its_equals_and_is_not_left():
    optimizer, asked = started([0.5, 0.25, 0.25], seeds=BEFORE[1:2])
    assert optimizer.context.begins_at_best
    assert np.abs(asked - BEFORE[1]).max() < 0.25


def test_a_choice_starts_there_too():
    space = Space((Real("a", 0.0, 1.0), Choice("b", ("x", "y", "z"))))
    before = np.array([[0.25, 5 / 6], [0.75, 1 / 6]])
    optimizer, _ = started([0.1, 0.2], space=space, before=before)
    assert optimizer.space.decode(optimizer.space.initial) == {"a": 0.25, "b": "z"}


GENOME = """
genome:
  models: [a/b, c/d]
  merge_method: linear
  parameters: {weight: {range: [0, 1]INITIAL}}
tasks: [t]
"""


@pytest.mark.parametrize(
    ("change", "keeps"),
    [
        (("", ""), False),
        ((", initial: 0.3", ""), True),
        ((", initial: 0.3", "optimizer: {name: cma_es, budget: 9, seed_from: r.yml}\n"), False),
        (("", "random_init: true\n"), True),
        (("", "optimizer: {start: average}\n"), True),
    ],
)
def test_a_genome_that_names_a_start_keeps_it(change, keeps, tmp_path):
    initial, line = change
    file = tmp_path / "g.yml"
    file.write_text(GENOME.replace("INITIAL", initial) + line)
    genome, source = load_genome(file)
    optimizer = optimizer_for(chosen_optimizer(genome, source), genome, SPACE)
    assert optimizer.context.keeps_start is keeps


@pytest.mark.parametrize("initial", ["", ", initial: 0.3"])
def test_a_part_that_names_a_start_keeps_it(initial, tmp_path):
    part = "  modules: {text_decoder: {parameters: {weight: {range: [0, 1]INITIAL}}}}\ntasks"
    text = GENOME.replace("INITIAL", "").replace("tasks", part)
    (tmp_path / "g.yml").write_text(text.replace("INITIAL", initial))
    genome, source = load_genome(tmp_path / "g.yml")
    optimizer = optimizer_for(chosen_optimizer(genome, source), genome, SPACE)
    assert optimizer.context.keeps_start is bool(initial)


def test_at_the_average_a_density_is_whole(tmp_path):
    file = tmp_path / "g.yml"
    file.write_text(GENOME.replace("INITIAL", "") + "optimizer: {name: cma_es, start: average}\n")
    genome, source = load_genome(file)
    space = Space((Real("weight[a]", 0, 1.5, initial=0.5), Real("density[a]", 0.05, 0.95)))
    optimizer = optimizer_for(chosen_optimizer(genome, source), genome, space)
    optimizer.tell(np.array([[0.9, 0.1]]), np.array([0.1]))
    optimizer.ask()
    assert space.decode(optimizer.space.initial) == {"weight[a]": 0.5, "density[a]": 0.95}


@pytest.mark.parametrize(
    ("step", "sigmas"),
    [(None, [0.1 / 3, 1 / 6]), (1 / 6, [1 / 18, 1 / 6]), (9.0, [1 / 6, 1 / 6])],
)
def test_a_first_step_is_in_units_of_the_parameter_and_no_wider_than_a_sixth(step, sigmas):
    space = Space((Real("a", -1.5, 1.5, scale=0.1), Real("b", 0.001, 0.1, log=True)))
    kind = OPTIMIZERS["cma_es"]
    optimizer = kind(space, seed=0, population_size=400, settings=kind.Settings(step=step))
    np.testing.assert_allclose(optimizer.ask().std(axis=0), sigmas, rtol=0.15)


def test_two_first_steps_are_one_too_many():
    with pytest.raises(ValueError, match="step beside sigma"):
        OPTIMIZERS["cma_es"].Settings(step=0.1, sigma=0.1)
