"""The dtype of forward passes where the genome does not say: the models', but where it is slow.

A CPU without instructions for bfloat16 converts every number of every pass: several times the
time of float32, for the same scores within their errors.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from evomerge.reading import is_file, opened

SLOW_WITHOUT = ("bfloat16", "float16")
FAST = "float32"
REASON = "this CPU has no bfloat16 instructions"
# Their names on x86 and on ARM.
_INSTRUCTIONS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
_CPUINFO = Path("/proc/cpuinfo")
# Values of oneDNN's variable that keep it from using them.
_BELOW = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


def pass_dtype(models: str, device: str) -> str | None:
    """The dtype of forward passes; None: that of the models.

    Args:
        models: Dtype of merged models, e.g. ``"bfloat16"``.
        device: Where they run.
    """
    is_cpu = device.partition(":")[0] == "cpu"
    return FAST if is_cpu and models in SLOW_WITHOUT and not has_bfloat16() else None


def has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16, and torch and its libraries may use them."""
    import torch  # heavy; asked when models have been read

    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _BELOW:
        return False
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    used = torch.backends.cpu.get_cpu_capability()  # less than there is, where a variable says so
    if is_x86 and not used.startswith(("AVX512", "AMX")):
        return False
    return not _INSTRUCTIONS.isdisjoint(_instructions())


def _instructions() -> set[str]:
    """The names of what the CPU can do, by the system; else by torch, where it says so."""
    if is_file(_CPUINFO):
        with opened(_CPUINFO) as file:
            return set(file.read().decode(errors="replace").split())
    import torch

    ask: Any = getattr(torch.cpu, "get_capabilities", dict)
    return {name for name, is_there in ask().items() if is_there}
