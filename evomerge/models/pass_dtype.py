"""The dtype of forward passes where the genome does not say: the models', but where it is slow.

A CPU without instructions for a dtype of 16 bits converts every number of every pass: several
times the time of float32, for the same scores within their errors.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from evomerge.foundations.reading import is_file, opened

FAST = "float32"
# Of each dtype that is slow without them: names on x86 and on ARM, by the system and by torch.
_INSTRUCTIONS = {
    "bfloat16": frozenset(("avx512_bf16", "amx_bf16", "bf16")),
    "float16": frozenset(
        ("avx512_fp16", "amx_fp16", "fphp", "asimdhp", "fp16_arith", "neon_fp16_arith")
    ),
}
_CPUINFO = Path("/proc/cpuinfo")
# Values of oneDNN's variable that keep it from using them.
_BELOW_BFLOAT16 = (
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
)
_BELOW = {
    "bfloat16": frozenset(_BELOW_BFLOAT16),
    "float16": frozenset((*_BELOW_BFLOAT16, "AVX512_CORE_BF16")),
}


def pass_dtype(models: str, device: str) -> str | None:
    """The dtype of forward passes; None: that of the models.

    Args:
        models: Dtype of merged models, e.g. ``"bfloat16"``.
        device: Where they run.
    """
    is_cpu = device.partition(":")[0] == "cpu"
    is_slow = is_cpu and models in _INSTRUCTIONS and not has_instructions(models)
    return FAST if is_slow else None


def reason(models: str) -> str:
    """Why passes are not made in the dtype of the models."""
    return f"this CPU has no {models} instructions"


def has_instructions(dtype: str) -> bool:
    """Whether this CPU has instructions for a dtype, and torch and its libraries may use them.

    Args:
        dtype: ``"bfloat16"`` or ``"float16"``.
    """
    import torch  # heavy; asked when models have been read

    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _BELOW[dtype]:
        return False
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    used = torch.backends.cpu.get_cpu_capability()  # less than there is, where a variable says so
    if is_x86 and not used.startswith(("AVX512", "AMX")):
        return False
    return not _INSTRUCTIONS[dtype].isdisjoint(_instructions())


def _instructions() -> set[str]:
    """The names of what the CPU can do, by the system; else by torch, where it says so."""
    if is_file(_CPUINFO):
        with opened(_CPUINFO) as file:
            return set(file.read().decode(errors="replace").split())
    import torch

    ask: Any = getattr(torch.cpu, "get_capabilities", dict)
    return {name for name, is_there in ask().items() if is_there}
