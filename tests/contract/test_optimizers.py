"""What every optimizer must show; a line in the table adds the tests."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evomerge.nouns.space import Choice, Integer, Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer, TrainingSettings
from evomerge.optimizers.random_search import RandomSearch
from tests.contract.optimizer_cases import NAMES, Case

Array = NDArray[np.float64]
Make = Callable[..., Optimizer]

REAL = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(3)))
MIXED = Space(
    (
        Real("weight", 0.0, 1.5),
        Integer("start", 0, 6),
        Choice("method", ("linear", "ties", "slerp")),
        Real("density", 0.01, 1.0, log=True, initial=0.5),
        Choice("normalize", (True, False)),
        Integer("cut", 1, 2),
    )
)
DISCRETE = Space((Integer("start", 0, 6), Choice("method", ("linear", "ties", "slerp"))))
CHOICES = Space((Choice("method", ("linear", "ties", "slerp")), Choice("normalize", (True, False))))
SPACES = [
    pytest.param(REAL, id="real"),
    pytest.param(MIXED, id="mixed"),
    pytest.param(DISCRETE, id="discrete", marks=pytest.mark.slow),
    pytest.param(CHOICES, id="choices"),
    pytest.param(Space((Real("weight", 0.0, 1.0),)), id="one-real"),
]
TRACES = Path(__file__).parents[1] / "golden" / "traces"

# Prints, for every optimizer, the digest of what it asks in a process of its own.
ELSEWHERE = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from tests.contract.test_optimizers import MIXED, NAMES, Case, asked_digest, asked_by
print(json.dumps({name: asked_digest(asked_by(Case(name)(MIXED, seed=3), 7))
                  for name in NAMES}))
"""


# Who asks slowly shows some of it in the slow suite alone; its trace is shown here.
QUICK = [
    pytest.param(name, marks=[pytest.mark.slow] if name in ("auto", "gp") else []) for name in NAMES
]


@pytest.fixture(params=NAMES)
def optimizer_class(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def digests_elsewhere() -> dict[str, str]:
    """What each asks in a process of its own."""
    here = Path(__file__).parent
    finished = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, json.dumps([str(here), str(here.parents[1])])],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        check=True,
        capture_output=True,
        text=True,
    )
    digests: dict[str, str] = json.loads(finished.stdout)
    return digests


def sphere(genotypes: Array) -> Array:
    """Losses of shape (k,), least at 0.3 in every coordinate."""
    return np.asarray(((genotypes - 0.3) ** 2).sum(axis=1))


def slope_of_sphere(genotype: Array) -> Array:
    """Its derivative at one place."""
    return np.asarray(2 * (genotype - 0.3))


def generations(
    optimizer: Optimizer, n_generations: int, loss: Callable[[Array], Array] = sphere
) -> Iterator[tuple[Array, Array]]:
    """Asks and tells, and yields both."""
    for _ in range(n_generations):
        genotypes = optimizer.ask()
        losses = loss(genotypes)
        optimizer.tell(genotypes, losses)
        yield genotypes, losses


def asked_by(
    optimizer: Optimizer, n_generations: int, loss: Callable[[Array], Array] = sphere
) -> Array:
    """All genotypes of some generations, one below the other."""
    return np.vstack([genotypes for genotypes, _ in generations(optimizer, n_generations, loss)])


def asked_digest(genotypes: Array) -> str:
    return hashlib.sha256(genotypes.tobytes()).hexdigest()


def best_of(optimizer: Optimizer, n_trials: int, loss: Callable[[Array], Array]) -> float:
    told: list[float] = []
    for _, losses in generations(optimizer, n_trials, loss):
        told += losses.tolist()
        if len(told) >= n_trials:
            break
    return min(told[:n_trials])


@pytest.mark.parametrize("space", SPACES)
def test_population_lies_in_the_cube_and_has_its_shape(optimizer_class: Case, space: Space) -> None:
    optimizer = optimizer_class(space, seed=0)
    largest = optimizer.population_size  # the next link of a chain may have a smaller one
    for genotypes, _ in generations(optimizer, 7):
        assert 1 <= len(genotypes) <= largest
        assert genotypes.shape == (len(genotypes), space.n_dims)
        assert genotypes.dtype == np.float64
        assert np.all((genotypes >= 0) & (genotypes <= 1))


