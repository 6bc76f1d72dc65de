"""The fast kernels give mergekit's tensors to the bit, from the first merge to the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
from mergekit import merge_methods
from mergekit.architecture import WeightInfo
from mergekit.common import ImmutableMap, ModelReference
from mergekit.merge_methods.base import ParameterScope
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask, TensorDictWrapper

from evomerge.foundations.deadline import Deadline
from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels import FAMILY
from evomerge.merging.kernels.engine import ByKernel, ByMergekit, Merged, TensorMerger
from evomerge.merging.kernels.workspace import Workspace
from evomerge.merging.resident import ResidentMerger
from evomerge.merging.sources import InputTensors
from evomerge.merging.values import Values
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED
from tests.merging.layouts import recipe_config
from tests.thinned import thinned
from tests.tiny_models import tiny_family

FAST = sorted({"linear", *FAMILY})
NO_BASE = {"linear", "nuslerp"}
SHAPES = [(1027,), (33, 5), (7, 311), (64, 48)]
PLENTY = 1 << 30
Point = dict[str, Any]  # shared parameters by name, per-model ones as one value per source


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)  # as PlannedTensor
class Tensor:
    """What an engine asks of a planned tensor."""

    name: str
    task: ExecuteMergeMethodTask
    inputs: InputTensors
    out_dtype: str | None


class Plan:
    """A structure of one tensor per shape: a base and sources of random numbers.

    Task vectors hold zeros, and many equal magnitudes; the base holds negative zeros.
    """

    def __init__(
        self,
        method: str,
        n_sources: int,
        *,
        shapes: list[tuple[int, ...]] = SHAPES,
        stored: torch.dtype = torch.bfloat16,
        work: torch.dtype | None = torch.float32,
        out_dtype: str | None = None,
        noise: float = 0.05,
    ) -> None:
        generator = torch.Generator().manual_seed(n_sources)
        models = [ModelReference.parse(f"model{i}") for i in range(n_sources + 1)]
        self.method = method
        self.models = models = models[1:] if method == "nuslerp" else models
        self.tensors = []
        for i, shape in enumerate(shapes):
            base = torch.randn(shape, generator=generator)
            base.view(-1)[::7] = -0.0
            family = {models[0]: (base.to(stored), work)}
            for model in models[1:]:
                delta = (noise * torch.randn(shape, generator=generator) * 64).round() / 64
                family[model] = ((base + delta).to(stored), work)
            self.tensors.append(
                Tensor(
                    f"w{i}", self._task(f"w{i}"), InputTensors(family, torch.Tensor.to), out_dtype
                )
            )

    def _task(self, name: str) -> ExecuteMergeMethodTask:
        return ExecuteMergeMethodTask(
            method_name=self.method,
            gather_tensors=TensorDictWrapper(tensors=ImmutableMap({})),
            model_order=tuple(self.models),
            base_model=None if self.method in NO_BASE else self.models[0],
            output_weight=WeightInfo(name=name),
            parameters=ImmutableMap({}),
            input_parameters=ImmutableMap({}),
        )

    def values(self, point: Point) -> Sequence[tuple[Tensor, Values]]:
        spec = merge_methods.get(self.method).spec
        shared = {p.name: point.get(p.name, p.default) for p in spec.shared_parameters}
        per_input = {
            model: {
                p.name: point[p.name][i] if p.name in point else p.default
                for p in spec.input_parameters
                if p.scope == ParameterScope.INPUT or i > 0 or self.method in NO_BASE
            }
            for i, model in enumerate(self.models)
        }
        values = Values.of(shared, per_input)
        return [(tensor, values) for tensor in self.tensors]


def per_source(method: str, n_sources: int, *values: float) -> list[float]:
    """Values for base and sources in turn; the base's is used by linear only."""
    return [values[i % len(values)] for i in range(n_sources + 1)]


