"""How good the merges are that each optimizer finds, after 10, 25, 50 and 100 trials.

Three searches over the example's experts (`make experts`), in 2, 18 and 60 dimensions. The best
trial so far, by its search score, is scored on the validation and holdout documents; the uniform
average, the best parent and the base stand beside. Results gather in one file: parts can be run
one by one, what is known is not run again, and --table only draws.

    python benchmarks/search_quality.py [--spaces wide ...] [--optimizers random tpe+cma_es ...]
                                        [--seeds 0 1 2] [--trials 100] [--quick] [--table]

An optimizer is a name, names joined by + for a chain, or a title of your own and a block as in a
genome: 'llm M={name: llm, base_url: "http://localhost:8000/v1", model: M}'. One that cannot be
used is left out with a line. --quick writes to a folder of its own and draws nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from quality_runs import Bench, KnownOutcomes, Meter
from quality_tables import CHECKPOINTS, drawing, tables

from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.files import write_atomic
from evomerge.genome.load import load_genome
from evomerge.nouns.events import TrialFinished
from evomerge.nouns.trial import Candidate

ROOT = Path(__file__).parents[1]
SPACES = {"narrow": "skills-narrow.yml", "skills": "skills.yml", "wide": "skills-wide.yml"}
OPTIMIZERS = (
    *("random", "qmc", "tpe", "gp", "nsga2", "cma_es", "swarm", "niches", "gradient"),
    "gradient+cma_es",
)
IMAGE = ROOT / "docs" / "images" / "search_quality.svg"
BASELINES = "baselines"  # stands where an optimizer's name would


@dataclass(frozen=True)
class Plan:
    """One search of the benchmark: space, optimizer as it was named, seed, trials."""

    space: str
    optimizer: str
    seed: int
    trials: int

    def is_in(self, row: dict[str, Any]) -> bool:
        """Whether a row of the results is of this search."""
        return all(row.get(key) == value for key, value in vars(self).items())

    @property
    def override(self) -> str:
        """The optimizer's block of the genome."""
        block = {**block_of(self.optimizer), "budget": self.trials, "seed": self.seed}
        return f"optimizer={json.dumps(block)}"


def block_of(optimizer: str) -> dict[str, Any]:
    """An optimizer as it was named on the command line, as a genome's block."""
    title, _, text = optimizer.partition("=")
    if text:
        block: dict[str, Any] = yaml.safe_load(text)
        return block
    names = title.split("+")
    return {"name": names[0]} if len(names) == 1 else {"chain": names}


def bench_of(space: str, folder: Path, meter: Meter) -> Bench:
    """Compiles the genome of a space; tasks, models and outcomes are shared by all its searches."""
    genome, source = load_genome(ROOT / "genomes" / SPACES[space])
    return Bench.of(genome, source, KnownOutcomes(folder / space, meter))


def searched(bench: Bench, plan: Plan, meter: Meter) -> dict[str, Any]:
    """Runs one search; a row of the results.

    Raises:
        EvomergeError: there is no such optimizer, or it cannot search this space.
    """
    genome, source = load_genome(ROOT / "genomes" / SPACES[plan.space], [plan.override])
    before = meter.passes
    found: list[tuple[Candidate, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        search, executor = bench.search(genome, source, Path(temporary) / "run")
        for event in search.run():
            if isinstance(event, TrialFinished) and not event.candidate.is_baseline:
                score = event.scores[0].value if event.scores else float("-inf")
                found.append((event.candidate, score))
                _progress(plan, len(found), max(score for _, score in found))
    own = meter.passes - before - executor.passes_run
    n_baselines = len(search.baselines)
    spent = bench.spent([candidate for candidate, _ in found])
    return {
        **vars(plan),
        "dims": search.merge_space.space.n_dims,
        "n_asked": len(found),
        "n_baselines": n_baselines,
        **spent,
        "own_passes": own,
        "curve": [round(score, 6) for _, score in found],
        "best": {str(n): bench.scores(_best(found[:n])) for n in CHECKPOINTS if n <= plan.trials},
    }


def _best(found: Sequence[tuple[Candidate, float]]) -> Candidate:
    """The best so far by search score, the earliest among equals."""
    return max(found, key=lambda pair: pair[1])[0]


def _progress(plan: Plan, n_done: int, best: float) -> None:
    line = f"{plan.space}, {plan.optimizer}, seed {plan.seed}: {n_done}/{plan.trials}"
    print(f"\r{line}, best {best:.4f}  ", end="", file=sys.stderr, flush=True)


def run(plans: Sequence[Plan], folder: Path) -> None:
    """Runs what is not known yet, space by space, and writes down each result as it comes."""
    results, meter = folder / "results.jsonl", Meter()
    useless: set[tuple[str, str]] = set()
    bench: tuple[str, Bench] | None = None
    with meter.watching():
        for plan in plans:
            known = list(rows_of(results))
            is_known = any(plan.is_in(row) for row in known)
            if is_known or (plan.space, plan.optimizer) in useless:
                continue
            if bench is None or bench[0] != plan.space:
                bench = plan.space, bench_of(plan.space, folder, meter)
            try:
                if not any(_is_of(row, BASELINES, plan.space) for row in known):
                    baselines = {"space": plan.space, "optimizer": BASELINES}
                    write_row(results, {**baselines, "scores": bench[1].baselines()})
                row = searched(bench[1], plan, meter)
            except (EvomergeError, ModuleNotFoundError) as error:
                useless.add((plan.space, plan.optimizer))
                print(f"{plan.space}, {plan.optimizer}: left out: {error}", file=sys.stderr)
                continue
            write_row(results, row)
            print(file=sys.stderr)


def _is_of(row: dict[str, Any], optimizer: str, space: str) -> bool:
    return bool(row["optimizer"] == optimizer and row["space"] == space)


def write_row(results: Path, row: dict[str, Any]) -> None:
    """Appends one result."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as file:
        file.write(f"{canonical_json(row)}\n")


def rows_of(results: Path) -> Iterator[dict[str, Any]]:
    """What earlier calls found; a line cut by a kill is not one."""
    if results.is_file():
        for line in results.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--trials", type=int, default=CHECKPOINTS[-1])
    parser.add_argument("--folder", type=Path, default=Path("runs/search-quality"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="10 trials of two seeds")
    parser.add_argument("--table", action="store_true", help="draw what is known, run nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder, seeds, trials = arguments.folder, arguments.seeds, arguments.trials
    if arguments.quick:
        folder, seeds, trials = folder.with_name(f"{folder.name}-quick"), [0, 1], 10
    plans = [
        Plan(space, optimizer, seed, trials)
        for space in arguments.spaces
        for seed in seeds
        for optimizer in arguments.optimizers
    ]
    if not arguments.table:
        run(plans, folder)
    rows = list(rows_of(folder / "results.jsonl"))
    print(tables(rows))
    if not arguments.quick:
        write_atomic(IMAGE, drawing(rows))


if __name__ == "__main__":
    main()
