"""The box a swarm searches: models and sums beyond them lie inside, and walls keep sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evomerge.compiler.examine import merge_space_of
from evomerge.compiler.make_optimizer import chosen_optimizer, optimizer_for
from evomerge.genome.load import validate_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces.base import MergeSpace
from evomerge.models.inspect import read_model
from evomerge.nouns.space import Real
from evomerge.optimizers.search_context import SearchContext
from evomerge.optimizers.swarm import first_places
from evomerge.optimizers.swarm.motion import Array, child
from evomerge.optimizers.swarm.particles import Swarm
from tests.contract.merge_space_cases import LLAMA, build
from tests.tiny_models import tiny_family

THREE = ["org/a", "org/b", "org/c"]
LORA = [f"org/base+org/{name}" for name in "abc"]
METHODS: dict[str, dict[str, Any]] = {
    "linear": {"models": THREE, "merge_method": "linear"},
    "sums": {"models": THREE, "merge_method": "linear", "normalize": False},
    "either sign": {"models": THREE, "merge_method": "linear", "allow_negative_weights": True},
    "task_arithmetic": {
        "models": THREE,
        "base_model": "org/base",
        "merge_method": "task_arithmetic",
    },
    "factors": {"models": LORA, "merge_method": "linear", "adapters": "factors"},
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "model": {"granularity": "model"},
    "groups": {"layer_granularity": 1, "filters": ["mlp"]},
}
CASES = [
    (method, layout)
    for method in METHODS
    for layout in LAYOUTS
    if (method, layout) != ("factors", "groups")
]


def space_of(method: str, layout: str = "model", **fields: Any) -> MergeSpace:
    given = {} if method == "factors" else LAYOUTS[layout]
    return build(MergeDefinition.model_validate({**METHODS[method], **given, **fields}))


def experts_of(merge_space: MergeSpace) -> Array:
    points = [merge_space.source_point(index) for index in range(3)]
    return np.stack([merge_space.space.encode(point) for point in points if point is not None])


def swarm_in(merge_space: MergeSpace, size: int = 20, seed: int = 0, **fields: Any) -> Swarm:
    experts = experts_of(merge_space)
    context = SearchContext(experts=experts, places=merge_space.places())
    made = Swarm(
        merge_space.space,
        seed=seed,
        population_size=size,
        settings=Swarm.Settings(**fields),
        context=context,
    )
    made.tell(experts, slope(experts))
    return made


def slope(places: Array) -> Array:
    """Losses that fall for ever in one direction: every particle is drawn into a wall."""
    return np.asarray(-places @ np.linspace(-1.0, 2.0, places.shape[1]))


def weights_of(merge_space: MergeSpace, place: Array) -> Array:
    """The weights in a place's recipe, a row for each place of the model, a column per model."""
    point = merge_space.space.decode(place)
    if not hasattr(merge_space, "slots"):
        return np.array([merge_space.adapter_sum(point).coefficients])  # type: ignore[attr-defined]  # of sums of adapters alone
    rows: dict[Any, list[float]] = {}
    for slot in merge_space.slots:
        rows.setdefault((slot.slice, slot.filter), []).append(float(slot.value(point)))
    return np.array(list(rows.values()))


@pytest.mark.parametrize(("method", "layout"), CASES)
def test_models_and_what_lies_beyond_them_are_inside_the_box(method: str, layout: str) -> None:
    experts = experts_of(space_of(method, layout).beyond_models())
    assert ((experts > 0) & (experts < 1)).all()
    for first in experts:
        for second in experts:
            beyond = second + 1.999 * (first - second)
            assert ((beyond > 0) & (beyond < 1)).all()