@pytest.mark.parametrize("more", [0, 3])
def test_population_size_is_obeyed(optimizer_class: Case, more: int) -> None:
    population_size = optimizer_class.min_population_size + more
    optimizer = optimizer_class(REAL, seed=0, population_size=population_size)
    assert all(len(asked) <= population_size for asked, _ in generations(optimizer, 3))


def test_too_small_a_population_is_refused(optimizer_class: Case) -> None:
    with pytest.raises(ValueError, match=r"needs a population of \d or more, got"):
        optimizer_class(REAL, seed=0, population_size=optimizer_class.min_population_size - 1)


def test_discrete_coordinates_are_proposed_mid_stretch(optimizer_class: Case) -> None:
    if optimizer_class.continuous_only:
        pytest.skip("moves along continuous parameters only")
    for genotype in asked_by(optimizer_class(MIXED, seed=0), 8):
        point = MIXED.decode(genotype)
        again = MIXED.decode(MIXED.encode(point))
        assert {k: again[k] for k in ("start", "method", "normalize", "cut")} == {
            k: point[k] for k in ("start", "method", "normalize", "cut")
        }


def test_every_level_is_proposed_sooner_or_later(optimizer_class: Case) -> None:
    def flat(genotypes: Array) -> Array:
        return np.zeros(len(genotypes))

    if optimizer_class.continuous_only:
        pytest.skip("moves along continuous parameters only")
    optimizer = optimizer_class(CHOICES, seed=0, population_size=4)
    points = [CHOICES.decode(genotype) for genotype in asked_by(optimizer, 3, flat)]
    assert {point["method"] for point in points} == {"linear", "ties", "slerp"}
    assert {point["normalize"] for point in points} == {True, False}


@pytest.mark.slow
def test_same_seed_gives_the_same_run_in_another_process() -> None:
    here = {name: asked_digest(asked_by(Case(name)(MIXED, seed=3), 7)) for name in NAMES}
    assert here == digests_elsewhere()


def test_each_seed_gives_another_run(optimizer_class: Case) -> None:
    runs = {asked_digest(asked_by(optimizer_class(REAL, seed=seed), 2)) for seed in range(4)}
    assert len(runs) == 4


def test_global_random_states_are_left_alone(optimizer_class: Case) -> None:
    python_state = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    asked_by(optimizer_class(MIXED, seed=0), 7)
    assert random.getstate() == python_state
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_state)


def test_arrays_it_is_given_are_not_changed(optimizer_class: Case) -> None:
    optimizer = optimizer_class(REAL, seed=0)
    foreign, foreign_losses = np.eye(3), np.array([0.3, 0.2, 0.1])
    for array in (foreign, foreign_losses):
        array.setflags(write=False)
    optimizer.tell(foreign, foreign_losses)
    for _ in range(4):
        genotypes = optimizer.ask()
        losses = sphere(genotypes)
        for array in (genotypes, losses):
            array.setflags(write=False)
        optimizer.tell(genotypes, losses)


def test_what_it_gave_may_be_changed_by_the_caller(optimizer_class: Case) -> None:
    optimizer = optimizer_class(REAL, seed=0)
    untouched = asked_by(optimizer_class(REAL, seed=0), 6)
    asked = []
    for _ in range(6):
        given = optimizer.ask()
        asked.append(given.copy())
        given[:] = 0.0
        genotypes, losses = asked[-1].copy(), sphere(asked[-1])
        optimizer.tell(genotypes, losses)
        genotypes[:], losses[:] = 0.0, 0.0
    np.testing.assert_array_equal(np.vstack(asked), untouched)


@pytest.mark.parametrize("space", SPACES)
def test_failed_trials_are_survived(optimizer_class: Case, space: Space) -> None:
    def sometimes_failing(genotypes: Array) -> Array:
        return np.where(genotypes[:, 0] > 0.4, np.inf, sphere(genotypes))

    optimizer = optimizer_class(space, seed=0)
    assert np.all(np.isfinite(asked_by(optimizer, 7, sometimes_failing)))


@pytest.mark.parametrize("optimizer_class", QUICK, indirect=True)
def test_generations_of_nothing_but_failures_are_survived(
    optimizer_class: Case,
) -> None:
    optimizer = optimizer_class(MIXED, seed=0)
    failing = asked_by(optimizer, 8, lambda genotypes: np.full(len(genotypes), np.inf))
    assert len({genotype.tobytes() for genotype in failing}) > len(failing) // 2
    assert np.all(np.isfinite(asked_by(optimizer, 2)))


