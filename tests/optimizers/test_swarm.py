"""Model Swarms: its equations by hand, what every particle remains, and what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from evomerge.genome.merge_block import MergeDefinition
from evomerge.merge_spaces import merge_space_for
from evomerge.merging.resident import ResidentMerger
from evomerge.models.inspect import read_model
from evomerge.models.shared_layers import describe
from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.search_context import InMemory, SearchContext
from evomerge.optimizers.swarm.motion import Array, Pulls, child, has_room, mirrored, moved, shares
from evomerge.optimizers.swarm.particles import START, Swarm
from evomerge.optimizers.swarm.swarm_settings import SwarmSettings
from evomerge.recipe.plain import Recipe
from tests.optimizers.labels import labels_of
from tests.tiny_models import tiny_family

# Near the middle of the cube and close together: no particle reaches a wall.
EXPERTS = 0.5 + 0.01 * np.array(
    [[1.0, 0.0, 2.0, 0.0, 1.0], [0.0, 1.0, 0.0, -1.0, 0.0], np.zeros(5)]
)
ONE = np.zeros(3, dtype=int)  # three coordinates that are drawn together


def space(n_dims: int) -> Space:
    return Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(n_dims)))


def swarm(
    n_dims: int = 5,
    *,
    size: int = 4,
    seed: int = 0,
    experts: Array | None = None,
    told: bool = True,
    **settings: Any,
) -> Swarm:
    context = SearchContext(experts=experts)
    made = Swarm(
        space(n_dims),
        seed=seed,
        population_size=size,
        settings=SwarmSettings(**settings),
        context=context,
    )
    if experts is not None and told:
        made.tell(experts, slope(experts))
    return made


def slope(places: Array) -> Array:
    """Losses that fall for ever in one direction, so that a swarm keeps moving."""
    return np.asarray(places @ np.arange(1.0, places.shape[1] + 1))


def go_on(optimizer: Swarm, n_asks: int, loss: Any = slope) -> list[tuple[Array, tuple[str, ...]]]:
    heard = []
    for _ in range(n_asks):
        places = optimizer.ask()
        heard.append((places, labels_of(optimizer)))
        optimizer.tell(places, loss(places))
    return heard


# The equations


def test_one_move_is_the_papers_sum_of_four() -> None:
    place, velocity = np.array([[0.5, 0.2, 0.4]]), np.array([[0.1, 0.0, -0.2]])
    pulls = Pulls(
        own=np.array([[0.6, 0.2, 0.3]]),
        best=np.array([[0.7, 0.1, 0.4]]),
        worst=np.array([[0.4, 0.4, 0.4]]),
    )
    portions = np.array([0.4, 0.1, 0.2, 0.3]).reshape(4, 1, 1)
    after, last_step = moved(place, velocity, pulls, portions, 0.5, ONE)
    # .4 (.1, 0, -.2) + .1 (.1, 0, -.1) + .2 (.2, -.1, 0) + .3 (.1, -.2, 0), and half of it added
    np.testing.assert_allclose(last_step, [[0.12, -0.08, -0.09]], atol=1e-15)
    np.testing.assert_allclose(after, [[0.56, 0.16, 0.355]], atol=1e-15)


def test_the_four_shares_are_the_strengths_times_the_draws_scaled_to_one() -> None:
    strengths = np.array([0.4, 0.3, 0.3, 0.0])
    drawn = shares(strengths, np.array([[0.5], [1.0], [1.0], [1.0]]))
    np.testing.assert_allclose(drawn[:, 0], [0.25, 0.375, 0.375, 0.0])


def test_a_child_lies_between_its_parents_or_as_far_beyond_the_first() -> None:
    first, second = np.array([0.5, 0.4, 0.3]), np.array([0.4, 0.4, 0.4])
    np.testing.assert_allclose(child(first, second, np.array([0.25]), ONE), [0.45, 0.4, 0.35])
    np.testing.assert_allclose(child(first, second, np.array([0.75]), ONE), [0.55, 0.4, 0.25])


def test_a_child_is_drawn_from_what_lies_inside_the_cube() -> None:
    first, second = np.array([0.75, 0.5, 0.5]), np.array([0.25, 0.5, 0.5])  # leaves at t = 1.5
    np.testing.assert_allclose(child(first, second, np.array([1.0]), ONE), [1.0, 0.5, 0.5])
    np.testing.assert_allclose(child(first, second, np.array([0.5]), ONE), [0.625, 0.5, 0.5])


def test_places_drawn_outside_the_cube_come_back_from_its_faces() -> None:
    places = mirrored(np.array([[1.25, 0.5, -0.125], [1.0, 0.0, 2.25]]))
    assert places.tolist() == [[0.75, 0.5, 0.125], [1.0, 0.0, 0.25]]


def test_a_wall_leaves_out_what_leads_through_it_of_all_coordinates_of_a_group() -> None:
    place, velocity = np.array([[0.5, 0.9, 0.1, 0.5]]), np.array([[0.2, 0.8, -1.0, 0.4]])
    pulls = Pulls(
        own=np.array([[0.5, 0.7, 0.3, 0.5]]), best=np.array([[0.5, 0.7, 0.3, 0.5]]), worst=place
    )
    portions = np.full((4, 1, 1), 0.25)
    groups = np.array([0, 0, 0, 1])
    after, last_step = moved(place, velocity, pulls, portions, 1.0, groups)
    # Pulled to (.5, .8, .2); the last step has a quarter of (.2, .8, -1) left, of which .2 of the
    # third fits .8 times. The fourth is of another group and goes its whole way.
    np.testing.assert_allclose(after, [[0.54, 0.96, 0.0, 0.6]])
    np.testing.assert_allclose(last_step, after - place)


def test_a_particle_in_a_corner_still_moves_to_what_draws_it() -> None:
    place = np.array([[1.0, 0.0]])
    pulls = Pulls(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]), np.array([[0.0, 0.0]]))
    groups = np.zeros(2, dtype=int)
    after, _ = moved(place, 0 * place, pulls, np.full((4, 1, 1), 0.25), 1.0, groups)
    np.testing.assert_allclose(after, [[0.5 + 0.25, 0.5]])  # pushed along the way there
    outward = Pulls(place, place, np.array([[0.5, 0.5]]))
    np.testing.assert_array_equal(
        moved(place, 0 * place, outward, np.full((4, 1, 1), 0.25), 1.0, groups)[0], place
    )


def test_steps_longer_than_the_way_to_what_draws_end_at_the_wall() -> None:
    place = np.array([[0.2, 0.6]])
    there = np.array([[0.8, 0.0]])
    pulls = Pulls(there, there, place)
    portions = np.array([0.0, 0.5, 0.5, 0.0]).reshape(4, 1, 1)
    after, _ = moved(place, 0 * place, pulls, portions, 3.0, np.zeros(2, dtype=int))
    np.testing.assert_allclose(after, there, atol=1e-15)


def test_a_swarm_without_chance_is_the_papers_loop() -> None:
    """Against the equations written out, one particle and coordinate at a time."""
    optimizer = swarm(experts=EXPERTS, size=3, randomness=False, initial_velocity="best")
    heard = go_on(optimizer, 3)

    places = [list(map(float, place)) for place in EXPERTS]
    losses = [float(loss) for loss in slope(EXPERTS)]
    own, own_losses = [list(place) for place in places], list(losses)
    best = list(places[losses.index(min(losses))])
    worst, worst_loss = list(places[losses.index(max(losses))]), max(losses)
    velocities = [[b - x for b, x in zip(best, place, strict=True)] for place in places]
    step = 1.0
    for asked, _ in heard:
        for i in range(3):
            for d in range(5):
                x = places[i][d]
                velocities[i][d] = (
                    0.4 * velocities[i][d]
                    + 0.3 * (own[i][d] - x)
                    + 0.3 * (best[d] - x)
                    + 0.3 * (x - worst[d])
                ) / 1.3
                places[i][d] = x + step * velocities[i][d]
        np.testing.assert_allclose(asked, places, atol=1e-12)
        losses = [float(loss) for loss in slope(np.array(places))]
        for i in range(3):
            if losses[i] < own_losses[i]:
                own[i], own_losses[i] = list(places[i]), losses[i]
        if min(losses) < slope(np.array([best]))[0]:
            best = list(places[losses.index(min(losses))])
        if max(losses) > worst_loss:
            worst, worst_loss = list(places[losses.index(max(losses))]), max(losses)
        step = max(step * 0.95, 0.1)


# What every particle remains


def test_every_particle_is_an_affine_sum_of_the_experts() -> None:
    heard = go_on(swarm(experts=EXPERTS, size=8, initial_velocity="random"), 6)
    places = np.vstack([places for places, _ in heard])
    assert np.all((places > 0) & (places < 1))  # no wall was met
    system = np.vstack([EXPERTS.T, np.ones(3)])
    coefficients, *_ = np.linalg.lstsq(system, np.vstack([places.T, np.ones(len(places))]))
    np.testing.assert_allclose(coefficients.sum(axis=0), 1.0, atol=1e-9)
    np.testing.assert_allclose(coefficients.T @ EXPERTS, places, atol=1e-9)
    assert coefficients.min() < 0 or coefficients.max() > 1  # it does look beyond them


PLACES = np.array([0, 1, 2, 0, 1, 2])  # two weights in each of three places


def test_draws_per_place_leave_the_experts_hull_but_in_no_place() -> None:
    """Each place holds an affine sum of what the experts hold there; the sums differ."""
    experts = 0.5 + 0.01 * np.repeat([[1.0, 0.0], [0.0, 1.0], [-1.0, -0.5]], 3, axis=1)[:2]
    context = SearchContext(experts=experts, places=PLACES)
    settings = SwarmSettings(draws="place")
    optimizer = Swarm(space(6), seed=0, population_size=6, settings=settings, context=context)
    optimizer.tell(experts, slope(experts))
    places = np.vstack([places for places, _ in go_on(optimizer, 4)])
    assert np.linalg.matrix_rank(places - experts[0], tol=1e-6) == 3  # one number in each place
    for place in range(3):
        here = places[:, place == PLACES]
        ends = experts[:, place == PLACES]
        share = (here - ends[0]) @ (ends[1] - ends[0]) / ((ends[1] - ends[0]) ** 2).sum()
        np.testing.assert_allclose(here, ends[0] + share[:, None] * (ends[1] - ends[0]), atol=1e-9)


def test_with_one_place_the_default_is_the_papers_own_draw() -> None:
    own = go_on(swarm(experts=EXPERTS, draws="model"), 4)
    for (places, _), (expected, _) in zip(go_on(swarm(experts=EXPERTS), 4), own, strict=True):
        np.testing.assert_array_equal(places, expected)


def test_children_are_drawn_for_each_place_from_what_lies_inside_there() -> None:
    first, second = np.array([0.75, 0.5, 0.5]), np.array([0.25, 0.5, 0.4])
    groups = np.array([0, 0, 1])
    born = child(first, second, np.array([0.5, 0.75]), groups)  # t up to 1.5 and 2
    np.testing.assert_allclose(born, [0.625, 0.5, 0.55])


def test_a_box_with_room_for_what_lies_beyond_the_models_has_the_papers_one_draw() -> None:
    models = np.eye(3)
    assert not has_room(models)
    assert not has_room(models / 1.5)
    assert has_room((models + 1) / 3)  # weights from -1 to 2
    assert not has_room(models[:1] / 3 + 1 / 3)
    for experts, n_draws in ((models / 1.5, 3), ((models + 1) / 3, 1)):
        context = SearchContext(experts=experts, places=np.arange(3))
        assert Swarm(space(3), seed=0, population_size=6, context=context)._width == n_draws


def test_a_child_is_one_sum_of_its_parents_in_all_places() -> None:
    experts = np.full((2, 6), 0.5) + 0.01 * np.array([[1.0, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]])
    context = SearchContext(experts=experts, places=PLACES)
    optimizer = Swarm(space(6), seed=0, population_size=6, context=context)
    optimizer.tell(experts, slope(experts))
    for born in optimizer.ask():
        (share,) = np.linalg.lstsq((experts[0] - experts[1])[:, None], born - experts[1])[0]
        np.testing.assert_allclose(born, experts[1] + share * (experts[0] - experts[1]), atol=1e-12)


def test_draws_per_coordinate_leave_the_experts_hull() -> None:
    heard = go_on(swarm(experts=EXPERTS[:2], size=4, draws="coordinate"), 3)
    differences = np.vstack([places for places, _ in heard]) - EXPERTS[0]
    assert np.linalg.matrix_rank(differences, tol=1e-6) > 1


def test_a_particle_is_the_model_of_its_affine_coefficients(tmp_path: Path) -> None:
    models = tiny_family(tmp_path, n_models=3)[1:]
    definition = MergeDefinition.model_validate(
        {
            "models": [str(model) for model in models],
            "merge_method": "linear",
            "granularity": "model",
            "normalize": True,
            "allow_negative_weights": True,
        }
    )
    facts = [read_model(s.model, "genome.models") for s in definition.models]
    merge_space = merge_space_for(definition)(definition, describe(facts), "float32")
    experts = np.array(
        [
            merge_space.space.encode(point)
            for index in range(3)
            if (point := merge_space.source_point(index)) is not None
        ]
    )
    optimizer = Swarm(
        merge_space.space, seed=3, population_size=5, context=SearchContext(experts=experts)
    )
    optimizer.tell(experts, np.array([0.2, 0.3, 0.1]))
    place = optimizer.ask()[-1]
    coefficients = np.linalg.solve(np.vstack([experts.T, np.ones(3)]), [*place, 1.0])
    plain = Recipe(
        {
            "merge_method": "linear",
            "models": [
                {"model": str(model), "parameters": {"weight": float(weight)}}
                for model, weight in zip(models, coefficients, strict=True)
            ],
            "parameters": {"normalize": False},
            "dtype": "float32",
            "tokenizer_source": str(models[0]),
        }
    )
    expected = _tensors(ResidentMerger(), plain)
    found = _tensors(ResidentMerger(), merge_space.recipe(merge_space.space.decode(place)))
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


def _tensors(merger: ResidentMerger, recipe: Recipe) -> dict[str, torch.Tensor]:
    live = merger.merge(recipe)
    return {name: tensor.clone() for name, tensor in live.module.state_dict().items()}


# Where it begins


def test_experts_whose_losses_are_known_are_not_asked_again() -> None:
    optimizer = swarm(experts=EXPERTS, size=5)
    (places, labels), (_, later) = go_on(optimizer, 2)
    assert labels == ("particle 3, iteration 0", "particle 4, iteration 0")
    assert not any(np.allclose(place, expert) for place in places for expert in EXPERTS)
    assert later == tuple(f"particle {row}, iteration 1" for row in range(5))


def test_experts_that_nobody_scored_are_asked_first() -> None:
    places, labels = go_on(swarm(experts=EXPERTS, size=4, told=False), 1)[0]
    np.testing.assert_array_equal(places[:3], EXPERTS)
    assert labels[0] == "particle 0, iteration 0"


def test_of_more_experts_than_particles_the_best_take_part() -> None:
    optimizer = swarm(experts=EXPERTS, size=2)
    optimizer.ask()
    kept = json.loads(optimizer.context.artifacts.recall(START) or b"")
    order = np.argsort(slope(EXPERTS))
    assert [kept["0"], kept["1"]] == EXPERTS[order[:2]].tolist()


def test_without_experts_it_begins_at_known_trials_then_the_start_and_anywhere() -> None:
    context = SearchContext(artifacts=InMemory())
    optimizer = Swarm(space(3), seed=0, population_size=5, context=context)
    optimizer.tell(np.full((1, 3), 0.25), np.array([0.1]))
    places, labels = go_on(optimizer, 1)[0]
    assert labels[0] == "particle 1, iteration 0"
    assert places[0].tolist() == [0.5, 0.5, 0.5]
    assert json.loads(context.artifacts.recall(START) or b"") == {"0": [0.25, 0.25, 0.25]}


def test_seeds_join_the_experts_and_their_losses_count() -> None:
    optimizer = swarm(experts=EXPERTS, size=6, randomness=False, restart=False)
    seed = np.full((1, 5), 0.45)
    optimizer.tell(seed, slope(seed))
    optimizer.ask()
    kept = json.loads(optimizer.context.artifacts.recall(START) or b"")
    assert list(kept) == ["0", "1", "2"]  # half of the swarm
    assert optimizer._best is not None
    np.testing.assert_array_equal(optimizer._best[1], seed[0])


def test_a_zero_start_is_at_rest() -> None:
    optimizer = swarm(
        experts=EXPERTS, size=3, initial_velocity="zero", cognitive=0, social=0, repel=0
    )
    np.testing.assert_array_equal(go_on(optimizer, 1)[0][0], EXPERTS)


# What it is told


def test_the_step_decays_to_its_floor() -> None:
    optimizer = swarm(experts=EXPERTS, size=3, step_length_factor=0.5, minimum_step_length=0.2)
    steps = []
    for _ in range(4):
        steps.append(optimizer._step)
        go_on(optimizer, 1)
    assert steps == [1.0, 0.5, 0.25, 0.2]


def test_a_stray_particle_goes_back_to_its_best_place_and_waits_anew() -> None:
    """Of three evaluations the first is that of the best place, as the authors count."""
    optimizer = swarm(experts=EXPERTS, size=3, restart_patience=3)
    waited = []
    for _ in range(6):
        go_on(optimizer, 1, lambda places: np.full(len(places), 9.0))
        waited.append(optimizer._n_since.tolist())
    assert waited == [[n] * 3 for n in (1, 2, 1, 2, 1, 2)]
    np.testing.assert_array_equal(optimizer._own, EXPERTS)


def test_a_failed_trial_is_never_the_worst_place() -> None:
    optimizer = swarm(experts=EXPERTS, size=3)
    go_on(optimizer, 2, lambda places: np.full(len(places), np.inf))
    assert optimizer._worst is not None
    np.testing.assert_array_equal(optimizer._worst[1], EXPERTS[int(np.argmax(slope(EXPERTS)))])


def test_among_equals_the_earlier_place_stays() -> None:
    optimizer = swarm(experts=EXPERTS, size=3, told=False)
    go_on(optimizer, 3, lambda places: np.zeros(len(places)))
    assert optimizer._best is not None
    assert optimizer._worst is not None
    np.testing.assert_array_equal(optimizer._best[1], EXPERTS[0])
    np.testing.assert_array_equal(optimizer._worst[1], EXPERTS[0])


def test_a_dropped_particle_moves_but_is_not_asked_and_hears_nothing() -> None:
    optimizer = swarm(experts=EXPERTS, size=3, particle_dropout=0.6, restart=False)
    before, n_heard = EXPERTS.copy(), np.zeros(3, dtype=int)
    for _ in range(5):
        places, labels = go_on(optimizer, 1, lambda places: np.full(len(places), 9.0))[0]
        asked = [int(label.split()[1].rstrip(",")) for label in labels]
        np.testing.assert_array_equal(places, optimizer._places[asked])
        assert np.all(np.abs(optimizer._places - before).max(axis=1) > 0)
        n_heard[asked] += 1
        before = optimizer._places.copy()
    assert 0 < n_heard.sum() < 15
    np.testing.assert_array_equal(optimizer._n_since, n_heard)


def test_a_dropped_iteration_shortens_no_step_and_tries_no_patience() -> None:
    optimizer = swarm(experts=EXPERTS, size=3, iteration_dropout=0.7, stale_iterations=9)
    heard = go_on(optimizer, 4, lambda places: np.full(len(places), 9.0))
    iterations = [int(labels[0].rsplit(" ", 1)[1]) for _, labels in heard]
    assert iterations == sorted(set(iterations))
    assert iterations[-1] > 4  # some were dropped
    assert optimizer._step == pytest.approx(0.95**4)
    assert optimizer._n_stale == 4


@pytest.mark.parametrize("settings", [{"stale_iterations": 3}, {"max_iterations": 3}])
def test_it_ends_where_it_is_told_to(settings: dict[str, Any]) -> None:
    optimizer = swarm(experts=EXPERTS, size=3, **settings)
    go_on(optimizer, 2, lambda places: np.full(len(places), 9.0))
    assert not optimizer.is_finished
    go_on(optimizer, 1, lambda places: np.full(len(places), 9.0))
    assert optimizer.is_finished


def test_the_iteration_that_found_the_best_is_one_of_the_stale_ones() -> None:
    """Three equal entries of the authors' history of the best end a search."""
    optimizer = swarm(experts=EXPERTS, size=3, stale_iterations=3)
    losses = iter([-1.0, -2.0, -3.0, -3.0, -3.0])
    n_asks = 0
    while not optimizer.is_finished:
        go_on(optimizer, 1, lambda places: np.full(len(places), next(losses)))
        n_asks += 1
    assert n_asks == 5


