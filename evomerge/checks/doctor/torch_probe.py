"""Imports packages and asks torch for devices, in a process of its own: it may not come back.

``python -m evomerge.checks.doctor.torch_probe torch transformers`` writes one JSON line per package
as soon as it is known, and one with the devices after torch.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from typing import Any

from evomerge.foundations.errors import told


def main() -> None:
    """Imports every module named on the command line."""
    # Libraries write to standard output while they are imported; the answers have their own way.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in sys.argv[1:]:
        print(json.dumps({"begins": name}), file=answers, flush=True)
        found: dict[str, Any] = {"name": name, "broken": ""}
        try:
            module = importlib.import_module(name)
        # A broken package raises whatever it likes; finding that out is what this is for.
        except BaseException as error:
            found["broken"] = _one_line(error)
        else:
            if name == "torch":
                with contextlib.suppress(RuntimeError):  # a driver that does not fit
                    found["devices"] = _devices(module)
        print(json.dumps(found), file=answers, flush=True)


def _one_line(error: BaseException) -> str:
    return told(error)[:200]


def _devices(torch: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mps": bool(torch.backends.mps.is_available()),
        "cuda": [],
    }
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        major, minor = torch.cuda.get_device_capability(index)
        name = torch.cuda.get_device_name(index)
        found["cuda"].append(
            {"name": name, "capability": f"{major}.{minor}", "free": free, "total": total}
        )
    return found


if __name__ == "__main__":
    main()
