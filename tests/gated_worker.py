"""A worker on a Ray cluster that waits where a test wants it; importable by its nodes."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.nouns.evaluation import Outcome
from tests.fake_executor import FormulaWorker


class GatedWorker(FormulaWorker):
    """Says where it is and waits for a gate before it merges; notes what it has scored."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def _run(self, candidate: Any, *arguments: Any) -> Generator[str, None, Outcome]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        yield f"at {os.getpid()} {node}"
        with suppress(FileNotFoundError):
            os.close(os.open(self.folder / "gate", os.O_RDONLY))  # until somebody writes there
        outcome = yield from super()._run(candidate, *arguments)
        with open(self.folder / "done", "a", encoding="utf-8") as file:
            file.write(f"{candidate.trial_id}\n")
        return outcome


@dataclass(frozen=True)
class Gated:
    folder: str

    def __call__(self) -> GatedWorker:
        return GatedWorker(self.folder)
