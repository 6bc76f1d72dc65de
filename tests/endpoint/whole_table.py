"""Plays every part of the table in one process; prints how much memory and time that took."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from tests.endpoint.misbehaviours import COSTLY, HOLDING, PROMPT
from tests.endpoint.sufferers import suffer
from tests.endpoint.wire import answer, misbehaving

MARGIN = 15.0  # seconds beyond a limit, on a machine that does much else


def main(folder: Path) -> None:
    """Prints one line of JSON."""
    with misbehaving(lambda wire: wire.say(answer(wire.proposed("well")))) as url:
        suffer(url, folder / "good", 20.0)  # loads all that is needed
    before = _peak_mib()
    late = {}
    table = {**dict.fromkeys(PROMPT, 20.0), **dict.fromkeys(HOLDING, 0.05)}
    table |= dict.fromkeys(COSTLY, 20.0)
    parts = {**PROMPT, **HOLDING, **COSTLY}
    for number, (name, seconds) in enumerate(table.items()):
        with misbehaving(parts[name]) as url:
            found = suffer(url, folder / str(number), seconds)
        for what, (taken, allowed) in found.seconds.items():
            if taken > allowed + MARGIN:
                late[f"{name}: {what}"] = taken
    figures = {"parts": len(table), "peak_mib": _peak_mib() - before, "late": late}
    print(json.dumps(figures))


def _peak_mib() -> float:
    """The most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