def test_the_last_iteration_is_never_dropped() -> None:
    optimizer = swarm(experts=EXPERTS, size=3, iteration_dropout=0.99, max_iterations=4)
    heard = go_on(optimizer, 1)
    assert heard[0][1][0].endswith("iteration 4")
    assert optimizer.is_finished


def test_settings_under_which_nothing_moves_are_refused() -> None:
    with pytest.raises(ValidationError, match="are all 0: nothing would move"):
        SwarmSettings(inertia=0, cognitive=0, social=0, repel=0)


def test_it_beats_random_search_on_a_rotated_ellipsoid_in_20_dimensions() -> None:
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))
    scales = 100.0 ** (np.arange(20) / 19)

    def ellipsoid(places: Array) -> Array:
        return np.asarray((((places - 0.4) @ rotation.T) ** 2) @ scales)

    def median(name: str) -> float:
        found = []
        for seed in range(5):
            optimizer = OPTIMIZERS[name](space(20), seed=seed, population_size=20)
            losses = []
            for _ in range(10):
                places = optimizer.ask()
                losses.append(ellipsoid(places))
                optimizer.tell(places, losses[-1])
            found.append(np.concatenate(losses)[1:].min())  # not the start that all share
        return float(np.median(found))

    assert median("swarm") < median("random")