def points(method: str, n_sources: int) -> list[Point]:
    """Weights and densities inside, at and beyond their ends, then every switch."""
    spread = [(0.7, 0.3, 0.5), (0.2, -0.4, 0.9), (1.0, 0.0, 0.3), (0.35, 1.5, -2.0)]
    found = [{"weight": per_source(method, n_sources, *w)} for w in spread]
    if method in FAMILY:
        densities = [(0.5, 0.31, 0.8), (0.7, 1.0, 0.3), (0.4, 0.0, 0.62), (0.999, 0.001, 0.5)]
        if method.startswith("della"):  # +/- epsilon stays inside (0, 1)
            densities[-1] = (0.89, 0.11, 0.5)
        for point, density in zip(found, densities, strict=True):
            point["density"] = per_source(method, n_sources, *density)
            point["epsilon"] = per_source(method, n_sources, 0.1, 0.03)
            point["gamma"] = per_source(method, n_sources, 0.01, 0.2, 0.0)
        for normalize, rescale, int8 in product([False, True], repeat=3):
            switches = {"normalize": normalize, "rescale": rescale, "int8_mask": int8}
            found.append({**found[int8], **switches, "lambda": 0.7 if int8 else -1.3})
        return found
    return [*found, {**found[0], "normalize": False}]


def merged(plan: Plan, engine_: TensorMerger, kernels: Any, point: Point) -> list[Merged]:
    """All tensors of a merge with the generator where a merge starts, each computed at once."""
    torch.manual_seed(SEED)
    found = []
    for one in engine_.merged(plan, kernels, point, Deadline()):  # type: ignore[arg-type]  # a stand-in
        object.__setattr__(one, "held", one.tensor())
        found.append(one)
    return found


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Told apart: the two zeros, but not one NaN from another."""
    whole = {2: torch.int16, 4: torch.int32}[tensor.element_size()]
    return torch.where(tensor.isnan(), -1, tensor.contiguous().view(whole))


def check(
    plan: Plan, made: list[Point], n_bytes: int, *, by: type = ByKernel, block: int = 500
) -> None:
    """Every point, twice, by one engine that keeps what it can, equals mergekit's kernel."""
    budget = MemoryBudget(n_bytes, torch.device("cpu"))
    fast = TensorMerger(fast=True, merge_seed=SEED, budget=budget, workspace=Workspace(block))
    plain = TensorMerger(fast=False, merge_seed=SEED, budget=MemoryBudget(0, torch.device("cpu")))
    kernels = fast.kernels(plan)  # type: ignore[arg-type]  # a stand-in
    for point in [*made, *made]:
        ours = merged(plan, fast, kernels, point)
        theirs = merged(plan, plain, [None] * len(plan.tensors), point)
        for one, other in zip(ours, theirs, strict=True):
            assert type(one) is by
            assert one.held.dtype == other.held.dtype  # type: ignore[attr-defined]
            assert torch.equal(bits(one.held), bits(other.held)), (one.name, point)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "n_sources"),
    thinned((m, n) for i, m in enumerate(FAST) for n in ((1, 2, 3, 4), (2, 1, 4, 3))[i % 2]),
)
def test_every_kernel_equals_mergekits(method: str, n_sources: int) -> None:
    check(Plan(method, n_sources), points(method, n_sources), PLENTY)


MANY = sorted(set(FAST) - {"linear", "della", "breadcrumbs", "dare_linear"})
ODD_SHAPES = [(6,), (31,), (9, 5), (411, 37), (64, 48)]


@pytest.mark.parametrize(
    ("method", "n_sources"),
    [
        *thinned(("task_arithmetic", n) for n in (5, 6, 7, 8, 9)),
        *(("ties", n) for n in range(5, 10)),
    ],
)
def test_many_sources_are_added_as_mergekit_adds_them(method: str, n_sources: int) -> None:
    plan = Plan(method, n_sources, shapes=ODD_SHAPES)
    check(plan, [points(method, n_sources)[i] for i in (0, 1, 4, 11)], PLENTY)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ties", "task_arithmetic"])
def test_so_are_rows_that_are_long_enough_for_two_threads(method: str, threads: int) -> None:
    plan = Plan(method, 9, shapes=[(1, 65_567)])
    check(plan, [points(method, 9)[i] for i in (0, 11)], PLENTY, block=1 << 13)


