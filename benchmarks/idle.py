"""How long two worker processes stand idle where trials take unequally long.

    python benchmarks/idle.py [OPTIMIZER...] [--trials 60] [--workers 2] [--unit 0.2]

A trial sleeps from one to four units, drawn from its recipe, and is scored by a formula of its
weights: the processes, the pipes, the ledger and the optimizers are the real ones. Prints for each
optimizer the share of the workers' time without a trial, as `evomerge show` tells it (bar: 5 %),
the same while the optimizer may still be asked, and the seconds of the whole search.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_search import Size, tiny_search

from evomerge.executors.processes import Processes
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.trial import Candidate

NAMES = ("tpe", "gp", "random", "niches", "cma_es", "nsga2", "swarm")
BAR = 0.05


class SleepyWorker:
    """Scores a recipe by its weights, after a while."""

    def __init__(self, unit: float) -> None:
        self._unit = unit

    def run(self, candidate: Candidate, *_: Any) -> Generator[str, None, Outcome]:
        """See :meth:`evomerge.executors.worker.Worker.run`."""
        yield "evaluate"
        began = time.monotonic()
        time.sleep(self._unit * random.Random(candidate.recipe.digest).uniform(1.0, 4.0))
        weights = [value for value in candidate.point.values() if isinstance(value, float)]
        score = 1.0 - sum((weight - 0.4) ** 2 for weight in weights)
        metric = Metric(MetricKey("tiny_arc", "acc"), score, 0.01, 10, True)
        seconds = {"evaluate": time.monotonic() - began}
        return Outcome(TrialState.COMPLETE, Evaluation((metric,)), "", seconds)


@dataclass(frozen=True)
class Sleepy:
    """Builds such workers, wherever they live."""

    unit: float

    def __call__(self) -> SleepyWorker:
        """One of them."""
        return SleepyWorker(self.unit)


def shares(name: str, n_trials: int, n_workers: int, unit: float) -> tuple[float, float, float]:
    """Idle share of a search, the same without what came after its last ask, and its seconds."""
    size = Size(models=6, optimizer=name, budget=n_trials, population=8 if name in _MANY else 1)
    with tempfile.TemporaryDirectory() as folder, tiny_search(Path(folder), size) as search:
        search.executor.close()
        search.executor = Processes(Sleepy(unit), n_workers)
        began = time.monotonic()
        for _ in search.run():
            pass
        seconds = time.monotonic() - began
        trials = [*search.ledger.trials.values()]  # in the order in which they were over
    return _share(trials), _share(trials[: -(n_workers - 1) or None]), seconds


_MANY = ("cma_es", "nsga2", "swarm")


def _share(trials: list[Any]) -> float:
    idle = sum(trial.idle for trial in trials)
    return idle / (idle + sum(sum(trial.outcome.seconds.values()) for trial in trials))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("optimizers", nargs="*", default=NAMES)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--unit", type=float, default=0.2)
    given = parser.parse_args()
    print("optimizer    idle  before the last trials  seconds")
    for name in given.optimizers:
        whole, before, seconds = shares(name, given.trials, given.workers, given.unit)
        verdict = "" if whole < BAR else "  above the bar"
        print(f"{name:10s} {whole:6.1%} {before:23.1%} {seconds:8.1f}{verdict}", flush=True)


if __name__ == "__main__":
    main()
