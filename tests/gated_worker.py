"""A worker that waits, hangs or dies where a test wants it; importable by processes and nodes."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Collection, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evomerge.executors.worker import Worker
from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.events import StageStarted
from evomerge.recipe.plain import Recipe
from tests.fake_executor import FormulaWorker


def _node() -> str:
    """Ray's id of the node; a process of this machine has none."""
    ray = sys.modules.get("ray")
    return str(ray.get_runtime_context().get_node_id()) if ray else "here"


class GatedWorker(FormulaWorker):
    """Says where it is and waits for a gate before it merges; notes what it has scored."""

    def __init__(self, gated: Gated) -> None:
        self.gated = gated
        self.folder = Path(gated.folder)

    def _run(self, candidate: Any, *arguments: Any) -> Generator[str, None, Outcome]:
        facts = dict(self.gated.faults.get(candidate.trial_id, {}))
        if facts.pop("killed", None):  # as the system does where memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        recipe = Recipe({**candidate.recipe.config, **facts})
        yield f"at {os.getpid()} {_node()}"
        if self.gated.held is None or candidate.trial_id in self.gated.held:
            with suppress(FileNotFoundError):
                os.close(os.open(self.folder / "gate", os.O_RDONLY))  # until somebody writes there
        outcome = yield from super()._run(replace(candidate, recipe=recipe), *arguments)
        with open(self.folder / "done", "a", encoding="utf-8") as file:
            file.write(f"{candidate.trial_id}\n")
        return outcome


@dataclass(frozen=True)
class Gated:
    """Builds them.

    Attributes:
        folder: Where the gate is, and what was scored is noted.
        held: Trials that wait at the gate; None: all.
        faults: Trial -> what a formula worker is to do with it; ``killed``: the process is.
    """

    folder: str
    held: Collection[int] | None = None
    faults: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def __call__(self) -> GatedWorker:
        return GatedWorker(self)


class Gate:
    """Holds workers until it is opened, for good."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.mkfifo(folder / "gate")

    def open(self) -> None:
        both = os.open(self.folder / "gate", os.O_RDWR)  # which waits for nobody
        os.unlink(self.folder / "gate")
        os.close(os.dup(both))
        os.write(both, b"")
        self._held = both  # who is about to open it finds it open

    @property
    def done(self) -> Counter[str]:
        return Counter((self.folder / "done").read_text(encoding="utf-8").split())


def after_all_wait(events: Any, n_workers: int = 2, first: int = 0) -> dict[int, list[str]]:
    """Trial -> its worker's process and node, once so many of them wait at the gate.

    Args:
        events: Of an executor or a run.
        n_workers: How many.
        first: Trials before it are not held.
    """
    places: dict[int, list[str]] = {}
    while len(places) < n_workers:
        event = next(events)
        if isinstance(event, StageStarted) and event.stage.startswith("at "):
            places |= {event.trial_id: event.stage.split()[1:]} if event.trial_id >= first else {}
    return places


class Greedy:
    """Merger and evaluator of a real worker; asks for more memory than there is."""

    def merge(self, *_: Any) -> Any:
        return bytearray(1 << 62)

    def evaluate(self, *_: Any) -> Any:
        raise AssertionError


def greedy_worker() -> Worker:
    return Worker(Greedy(), {"tasks": Greedy()})  # type: ignore[arg-type,dict-item]  # as far as used
