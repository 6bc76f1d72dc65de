"""Compiled sums give mergekit's tensors to the bit, and nothing is lost where none compiles."""

from __future__ import annotations

import logging
import os
import shutil
from typing import Any

import pytest
import torch

from evomerge.merging.kernels import fused, workspace
from evomerge.merging.kernels.fused import ARITHMETIC, LINEAR, Fusion, scalars_of
from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.kernels.workspace import Workspace
from tests.merging.test_kernels import PLENTY, Plan, check, per_source, points

SUMS = {"linear": LINEAR, "task_arithmetic": ARITHMETIC}
LENGTH = 1 << 15

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="no compiler here"
)


@pytest.fixture(autouse=True)
def _large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "_BLOCK_PER_THREAD", 1 << 15)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What became of every sum that was to be compiled, from the first merge on."""
    found: list[Any] = []
    compile_ = fused._compiled

    def recorded(*arguments: Any) -> Any:
        found.append(compile_(*arguments))
        return found[-1]

    monkeypatch.setattr(fused, "PAYS_AFTER", 0)
    monkeypatch.setattr(fused, "_compiled", recorded)
    return found


def fill(fusion: Fusion, *, length: int = LENGTH, home: torch.dtype = torch.float32) -> bool:
    """Whether a sum of two sources is compiled; if so, that it is filled in."""
    out = torch.full((length,), -1.0).to(home)
    sources = [torch.arange(length).float(), torch.ones(length)]
    output = OutputTensor(out, (torch.float32, torch.float32), Workspace())
    is_filled = fusion.fills(output, LINEAR, scalars_of([2.0, 3.0]), None, sources)
    expected = 2 * sources[0] + 3 if is_filled else torch.full((length,), -1.0)
    assert torch.equal(out, expected.to(home))
    return is_filled


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("n_sources", [2, 4])
@pytest.mark.parametrize("method", sorted(SUMS))
def test_compiled_sums_equal_mergekits(
    method: str, n_sources: int, compiled: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=fused.__name__)
    plan = Plan(method, n_sources, shapes=[(411, 307), (33, 5)])
    normalized = {"weight": per_source(method, n_sources, 0.3, -0.2, 0.8), "normalize": True}
    check(plan, [*points(method, n_sources)[:4], normalized], PLENTY)
    assert compiled
    assert all(compiled), caplog.text


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("method", sorted(SUMS))
@pytest.mark.parametrize(
    ("stored", "out_dtype"),
    [(torch.bfloat16, "bfloat16"), (torch.float16, "float16"), (torch.float32, "bfloat16")],
)
def test_compiled_sums_are_rounded_once(
    method: str, stored: torch.dtype, out_dtype: str, compiled: list[Any]
) -> None:
    work = None if stored == torch.float32 else torch.float32
    plan = Plan(method, 3, shapes=[(411, 307)], stored=stored, work=work, out_dtype=out_dtype)
    check(plan, points(method, 3)[:4], 0)
    assert compiled
    assert all(compiled)


@pytest.mark.slow
@needs_compiler
def test_a_sum_is_compiled_once_so_much_was_read_that_it_pays() -> None:
    fusion = Fusion(pays_after=3 * LENGTH)
    assert [fill(fusion) for _ in range(4)] == [False, True, True, True]
    fusion.is_allowed = False
    assert not fill(fusion)


def test_small_tensors_are_not_worth_the_call(compiled: list[Any]) -> None:
    assert not fill(Fusion(), length=LENGTH - 1)
    assert not compiled


@pytest.mark.parametrize("is_broken", [False, True])
def test_without_a_compiler_or_its_roundings_torch_adds_as_before(
    is_broken: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compile_(function: Any, **_: Any) -> Any:
        def off_by_one(home: torch.Tensor, *arguments: Any) -> None:
            if is_broken:
                raise RuntimeError("no g++\nlong story")
            LINEAR.plain(home, *arguments)
            home[-1] += 1

        return off_by_one

    monkeypatch.setattr(torch, "compile", compile_)
    caplog.set_level(logging.INFO, logger=fused.__name__)
    fusion = Fusion(pays_after=0)
    assert [fill(fusion) for _ in range(3)] == [False] * 3
    reason = "RuntimeError: no g++" if is_broken else "the compiler rounds in other places"
    assert [record.message for record in caplog.records] == [f"sums are not compiled: {reason}"]


def test_where_torch_refuses_to_compile_it_adds_as_before(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compile_(function: Any, **_: Any) -> Any:
        raise RuntimeError("Unexpected type of attr")

    monkeypatch.setattr(torch, "compile", compile_)
    caplog.set_level(logging.INFO, logger=fused.__name__)
    assert not fill(Fusion(pays_after=0))
    assert "RuntimeError: Unexpected type of attr" in caplog.text


@pytest.mark.slow
@needs_compiler
def test_many_kinds_of_sums_are_compiled_each() -> None:
    """torch compiles the same code for eight kinds of arguments at most."""
    fusion = Fusion(pays_after=0)
    for n_sources in range(1, 12):
        home = torch.empty(LENGTH)
        output = OutputTensor(home, (torch.float32, torch.float32), Workspace())
        sources = [torch.ones(LENGTH)] * n_sources
        assert fusion.fills(output, LINEAR, scalars_of([1.0] * n_sources), None, sources)
        assert torch.equal(home, torch.full((LENGTH,), float(n_sources)))


def test_a_compiled_sum_that_fails_later_is_added_by_torch_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def compile_(function: Any, **_: Any) -> Any:
        def fails_from_the_third_on(*arguments: Any) -> None:
            LINEAR.plain(*arguments)
            calls.append(arguments)
            if len(calls) > 2:
                raise RuntimeError("recompile limit")

        return fails_from_the_third_on

    monkeypatch.setattr(torch, "compile", compile_)
    caplog.set_level(logging.INFO, logger=fused.__name__)
    fusion = Fusion(pays_after=0)
    outputs = [
        OutputTensor(torch.empty(LENGTH), (torch.float32,) * 2, Workspace()) for _ in range(4)
    ]
    sources = [torch.ones(LENGTH)]
    filled = [fusion.fills(out, LINEAR, scalars_of([2.0]), None, sources) for out in outputs]
    assert filled == [True, False, False, False]
    assert "RuntimeError: recompile limit" in caplog.text


@pytest.mark.parametrize("length", [1, 7, fused._STEP, fused._STEP + 1, 3 * fused._STEP - 1])
def test_no_part_is_tiny(length: int) -> None:
    parts = list(fused._parts(length))
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert parts[-1][1] == length
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) <= fused._STEP + 64
    assert max(sizes) - min(sizes) < 64 * len(sizes)
    assert all(start % 64 == 0 for start, _ in parts)


def test_where_compiling_is_switched_off_nothing_runs_in_more_passes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    caplog.set_level(logging.INFO, logger=fused.__name__)
    assert not fill(Fusion(pays_after=0))
    assert "NotCompiledError" in caplog.text


@pytest.mark.parametrize("kind", SUMS.values(), ids=SUMS)
def test_the_plain_sums_tell_one_rounding_from_two(kind: fused.Sum) -> None:
    """What compiled sums are compared with would notice the other way of adding.

    torch's addcmul rounds once where the processor, or ATEN_CPU_CAPABILITY, has such an
    instruction, and twice elsewhere; a product that is rounded by itself does so everywhere.
    """
    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(4099, generator=draw) for _ in range(3)]
    scalars = scalars_of([0.3, 0.7, -0.2][kind.n_bases :])
    found, once, twice = torch.empty(4099), torch.zeros(4099), torch.zeros(4099)
    kind.plain(found, scalars, None, tensors)
    entries = tensors if kind is LINEAR else [one - tensors[0] for one in tensors[1:]]
    for entry, weight in zip(entries, scalars[2:], strict=True):
        twice = twice + entry * weight
        once = (once.double() + entry.double() * weight.double()).float()
    if kind is not LINEAR:
        once, twice = tensors[0] + once, tensors[0] + twice
    assert not torch.equal(once, twice)
    ways = [torch.equal(found, way) for way in (once, twice)]
    assert ways == [False, True] or (kind is LINEAR and ways == [True, False])