def test_nan_is_refused_with_its_index(optimizer_class: Case) -> None:
    optimizer = optimizer_class(REAL, seed=0, population_size=4)
    genotypes = optimizer.ask()
    last = len(genotypes) - 1
    losses = np.append(np.zeros(last), np.nan)
    with pytest.raises(ValueError, match=f"loss {last} is NaN; a failed trial is told as inf"):
        optimizer.tell(genotypes, losses)
    optimizer.tell(genotypes, sphere(genotypes))


def test_second_ask_without_tell_is_refused_where_it_waits(optimizer_class: Case) -> None:
    optimizer = optimizer_class(REAL, seed=0)
    assert optimizer.can_ask
    optimizer.ask()
    if optimizer.can_ask:
        pytest.skip("can be asked while others are out")
    with pytest.raises(RuntimeError, match=r"ask\(\) was called twice without tell"):
        optimizer.ask()


class OneAtATime(RandomSearch):
    """Waits for what it asked for, as those that learn from all of a population do."""

    asks_any_time = False


def test_one_that_waits_for_what_it_asked_is_asked_again_when_it_was_told() -> None:
    optimizer = OneAtATime(REAL, seed=0)
    asked = optimizer.ask()
    assert not optimizer.can_ask
    with pytest.raises(RuntimeError, match=r"ask\(\) was called twice without tell"):
        optimizer.ask()
    optimizer.tell(asked, sphere(asked))
    assert optimizer.can_ask


Call = tuple[str, Array]  # "ask" and what it gave, or "tell" and what was told


def overlapped(
    optimizer: Optimizer, order: int, n_asked: int, n_out: int = 3
) -> Iterator[tuple[Call, float]]:
    """Asks while fewer than so many genotypes are out, tells them in an order drawn.

    One by one where it may be. Yields each call, and the least loss so far.
    """
    chance, out, best, n_left = random.Random(order), [], np.inf, n_asked
    while True:
        if n_left > 0 and sum(map(len, out)) < n_out and optimizer.can_ask:
            asked = optimizer.ask()
            out += list(asked[:, None]) if optimizer.hears_apart else [asked]
            n_left -= len(asked)
            yield ("ask", asked), best
        elif out:
            genotypes = out.pop(chance.randrange(len(out)))
            losses = sphere(genotypes)
            best = min(best, float(losses.min()))
            optimizer.tell(genotypes, losses)
            yield ("tell", genotypes), best
        else:
            return


@pytest.mark.parametrize(
    ("optimizer_class", "space"),
    [
        pytest.param(n, s, marks=[pytest.mark.slow] if n in ("auto", "gp") else [])
        for n in NAMES
        for s in (REAL, MIXED)
    ],
    indirect=["optimizer_class"],
)
def test_while_some_are_out_more_is_asked_and_the_same_calls_make_the_same_run(
    optimizer_class: Case, space: Space
) -> None:
    n_asked = 40 if optimizer_class.proving_trials >= 100 else 9
    calls = [call for call, _ in overlapped(optimizer_class(space, seed=2), 5, n_asked)]
    again = optimizer_class(space, seed=2)
    n_out = most_out = 0
    for kind, genotypes in calls:
        assert np.all((genotypes >= 0) & (genotypes <= 1))
        n_out += len(genotypes) if kind == "ask" else -len(genotypes)
        most_out = max(most_out, n_out)
        if kind == "ask":
            np.testing.assert_array_equal(again.ask(), genotypes)
        else:
            again.tell(genotypes, sphere(genotypes))
    assert n_out == 0
    assert again.can_ask
    if optimizer_class.asks_any_time:
        assert most_out >= 3


def test_who_comes_late_is_told_once(optimizer_class: Case) -> None:
    optimizer = optimizer_class(REAL, seed=0)
    asked = optimizer.ask()
    if not optimizer.hears_apart:
        pytest.skip("hears of all that it asked for together")
    last = optimizer.ask() if optimizer.can_ask else asked
    optimizer.tell(last[-1:], sphere(last[-1:]))
    optimizer.ask()
    with pytest.raises(ValueError, match="other genotypes than the ones asked"):
        optimizer.tell(last[-1:], sphere(last[-1:]))


