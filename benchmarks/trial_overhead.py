"""Where the time of a trial goes on the example: kernels, forward passes, everything else.

    python benchmarks/trial_overhead.py [GENOME] [--trials N]

Kernels are mergekit's merge methods; forward passes are calls of the model, generation's included.
Everything else is ask, render, planning, casts and copies of tensors, requests, filters, metrics,
objective, tell and ledger. Run it on a quiet machine, after `make experts`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from transformers import PreTrainedModel

from evomerge.compiler import compile_genome, search_for
from evomerge.events import TrialFinished
from evomerge.genome import load_genome


class Stopwatch:
    """Seconds spent in the outermost calls of some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - started

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("genome", nargs="?", default="genomes/skills.yml", type=Path)
    parser.add_argument("--trials", default=40, type=int)
    arguments = parser.parse_args()
    kernels, forward = Stopwatch(), Stopwatch()
    execute, call = ExecuteMergeMethodTask.execute, PreTrainedModel.__call__
    ExecuteMergeMethodTask.execute = kernels.around(execute)  # type: ignore[method-assign]  # measured here
    PreTrainedModel.__call__ = forward.around(call)  # type: ignore[method-assign]  # measured here

    changes = [f"optimizer.budget={arguments.trials}", "validation=[]", "holdout=[]"]
    genome, source = load_genome(arguments.genome, changes)
    rows: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        search = search_for(compile_genome(genome, source), Path(folder) / "run")
        before = (time.perf_counter(), kernels.seconds, forward.seconds)
        for event in search.run():
            if isinstance(event, TrialFinished):
                now = (time.perf_counter(), kernels.seconds, forward.seconds)
                if not event.candidate.is_baseline:
                    rows.append(tuple(b - a for a, b in zip(before, now, strict=True)))  # type: ignore[arg-type]  # three of three
                before = now
    total, kernel, model = (statistics.median(row[i] for row in rows[1:]) for i in range(3))
    rest = statistics.median(t - k - f for t, k, f in rows[1:])
    print(
        f"{len(rows) - 1} trials, medians in milliseconds: trial {1e3 * total:.1f}, "
        f"kernels {1e3 * kernel:.1f}, forward {1e3 * model:.1f}, else {1e3 * rest:.1f} "
        f"({100 * rest / total:.1f} % of a trial)"
    )


if __name__ == "__main__":
    main()