@pytest.mark.parametrize("method", MANY)
def test_every_kernel_takes_many_sources(method: str) -> None:
    plan = Plan(method, 7, shapes=[(33, 5), (411, 37)])
    check(plan, points(method, 7)[:4], PLENTY)


@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])
def test_every_kernel_equals_mergekits_where_weights_cancel(method: str) -> None:
    check(Plan(method, 2), [{"weight": [0.0, 0.5, -0.5], "normalize": True}], PLENTY)


@pytest.mark.parametrize("method", FAST)
def test_float32_sources_are_read_as_they_are(method: str) -> None:
    plan = Plan(method, 3, stored=torch.float32, work=None)
    check(plan, points(method, 3)[:6], PLENTY)


@pytest.mark.parametrize("method", FAST)
def test_results_are_rounded_once_to_the_dtype_on_disk(method: str) -> None:
    check(Plan(method, 2, out_dtype="bfloat16"), points(method, 2)[:6], PLENTY)


@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize(
    "method", thinned(sorted({*FAST} - {"breadcrumbs", "dare_linear", "della_linear"}), of=6)
)
def test_tensors_large_enough_for_two_threads_are_equal(method: str, threads: int) -> None:
    plan = Plan(method, 3, shapes=[(129, 1021)])
    check(plan, [points(method, 3)[i] for i in range(2)], PLENTY, block=1 << 15)


@pytest.mark.parametrize("method", sorted({*FAST} - {"ties", "breadcrumbs", "breadcrumbs_ties"}))
def test_without_a_budget_the_tensors_are_the_same(method: str) -> None:
    check(Plan(method, 3), points(method, 3)[:7], 0)


SHARES = [0.0, 0.3, 1.0, 1.7]


@pytest.mark.parametrize("noise", [0.05, 1.0, 0.0])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("method", ["slerp", "nuslerp"])
def test_angles_are_mergekits(method: str, stored: torch.dtype, noise: float) -> None:
    n_sources = 1 if method == "slerp" else 2
    plan = Plan(method, n_sources, stored=stored, noise=noise, out_dtype="bfloat16")
    made: list[Point] = [{"t": t, "weight": [1 - t, t]} for t in SHARES]
    check(plan, [*made, {"t": 0.5, "weight": [0.3, -0.3]}], PLENTY)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["slerp", "nuslerp"])
def test_angles_of_long_tensors_are_mergekits(method: str, threads: int) -> None:
    plan = Plan(method, 1 if method == "slerp" else 2, shapes=[(1031, 1027), (129, 1021)])
    check(plan, [{"t": t, "weight": [1 - t, t]} for t in SHARES], PLENTY, block=1 << 15)


def test_a_slerp_of_bfloat16_rounds_its_result_only() -> None:
    check(Plan("slerp", 1, work=torch.bfloat16), [{"t": 0.3}, {"t": 0.6}], PLENTY)


def test_a_nuslerp_of_rows_is_mergekits() -> None:
    point = {"weight": [0.4, 0.6], "nuslerp_flatten": False}
    check(Plan("nuslerp", 2), [point], PLENTY, by=ByMergekit)


@pytest.mark.slow
def test_a_stream_kept_in_part_continues_where_it_ends() -> None:
    n_bytes = 5 << 20  # one chunk of random numbers, and a few ranks
    plan = Plan("dare_ties", 3, shapes=[(1024, 300), (500, 701), (64, 48)])
    check(plan, points("dare_ties", 3)[:3], n_bytes)


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties"])
def test_without_room_for_ranks_every_merge_sorts(method: str) -> None:
    made = [{"weight": [0.7, 0.3, 0.5], "density": [0.5, 0.3, 0.8]}]
    check(Plan(method, 2), made, 0)


def test_ranks_beyond_what_float32_counts_are_compared_as_integers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evomerge.merging.kernels.magnitude._EXACT_RANKS", 100)
    for method in ("ties", "breadcrumbs"):
        check(Plan(method, 2), points(method, 2), PLENTY)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("ties", {"n_sources": 16}),
        ("dare_ties", {"n_sources": 5, "shapes": [(64, 48), (1,)]}),
        ("dare_ties", {"work": torch.bfloat16}),
        ("task_arithmetic", {"stored": torch.float64, "work": torch.float32}),
    ],
)
def test_what_is_no_case_for_a_kernel_is_merged_by_mergekit(
    method: str, changes: dict[str, Any]
) -> None:
    plan = Plan(method, **{"n_sources": 2, **changes})
    check(plan, points(method, len(plan.models) - 1)[:2], PLENTY, by=ByMergekit)