@pytest.mark.parametrize("name", [n for n in NAMES if Case(n).default_population_size(4) > 1])
def test_generations_that_overlap_beat_random_search_too(name: str) -> None:
    def median(kind: Case) -> float:
        space = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(4)))
        found = ([*overlapped(kind(space, seed=s), s, 100, 4)][-1][1] for s in range(3))
        return float(np.median([*found]))

    assert median(Case(name)) < median(Case("random"))


def test_each_says_what_it_gives_while_others_are_out() -> None:
    assert all(OPTIMIZERS[name].with_others_out for name in OPTIMIZERS)


def test_a_larger_budget_asks_the_same_first_where_it_says_so(optimizer_class: Case) -> None:
    def of(budget: int) -> Array:
        context = optimizer_class(REAL, seed=3).context
        optimizer = optimizer_class(REAL, seed=3, context=replace(context, budget=budget))
        return asked_by(optimizer, 7)  # a Gaussian process has its model from the sixth on

    assert np.array_equal(of(12), of(400)) or optimizer_class.plans_by_budget


def test_who_trains_says_what_it_takes(optimizer_class: Case) -> None:
    if optimizer_class.trains:
        settings = optimizer_class.Settings()
        assert isinstance(settings, TrainingSettings)
        assert settings.n_checkpoints(3) in range(4)


def test_other_genotypes_than_asked_are_refused(optimizer_class: Case) -> None:
    optimizer = optimizer_class(REAL, seed=0)
    genotypes = optimizer.ask()
    with pytest.raises(ValueError, match="other genotypes than the ones asked"):
        optimizer.tell(0.9 * genotypes, sphere(genotypes))


def test_wrong_shapes_are_refused(optimizer_class: Case) -> None:
    optimizer = optimizer_class(REAL, seed=0)
    genotypes = optimizer.ask()
    with pytest.raises(ValueError, match=r"expected genotypes of shape \(k, n_dims\)"):
        optimizer.tell(genotypes[:, :2], sphere(genotypes))
    with pytest.raises(ValueError, match=r"expected losses of shape \(k, n_objectives\)"):
        optimizer.tell(genotypes, np.zeros((len(genotypes), 2)))


@pytest.mark.parametrize("optimizer_class", QUICK, indirect=True)
@pytest.mark.parametrize("space", SPACES)
def test_trials_made_elsewhere_are_taken_before_the_first_ask(
    optimizer_class: Case, space: Space
) -> None:
    n_dims = space.n_dims
    elsewhere = np.vstack([np.eye(n_dims), np.full((1, n_dims), 0.5), np.ones((1, n_dims))])
    losses = np.append(sphere(elsewhere[:-1]), np.inf)
    optimizer = optimizer_class(space, seed=0)
    optimizer.tell(elsewhere, losses)
    for genotypes, _ in generations(optimizer, 3):
        assert genotypes.shape == (len(genotypes), n_dims)
        assert np.all((genotypes >= 0) & (genotypes <= 1))


def test_only_ranks_matter_where_it_says_so(optimizer_class: Case) -> None:
    if not optimizer_class.only_ranks_matter:
        pytest.skip("does not claim it")
    plain = asked_by(optimizer_class(MIXED, seed=0), 30)
    mapped = asked_by(
        optimizer_class(MIXED, seed=0), 30, lambda genotypes: np.exp(9 * sphere(genotypes)) - 5
    )
    np.testing.assert_array_equal(plain, mapped)


@pytest.mark.parametrize("optimizer_class", QUICK, indirect=True)
def test_adaptive_ones_beat_random_search_on_the_sphere(optimizer_class: Case) -> None:
    def median(kind: Case) -> float:
        space = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(4)))
        trials = min(optimizer_class.proving_trials, 100)
        return float(np.median([best_of(kind(space, seed=s), trials, sphere) for s in range(3)]))

    if not optimizer_class.is_guided:
        pytest.skip("does not claim it")
    assert median(optimizer_class.on(slope_of_sphere)) < median(Case("random"))


class RotatedEllipsoid:
    """Least at 0.3 everywhere; a million times steeper along one axis than another, none of them
    a coordinate."""

    def __init__(self, n_dims: int) -> None:
        self.axes = np.linalg.qr(np.random.default_rng(0).standard_normal((n_dims, n_dims)))[0]
        self.steepness = 1e6 ** (np.arange(n_dims) / (n_dims - 1))

    def __call__(self, genotypes: Array) -> Array:
        """Losses of shape (k,)."""
        return np.asarray((((genotypes - 0.3) @ self.axes.T) ** 2 * self.steepness).sum(axis=1))

    def slope(self, genotype: Array) -> Array:
        """Its derivative at one place."""
        along = (genotype - 0.3) @ self.axes.T
        return np.asarray(2 * (along * self.steepness) @ self.axes)


