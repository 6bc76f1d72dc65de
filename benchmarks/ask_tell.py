"""What a trial costs beside merging and scoring: ask, tell and one ledger line on disk.

Prints milliseconds per trial in 300 dimensions. Bar: under 20 for ``random`` and ``cma_es`` at
1,000 trials; Optuna's samplers stand beside them at fewer trials, as theirs grow.

    python benchmarks/ask_tell.py [NAME ...]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from evomerge.foundations.canonical import canonical_json
from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS

N_DIMS = 300
N_TRIALS = {"random": 1000, "cma_es": 1000, "qmc": 300, "nsga2": 300, "tpe": 100, "gp": 15}
BAR_MS = {"random": 20.0, "cma_es": 20.0}


def milliseconds_per_trial(name: str, n_trials: int, ledger: Path) -> float:
    """Mean over a run on a sphere, the ledger's fsync included."""
    space = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(N_DIMS)))
    optimizer = OPTIMIZERS[name](space, seed=0)
    started = time.perf_counter()
    n_done = 0
    with ledger.open("a", encoding="utf-8") as lines:
        while n_done < n_trials:
            genotypes = optimizer.ask()
            losses = ((genotypes - 0.3) ** 2).sum(axis=1)
            for genotype, loss in zip(genotypes.tolist(), losses.tolist(), strict=True):
                lines.write(canonical_json({"genotype": genotype, "loss": loss}) + "\n")
                lines.flush()
                os.fsync(lines.fileno())
            optimizer.tell(genotypes, losses)
            n_done += len(losses)
    return 1000 * (time.perf_counter() - started) / n_done


def main(names: list[str]) -> None:
    """Measures the named optimizers, all of them where none is named."""
    print(f"{'optimizer':10} {'trials':>6} {'ms/trial':>9}  bar")
    for name in names or list(N_TRIALS):
        with tempfile.TemporaryDirectory() as folder:
            cost = milliseconds_per_trial(name, N_TRIALS[name], Path(folder) / "ledger.jsonl")
        bar = BAR_MS.get(name)
        verdict = "" if bar is None else f"< {bar:g}: {'yes' if cost < bar else 'NO'}"
        print(f"{name:10} {N_TRIALS[name]:6} {cost:9.2f}  {verdict}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