@pytest.mark.parametrize("density", [-0.1, float("nan")])
def test_a_probability_mergekit_refuses_is_refused(density: float) -> None:
    budget = MemoryBudget(PLENTY, torch.device("cpu"))
    plan, fast = Plan("dare_linear", 1), TensorMerger(fast=True, merge_seed=SEED, budget=budget)
    point = {"weight": [0.5, 0.5], "density": [density, density]}
    with pytest.raises(RuntimeError, match="p_in"):
        merged(plan, fast, fast.kernels(plan), point)  # type: ignore[arg-type]  # a stand-in


def test_what_a_structure_kept_is_given_back_with_it() -> None:
    budget = MemoryBudget(1 << 24, torch.device("cpu"))
    fast = TensorMerger(fast=True, merge_seed=SEED, budget=budget)
    for _ in range(3):
        plan = Plan("ties", 2)
        kernels = fast.kernels(plan)  # type: ignore[arg-type]  # a stand-in
        merged(plan, fast, kernels, points("ties", 2)[0])
        left = budget.left
        del plan, kernels
    assert left < 1 << 24
    assert budget.left == 1 << 24


@pytest.mark.parametrize("method", ["ties", "della", "dare_ties", "task_arithmetic"])
def test_room_that_comes_free_is_used(method: str) -> None:
    budget, others = MemoryBudget(1 << 24, torch.device("cpu")), Plan("ties", 1)
    assert budget.grants(others, 1 << 24)
    fast, plan = TensorMerger(fast=True, merge_seed=SEED, budget=budget), Plan(method, 2)
    kernels = fast.kernels(plan)  # type: ignore[arg-type]  # a stand-in
    for _ in range(2):
        merged(plan, fast, kernels, points(method, 2)[0])
    assert budget.left == 0
    del others
    merged(plan, fast, kernels, points(method, 2)[0])
    assert budget.left < 1 << 24


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return tiny_family(tmp_path_factory.mktemp("family"), num_hidden_layers=3, dtype="bfloat16")


def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of tensors as they are written into their homes from now on."""
    names: list[str] = []
    for kind in (ByKernel, ByMergekit):
        write = kind.write

        def noted(self: Merged, home: torch.Tensor, write: Any = write) -> bool:
            names.append(self.name)
            return bool(write(self, home))

        monkeypatch.setattr(kind, "write", noted)
    return names


@pytest.mark.parametrize("method", ["ties", "dare_ties", "slerp"])
def test_only_tensors_whose_values_changed_are_merged_again(
    family: list[Any], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    merger, plain = (
        ResidentMerger(merge_seed=SEED),
        ResidentMerger(merge_seed=SEED, engine="reference"),
    )
    first = Recipe(recipe_config(method, "filters", family, dtype="float32"))
    other = recipe_config(method, "filters", family, dtype="float32")
    for scope in (*other["models"], other):
        for settings in scope.get("parameters", {}).values():
            settings[0]["value"] *= 0.9  # that of the mlp filter
    passed = Recipe(
        {"merge_method": "passthrough", "models": [{"model": str(family[1])}], "dtype": "float32"}
    )
    merger.merge(first)
    names = written(monkeypatch)
    merger.merge(passed)
    for recipe, only in [
        (first, ""),
        (first, None),
        (Recipe(other), "mlp"),
        (passed, ""),
        (first, ""),
    ]:
        names.clear()
        live = merger.merge(recipe).module.state_dict()
        rewritten = list(names)
        fresh = plain.merge(recipe).module.state_dict()
        assert all(torch.equal(live[name], fresh[name]) for name in fresh)
        if only:
            assert rewritten == [name for name in rewritten if only in name] != []
        else:
            assert len(rewritten) == (0 if only is None else len(fresh))