def test_with_experts_and_places_it_beats_random_search_in_20_dimensions() -> None:
    """Four models in five places; the best weights differ from place to place."""
    target = np.random.default_rng(3).dirichlet(np.ones(4), size=5).T.ravel()
    experts = np.kron(np.eye(4), np.ones(5))
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))
    ellipsoid = 100.0 ** (np.arange(20) / 19)

    def median(name: str, loss: Any) -> float:
        context = SearchContext(experts=experts, places=np.tile(np.arange(5), 4))
        found = []
        for seed in range(3):
            optimizer = OPTIMIZERS[name](space(20), seed=seed, population_size=20, context=context)
            optimizer.tell(experts, loss(experts))
            losses = [loss(places) for places, _ in go_on(optimizer, 10, loss)]
            found.append(np.concatenate(losses).min())
        return float(np.median(found))

    def steep(places: Array) -> Array:
        return np.asarray((((places - target) @ rotation.T) ** 2) @ ellipsoid)

    def sphere(places: Array) -> Array:
        return np.asarray(((places - target) ** 2).sum(axis=1))

    for loss in (sphere, steep):
        assert median("swarm", loss) < median("random", loss) / 2


def test_after_another_optimizer_particles_begin_around_the_best_place():
    known = np.vstack([np.full((1, 20), 0.9), np.full((1, 20), 0.2), np.eye(20)])
    losses = np.append([1.0, 0.1], np.ones(20))
    space = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(20)))

    def first_places(context):
        swarm = OPTIMIZERS["swarm"](space, seed=0, context=context)
        swarm.tell(known, losses)
        return swarm.ask()

    nearby = first_places(SearchContext(begins_at_best=True))
    assert len(nearby) == 19  # the best place itself is known
    assert 0.8 / 20 < (nearby - 0.2).std() < 1.2 / 20
    assert ((nearby >= 0) & (nearby <= 1)).all()
    anywhere = first_places(SearchContext())
    assert (anywhere - 0.2).std() > 5 / 20