@pytest.mark.parametrize(
    ("loss", "slope"),
    [(sphere, slope_of_sphere), ((one := RotatedEllipsoid(5)), one.slope)],
    ids=["sphere", "ellipsoid"],
)
def test_the_slopes_that_trainers_are_given_are_those_of_the_formulas(
    loss: Callable[[Array], Array], slope: Callable[[Array], Array]
) -> None:
    at = np.random.default_rng(1).random(5)
    step = 1e-6 * np.eye(5)
    measured = (loss(at + step) - loss(at - step)) / 2e-6
    np.testing.assert_allclose(slope(at), measured, rtol=1e-5, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("loss", "slope"),
    [(sphere, slope_of_sphere), ((wide := RotatedEllipsoid(20)), wide.slope)],
    ids=["sphere", "ellipsoid"],
)
def test_adaptive_ones_beat_random_search_in_20_dimensions(
    name: str, loss: Callable[[Array], Array], slope: Callable[[Array], Array]
) -> None:
    space = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(20)))
    kind = Case(name)
    trials = min(kind.proving_trials, 100)

    def median(kind: Case) -> float:
        return float(np.median([best_of(kind(space, seed=s), trials, loss) for s in range(3)]))

    if not kind.is_guided:
        pytest.skip("does not claim it")
    assert median(kind.on(slope)) < median(Case("random"))


@pytest.mark.parametrize("optimizer_class", QUICK, indirect=True)
def test_others_do_not_look_at_losses(optimizer_class: Case) -> None:
    plain = asked_by(optimizer_class(REAL, seed=0), 12)
    turned = asked_by(optimizer_class(REAL, seed=0), 12, lambda genotypes: -sphere(genotypes))
    assert np.array_equal(plain, turned) != optimizer_class.is_adaptive


@pytest.mark.parametrize("optimizer_class", QUICK, indirect=True)
def test_resuming_by_replay_equals_never_stopping(optimizer_class: Case) -> None:
    elsewhere = np.vstack([np.eye(6)[:1], np.full((1, 6), 0.5)])

    def begin() -> Optimizer:
        optimizer = optimizer_class(MIXED, seed=1)
        optimizer.tell(elsewhere, sphere(elsewhere))
        return optimizer

    uninterrupted = list(generations(begin(), 5))
    for stop in (0, 1, 4):
        resumed = begin()
        for genotypes, losses in uninterrupted[:stop]:
            np.testing.assert_array_equal(resumed.ask(), genotypes)
            resumed.tell(genotypes, losses)
        rest = asked_by(resumed, 5 - stop)
        assert rest.tobytes() == np.vstack([g for g, _ in uninterrupted[stop:]]).tobytes()


def test_objectives_it_cannot_handle_are_refused(optimizer_class: Case) -> None:
    if optimizer_class.multi_objective:
        optimizer = optimizer_class(MIXED, seed=0, n_objectives=2)
        for _ in range(4):
            genotypes = optimizer.ask()
            losses = np.stack([sphere(genotypes), sphere(1 - genotypes)], axis=1)
            losses[0] = np.inf
            optimizer.tell(genotypes, losses)
        return
    with pytest.raises(ValueError, match="minimises one loss, got 2"):
        optimizer_class(MIXED, seed=0, n_objectives=2)


def test_unknown_settings_are_refused(optimizer_class: Case) -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        optimizer_class.Settings.model_validate({"no_such_setting": 1})


def test_trace_on_the_sphere_is_the_golden_one(
    request: pytest.FixtureRequest, optimizer_class: Case
) -> None:
    best = [float(losses.min()) for _, losses in generations(optimizer_class(REAL, seed=0), 12)]
    path = TRACES / f"{request.node.callspec.params['optimizer_class']}.json"
    if request.config.getoption("--update-golden", default=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([float(f"{loss:.9g}") for loss in best], indent=1) + "\n")
    assert path.exists(), "no golden trace yet: run pytest --update-golden and read it"
    # Linear algebra libraries differ in the last bits, which a search amplifies.
    assert best == pytest.approx(json.loads(path.read_text()), rel=1e-4)