@pytest.mark.parametrize(("method", "layout"), CASES)
def test_a_third_or_more_of_the_children_lie_beyond_their_parents(
    method: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_space = space_of(method, layout).beyond_models()
    shares: list[float] = []

    def watched(first: Array, second: Array, draws: Array, groups: Any) -> Array:
        born = child(first, second, draws, groups)
        way = first - second
        shares.append(float((born - second) @ way / (way @ way)))
        return born

    monkeypatch.setattr(first_places, "child", watched)
    for seed in range(10):
        swarm_in(merge_space, seed=seed).ask()
    assert len(shares) == 170
    assert min(shares) >= 0
    assert np.mean(np.array(shares) > 1) > 1 / 3


@pytest.mark.parametrize(("method", "layout"), CASES)
def test_particles_that_meet_walls_remain_sums_of_the_models(method: str, layout: str) -> None:
    merge_space = space_of(method, layout).beyond_models()
    optimizer = swarm_in(merge_space, size=8, draws="place", step_length_factor=1.0)
    places = []
    for _ in range(12):
        places.append(optimizer.ask())
        optimizer.tell(places[-1], slope(places[-1]))
    on_walls = np.vstack(places)
    assert ((on_walls < 1e-9) | (on_walls > 1 - 1e-9)).any()
    for place in on_walls:
        np.testing.assert_allclose(weights_of(merge_space, place).sum(axis=1), 1.0, atol=1e-5)


def test_one_draw_for_all_stays_in_the_hull_of_the_models_at_the_walls_too() -> None:
    merge_space = space_of("task_arithmetic", "groups").beyond_models()
    optimizer = swarm_in(merge_space, size=8, step_length_factor=1.0)
    for _ in range(8):
        asked = optimizer.ask()
        optimizer.tell(asked, slope(asked))
        for place in asked:
            weights = weights_of(merge_space, place)
            np.testing.assert_allclose(weights, np.tile(weights[0], (len(weights), 1)), atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"parameters": {"weight": {"range": [0, 1]}}, "normalize": False},
        {"allow_negative_weights": False},
    ],
)
def test_a_range_or_a_sign_that_the_genome_forbids_stays_forbidden(fields: dict[str, Any]) -> None:
    merge_space = space_of("linear", "groups", **fields)
    assert merge_space.beyond_models().space == merge_space.space


def test_where_a_sum_of_models_is_no_point_the_box_stays() -> None:
    ties = MergeDefinition.model_validate(
        {"models": THREE, "base_model": "org/base", "merge_method": "ties"}
    )
    assert build(ties, LLAMA).beyond_models().space == build(ties, LLAMA).space


@pytest.mark.parametrize(
    ("optimizer", "is_wide"),
    [
        ("swarm", True),
        ("{islands: [swarm, {name: swarm, draws: model}], budget: 90}", True),
        ("{islands: [swarm, cma_es], budget: 90}", True),
        ("{chain: [tpe, swarm], budget: 90}", True),
        ("cma_es", False),
        ("gradient", False),
    ],
)
@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_the_box_is_wide_where_any_optimizer_looks_beyond_models(
    method: str, optimizer: str, is_wide: bool, family: Path
) -> None:
    _, _, found = compiled(family, method, optimizer)
    ranges = {(p.low, p.high) for p in found.space if isinstance(p, Real)}
    narrow = (0.0, 1.0) if method == "linear" else (0.0, 1.5)
    assert ranges == {(-1.0, 2.0) if is_wide else narrow}


@pytest.mark.parametrize("optimizer", ["{chain: [swarm, random]", "{islands: [random, swarm]"])
def test_beside_others_children_of_a_swarm_go_beyond_the_models_too(
    optimizer: str, family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice, genome, merge_space = compiled(family, "linear", f"{optimizer}, budget: 80}}")
    points = [merge_space.source_point(index) for index in range(2)]
    experts = np.stack([merge_space.space.encode(point) for point in points if point is not None])
    context = SearchContext(experts=experts, places=merge_space.places())
    made = optimizer_for(choice, genome, merge_space.space, context)
    made.tell(experts, slope(experts))
    born: list[Array] = []

    def watched(*arguments: Any) -> Array:
        born.append(child(*arguments))
        return born[-1]

    monkeypatch.setattr(first_places, "child", watched)
    for _ in range(3):
        asked = made.ask()
        made.tell(asked, slope(asked))
    weights = np.array([weights_of(merge_space, place)[0] for place in born])
    assert (weights > 1.01).any()
    assert (weights < -0.01).any()


def compiled(family: Path, method: str, optimizer: str) -> tuple[Any, Any, MergeSpace]:
    """The optimizers, the genome and the space of a genome of two models."""
    models = ", ".join(str(family / f"model_{index}") for index in (1, 2))
    text = (
        f"genome: {{models: [{models}], base_model: {family / 'base'}, merge_method: {method}}}\n"
        f"tasks: [x]\noptimizer: {optimizer}\n"
    )
    source = parse_yaml(text, "g.yml")
    genome = validate_genome(source)
    facts = [read_model(one.model, "genome.models") for one in genome.genome.models]
    choice = chosen_optimizer(genome, source)
    return choice, genome, merge_space_of(genome, facts, choice)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("box")
    tiny_family(folder)
    return folder
