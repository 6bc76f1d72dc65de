"""A run in one line for people, and as one mapping for programs."""

from __future__ import annotations

from typing import Any

from evomerge.best import best_content
from evomerge.report.run import RecordedRun
from evomerge.report.table import final_tables, table_data
from evomerge.report.verdict import verdict
from evomerge.trial import TrialState


def n_failed(run: RecordedRun) -> int:
    """How many trials failed."""
    return sum(trial.outcome.state is TrialState.FAILED for trial in run.standing.trials)


def headline(run: RecordedRun) -> str:
    """Genome, optimizer, size and seed of a run."""
    header = run.ledger.header
    n_searched = sum(not trial.candidate.is_baseline for trial in run.standing.trials)
    return (
        f"{header['genome']} · {header['optimizer']}, {run.space.n_dims} parameters · "
        f"{n_searched}/{run.genome.optimizer.budget} trials, {n_failed(run)} failed · "
        f"seed {header['seed']}"
    )


def summary(run: RecordedRun) -> dict[str, Any]:
    """What ``evomerge run --json`` prints, and the head of ``evomerge show --json``."""
    tables = final_tables(run)
    return {
        "run": str(run.ledger.folder.path),
        "genome": run.ledger.header["genome"],
        "n_trials": len(run.standing.trials),
        "n_failed": n_failed(run),
        "budget": run.genome.optimizer.budget,
        "winners": [best_content(run.ledger, run.standing, trial) for trial in run.winners],
        "tables": table_data(tables),
        "verdict": verdict(tables),
    }
