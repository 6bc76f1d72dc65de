"""The dtype of forward passes: the models', but float32 on a CPU that has nothing for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from evomerge.checks import machine_room as machine
from evomerge.checks.context import CheckContext
from evomerge.compiler.recorded_genome import dtype_of
from evomerge.compiler.start import _pass_notes
from evomerge.executors.worker_factory import WorkerFactory
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.models import pass_dtype as rule


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """Pretends to be a CPU with some instructions, which torch uses as far as it says."""

    def pretend(words, capability="AVX512", kind="x86_64", most=""):
        file = tmp_path / "cpuinfo"
        file.write_text(f"processor : 0\nflags : fpu {words}\n")
        monkeypatch.setattr(rule, "_CPUINFO", file)
        monkeypatch.setattr(rule.platform, "machine", lambda: kind)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", most)

    return pretend


def genome_of(rest: str = ""):
    text = f"genome: {{models: [a, b], merge_method: linear}}\ntasks: [x]\n{rest}"
    return validate_genome(parse_yaml(text, "g.yml"))


@pytest.mark.parametrize(
    ("there", "has"),
    [
        (("avx2 avx512f", "AVX512"), False),  # the first kinds of AVX-512 have none
        (("avx2 avx512f avx512_bf16", "AVX512"), True),
        (("avx2 avx512f amx_tile amx_bf16", "AMX"), True),
        (("avx2", "AVX2"), False),
        (("avx2 avx512f avx512_bf16", "AVX2"), False),  # ATEN_CPU_CAPABILITY=avx2
        (("avx2 avx512f avx512_bf16", "AVX512", "x86_64", "avx2"), False),
        (("avx2 avx512f avx512_bf16", "AVX512", "x86_64", "AVX512_CORE_BF16"), True),
        (("asimd bf16 i8mm", "DEFAULT", "aarch64"), True),
        (("asimd fphp", "DEFAULT", "aarch64"), False),
    ],
    ids=str,
)
def test_bfloat16_is_there_where_the_cpu_has_it_and_torch_may_use_it(cpu, there, has):
    cpu(*there)
    assert rule.has_instructions("bfloat16") == has
    assert rule.pass_dtype("bfloat16", "cpu") == (None if has else "float32")


def test_a_system_without_a_file_on_its_cpu_is_asked_through_torch(monkeypatch, cpu):
    cpu("", kind="arm64", capability="DEFAULT")
    monkeypatch.setattr(rule, "_CPUINFO", Path("nowhere"))
    for has in (False, True):
        known = {"bf16": has, "fp16_arith": not has, "sse": not has}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known, raising=False)
        assert rule.has_instructions("bfloat16") == has
        assert rule.has_instructions("float16") != has


@pytest.mark.parametrize(
    ("there", "dtype", "other"),
    [
        (("avx512f avx512_bf16", "AVX512"), "bfloat16", "float16"),
        (("avx512f avx512_fp16", "AVX512"), "float16", "bfloat16"),
        (("avx512f amx_bf16", "AMX"), "bfloat16", "float16"),
        (("avx512f amx_fp16", "AMX"), "float16", "bfloat16"),
        (("asimd bf16", "DEFAULT", "aarch64"), "bfloat16", "float16"),
        (("asimd fphp asimdhp", "DEFAULT", "aarch64"), "float16", "bfloat16"),
        (
            ("avx512_bf16 avx512_fp16", "AVX512", "x86_64", "AVX512_CORE_BF16"),
            "bfloat16",
            "float16",
        ),
    ],
    ids=str,
)
def test_a_cpu_with_instructions_for_one_dtype_has_none_for_the_other(cpu, there, dtype, other):
    cpu(*there)
    assert rule.pass_dtype(dtype, "cpu") is None
    assert rule.pass_dtype(other, "cpu") == "float32"


def test_other_devices_and_dtypes_are_left_as_they_are(cpu):
    cpu("avx2", "AVX2")
    assert rule.pass_dtype("float16", "cpu") == "float32"
    assert rule.pass_dtype("float32", "cpu") is None
    for device in ("cuda", "cuda:1", "mps"):
        assert rule.pass_dtype("bfloat16", device) is None


def test_a_check_says_so_unless_the_genome_says_the_dtype():
    for models in ("bfloat16", "float16"):
        space = SimpleNamespace(out_dtype=models)
        (found,) = machine.passes(CheckContext(genome_of(), merge_space=space, dtype="float32"))
        assert str(found).startswith(
            f"evaluation.dtype: forward passes in float32: this CPU has no {models} instructions"
        )
        given = genome_of("evaluation: {dtype: float32}")
        assert list(machine.passes(CheckContext(given, merge_space=space, dtype="float32"))) == []
        assert list(machine.passes(CheckContext(genome_of(), merge_space=space))) == []


def test_a_run_keeps_the_dtype_it_began_with_and_says_so():
    genome = genome_of()
    for then, now, said in (
        (
            "float32",
            "float32",
            ["forward passes in float32: this CPU has no float16 instructions"],
        ),
        ("float32", None, ["forward passes in float32, as the run began"]),
        (None, "float32", ["forward passes in the dtype of the models, as the run began"]),
        (None, None, []),
    ):
        worker_factory = WorkerFactory({}, EvaluationBlock(), (), 0, "cpu").passing_in(now)
        compiled = SimpleNamespace(
            genome=genome,
            tasks=SimpleNamespace(worker_factory=worker_factory),
            merge_space=SimpleNamespace(out_dtype="float16"),
        )
        header = {"dtype": then}
        assert dtype_of(header, genome) == then
        assert _pass_notes(compiled, header) == said
    # A run of an older version wrote none: it passed in what its genome says.
    assert dtype_of({}, genome_of("evaluation: {dtype: bfloat16}")) == "bfloat16"
