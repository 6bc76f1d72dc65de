"""What all of a model's scoring takes, in this version and in others: `LmEval.evaluate`.

A version is a folder with its `evomerge` and `benchmarks`, as `git worktree add --detach` makes
one. Each lives in a process of its own, has the models and tasks of its `scoring.py`, and they
take turns. Told are the least seconds of the processor, over all threads, and by how many times
the version took longer than the first one, as the median over the rounds. The first evaluation,
in which prompts are read, is none of them. With `--layers 1` there is little but what is not a
forward pass. Nothing is asserted.

    python benchmarks/evaluations.py [FOLDER ...] [--layers 8] [--documents 8] [--prompts 16]
                                     [--repeats 5] [--threads 2] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
WORKLOADS = ["shared few-shot", "own few-shot", "zero-shot", "generation"]


def seconds() -> float:
    """Of the processor."""
    return time.process_time()


def evaluator(folder: str, task: str) -> Any:
    """What scores one task, in any version since there is a class for it."""
    lm_eval = import_module("evomerge.evaluators.lm_eval")
    try:
        genome = import_module("evomerge.genome.task_blocks")
    except ImportError:  # before engines and evaluators were tables
        genome = import_module("evomerge.genome.tasks")
        return lm_eval.LmEval(
            [genome.Task(name=task)], genome.Evaluation(batch_size=8), search_path=[folder]
        )
    engine = import_module("evomerge.inference").ENGINES["transformers"]
    settings = genome.EvaluationBlock(batch_size=8)
    return lm_eval.LmEval([genome.Task(name=task)], settings, engine, search_path=[folder])


def take_turns(options: argparse.Namespace) -> None:
    """One version: evaluates what it is told to, and says what that took and what came out."""
    told, sys.stdout = sys.stdout, sys.stderr  # lm-eval prints
    torch, scoring = import_module("torch"), import_module("scoring")
    live_model = import_module("evomerge.merging.live_model")
    torch.set_num_threads(options.threads)
    module = scoring.model()
    module.model.layers = module.model.layers[: options.layers]
    module.config.num_hidden_layers = len(module.model.layers)
    live = live_model.LiveModel(module, scoring.tokenizer())
    evaluators: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        scoring.write_tasks(Path(temporary), options.documents, options.prompts)
        print("ready", file=told, flush=True)
        for line in sys.stdin:
            task = line.strip().replace(" ", "_").replace("-", "_")
            if task not in evaluators:
                evaluators[task] = evaluator(temporary, task)
                evaluators[task].prepare()
            started = seconds()
            found = evaluators[task].evaluate(live)
            took = seconds() - started
            print(took, found.metrics[0].value, len(found.documents), file=told, flush=True)


class Version:
    """A version in its own process.

    Args:
        folder: Where it is.
        given: The options of this one.
    """

    def __init__(self, folder: Path, given: list[str]) -> None:
        paths = os.pathsep.join([str(folder), str(folder / "benchmarks")])
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, "--one", *given],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.name = folder.name
        self.wait()

    def evaluate(self, workload: str) -> tuple[float, str]:
        """Seconds, and what came out."""
        assert self._process.stdin is not None
        print(workload, file=self._process.stdin, flush=True)
        took, _, found = self.wait().partition(" ")
        return float(took), found

    def wait(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self._process.wait()}")
        return line.strip()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


def compare(versions: list[Version], workload: str, repeats: int) -> None:
    """Has all of them evaluate, and prints a line for each."""
    results = {one.name: one.evaluate(workload)[1] for one in versions}
    took: dict[str, list[float]] = {one.name: [] for one in versions}
    for turn in range(repeats):
        for one in versions if turn % 2 else reversed(versions):
            took[one.name].append(one.evaluate(workload)[0])
    first = versions[0].name
    for name, own in took.items():
        pairs = zip(own, took[first], strict=True)
        times = statistics.median(one / other for one, other in pairs)
        is_same = "the same" if results[name] == results[first] else "another"
        print(
            f"{workload:16} {name:12} {min(own):9.3f} s {times:7.3f}  {is_same} result", flush=True
        )


def main() -> None:
    """Measures this version, and those in the folders that are named; the first is the measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--layers", default=8, type=int)
    parser.add_argument("--documents", default=8, type=int)
    parser.add_argument("--prompts", default=16, type=int)
    parser.add_argument("--repeats", default=5, type=int)
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--only", nargs="+", default=WORKLOADS, choices=WORKLOADS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        take_turns(options)
        return
    names = ("layers", "documents", "prompts", "threads")
    given = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    versions = [Version(one.absolute(), given) for one in [*options.folders, HERE]]
    print(f"{'':16} {'version':12} {'least':>11} {'times':>7}")
    try:
        for workload in options.only:
            compare(versions, workload, options.repeats)
    finally:
        for one in versions:
            one.close()


if __name__ == "__main__":
    main()
