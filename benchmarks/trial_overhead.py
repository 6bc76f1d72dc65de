"""Where the time of a trial goes: kernels, forward passes, everything else item by item.

    python benchmarks/trial_overhead.py [GENOME] [--trials N] [--documents N] [--threads N]

Without a genome: 100 dimensions (four sources, 22 layers, task arithmetic by layer) and 1,000
documents of four options, on tiny models (bar: 5 ms of everything that neither merges nor runs
the model). With one, e.g. genomes/skills.yml after `make experts`: that search.

Kernels write merged tensors into the live model; forward passes are calls of the model. What
stands around them, plans, parameters of tensors, masks, logits read, is shown apart: it belongs to
merging and scoring. Generations are counted together, as some ask and tell once for many trials:
the median over them, and the least.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from phases import FORWARD, KERNELS, MERGE, SCORE, Spent, trials_of
from tiny_search import Size, tiny_search

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.genome.load import load_genome

BAR_MS = 5.0
WORK = (KERNELS, FORWARD, MERGE, SCORE)
SIZE = Size(
    models=4,
    layers=22,
    granularity="layers",
    layer_granularity=1,
    optimizer="cma_es",
    population=5,
)


def generations(trials: list[Spent], size: int) -> list[Spent]:
    """Means over the trials of each generation but the first, in which caches fill."""
    starts = range(size, len(trials) - size + 1, size)
    found = []
    for start in starts:
        total: Spent = sum(trials[start : start + size], Counter())
        found.append(Counter({phase: seconds / size for phase, seconds in total.items()}))
    return found


def table(rows: list[Spent]) -> None:
    """Prints milliseconds a trial of each phase, dearest first."""
    phases = {phase for row in rows for phase in row}
    middle = {phase: statistics.median(row[phase] for row in rows) for phase in phases}
    print(f"{'milliseconds a trial':36} {'median':>9} {'least':>9}")
    for phase in sorted(phases, key=lambda phase: (phase not in WORK, -middle[phase])):
        _show(phase, [row[phase] for row in rows])
    rest = [sum(seconds for phase, seconds in row.items() if phase not in WORK) for row in rows]
    _show(f"all the rest (bar {BAR_MS:g})", rest)
    _show("trial", [sum(row.values()) for row in rows])


def _show(label: str, seconds: list[float]) -> None:
    print(f"{label:36} {1e3 * statistics.median(seconds):9.2f} {1e3 * min(seconds):9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("genome", nargs="?", type=Path)
    parser.add_argument("--trials", default=40, type=int)
    parser.add_argument("--documents", default=1000, type=int)
    parser.add_argument("--threads", default=2, type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.genome is None:
            size = replace(SIZE, documents=arguments.documents, budget=arguments.trials)
            with tiny_search(folder, size) as search:
                trials, n_dims = trials_of(search), search.merge_space.space.n_dims
            generation = size.population
        else:
            changes = [f"optimizer.budget={arguments.trials}", "validation=[]", "holdout=[]"]
            compiled = compile_genome(*load_genome(arguments.genome, changes))
            search = search_for(compiled, folder / "run")
            trials, n_dims = trials_of(search), search.merge_space.space.n_dims
            generation = search.proposer.optimizer.population_size
    print(f"{len(trials)} trials in {n_dims} dimensions")
    table(generations(trials, generation))


if __name__ == "__main__":
    main()
