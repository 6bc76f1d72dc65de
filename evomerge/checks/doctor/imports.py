"""Which packages can be imported, found out in another process: some take Python down with them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from evomerge.foundations.lifetime import own_children

TIMEOUT = 60.0  # seconds for all packages
_PROBE = "evomerge.checks.doctor.torch_probe"


def ask(modules: Sequence[str], timeout: float = TIMEOUT) -> tuple[dict[str, str], dict[str, Any]]:
    """Tries imports in another process, and in a new one after each that ends it.

    Args:
        modules: What to import, in this order.
        timeout: Seconds for all of them.

    Returns:
        Module -> why it cannot be imported, empty where it can; and what torch says of devices.
    """
    found: dict[str, str] = {}
    devices: dict[str, Any] = {}
    end = time.monotonic() + timeout
    left = list(modules)
    while left:
        lines, how = _child(left, max(end - time.monotonic(), 0.0))
        begun = ""
        for line in lines:
            answer = json.loads(line)
            begun = answer.get("begins", "")
            if "name" in answer:
                found[answer["name"]] = answer["broken"]
                devices = answer.get("devices", devices)
        if begun:
            found[begun] = how
        left = [name for name in left if name not in found]
        if how and not begun:
            found |= dict.fromkeys(left, how)
            break
    return found, devices


def _child(modules: Sequence[str], timeout: float) -> tuple[list[str], str]:
    """What the process wrote, and how it ended if not well."""
    command = [sys.executable, "-m", _PROBE, *modules]
    try:
        with own_children():
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                timeout=timeout,
                check=False,
            )
    except subprocess.TimeoutExpired as late:
        written = late.stdout or b""
        text = written.decode() if isinstance(written, bytes) else written
        return text.splitlines(), f"importing takes longer than {timeout:.0f} s"
    how = f"importing it ends Python with code {done.returncode}" if done.returncode else ""
    return done.stdout.splitlines(), how
