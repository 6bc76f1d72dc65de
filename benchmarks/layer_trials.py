"""What a trial that stacks layers takes beside its forward passes, and what merging it would take.

    python benchmarks/layer_trials.py [--width 576] [--layers 30] [--documents 100] [--trials 12]

Two Llamas of random weights, as deep and wide as SmolLM2-135M with MLPs of twice that width, are
searched by edits of a path (bar: 2 % outside of forward passes). Counted are the trials after
the first third, in which caches fill; then the same recipes merged into a live model, as any other
recipe is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import yaml
from phases import FORWARD, trials_of
from tiny_search import Size, write

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.genome.load import load_genome
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe

BAR = 0.02
MERGED = 3  # recipes that are merged, too


def genome_of(folder: Path, size: Size) -> Path:
    """Writes models, task and genome; returns the genome."""
    path = write(folder, size)
    genome = yaml.safe_load(path.read_text())
    genome["genome"] = {"models": genome["genome"]["models"], "space": {"name": "layers"}}
    path.write_text(yaml.safe_dump(genome))
    return path


def merge_seconds(recipes: list[Recipe]) -> list[float]:
    """What the same recipes take where all are merged."""
    merger, found = ResidentMerger(), []
    for recipe in recipes:
        begun = time.perf_counter()
        merger.merge(recipe)
        found.append(time.perf_counter() - begun)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", default=576, type=int)
    parser.add_argument("--layers", default=30, type=int)
    parser.add_argument("--documents", default=100, type=int)
    parser.add_argument("--trials", default=12, type=int)
    parser.add_argument("--threads", default=1, type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = Size(
        layers=arguments.layers,
        width=arguments.width,
        documents=arguments.documents,
        budget=arguments.trials,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        search = search_for(compile_genome(*load_genome(genome_of(folder, size))), folder / "run")
        trials = trials_of(search)
        measured = trials[len(trials) // 3 :]
        own = [one for one in search.leaderboard.trials if not one.candidate.is_baseline]
        merges = merge_seconds([one.candidate.recipe for one in own[:MERGED]])
    whole = statistics.median(sum(one.values()) for one in measured)
    outside = [sum(one.values()) - one[FORWARD] for one in measured]
    share = statistics.median(
        o / sum(one.values()) for o, one in zip(outside, measured, strict=True)
    )
    print(f"{len(measured)} trials of {arguments.documents} documents")
    print(f"{'a trial':44} {1e3 * whole:9.1f} ms")
    print(f"{'outside of forward passes':44} {1e3 * statistics.median(outside):9.1f} ms")
    for phase in sorted({phase for one in measured for phase in one} - {FORWARD}):
        print(f"  {phase:42} {1e3 * statistics.median(one[phase] for one in measured):9.1f} ms")
    print(f"{f'share (bar {BAR:.0%})':44} {share:9.1%}")
    print(f"{'the same recipe merged, median':44} {1e3 * statistics.median(merges):9.1f} ms")


if __name__ == "__main__":
    main()
