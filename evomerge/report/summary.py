"""A run in one line for people, and as one mapping for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from evomerge.foundations.counted import counted, failures
from evomerge.genome.words import FINAL_SPLITS
from evomerge.nouns.evaluation import TrialState
from evomerge.nouns.trial import Trial
from evomerge.report.choice_section import choice_of
from evomerge.report.split_table import SplitTable
from evomerge.report.trial_table import final_tables, table_data
from evomerge.report.verdict import verdict, verdicts
from evomerge.report.workers_section import idle_share
from evomerge.run.best import best_content
from evomerge.run.recorded_run import RecordedRun


def n_failed(run: RecordedRun) -> int:
    """How many trials failed, baselines included."""
    return len(_failed(run))


def failures_of(run: RecordedRun) -> str:
    """How many trials and baselines failed, for people; empty where none did."""
    are_baselines = [trial.candidate.is_baseline for trial in _failed(run)]
    return failures(are_baselines.count(False), are_baselines.count(True))


def _failed(run: RecordedRun) -> list[Trial]:
    return [t for t in run.leaderboard.trials if t.outcome.state is TrialState.FAILED]


def failed_finals(run: RecordedRun) -> list[str]:
    """A sentence for each split after the search on which merges have no score, with a reason."""
    found = []
    for split in FINAL_SPLITS:
        outcomes = run.outcomes(split).values()
        failed = [one.failure for one in outcomes if one.evaluation is None]
        if failed:
            of = f"{len(failed)} of {len(outcomes)}"
            found.append(f"On {split} {of} could not be scored, the last: {failed[-1]}")
    return found


def headline(run: RecordedRun) -> str:
    """Genome, optimizer, size and seed of a run, and how busy its workers were."""
    header, share = run.ledger.header, idle_share(run)
    n_searched = sum(not trial.candidate.is_baseline for trial in run.leaderboard.trials)
    return (
        f"{header['genome']} · {header['optimizer']}, {counted(run.space.n_dims, 'parameter')} · "
        f"{n_searched}/{run.genome.optimizer.budget} trials, {failures_of(run) or '0 failed'} · "
        f"seed {header['seed']}"
        + (f" · workers idle {share:.0%} of the time" if share is not None else "")
    )


def summary(run: RecordedRun) -> dict[str, Any]:
    """What ``evomerge run --json`` prints, and the head of ``evomerge show --json``."""
    tables, choice = final_tables(run), choice_of(run)
    return {
        "run": str(run.ledger.folder.path),
        "genome": run.ledger.header["genome"],
        "n_trials": len(run.leaderboard.trials),
        "n_failed": n_failed(run),
        "budget": run.genome.optimizer.budget,
        "idle_share": idle_share(run),
        "winners": [best_content(run.ledger, run.leaderboard, trial) for trial in run.winners],
        "tables": table_data(tables),
        "failed_finals": failed_finals(run),
        "verdict": verdict(tables),
        "searching": [asdict(one) for one in verdicts(tables)],
        "choice": None if choice is None else asdict(choice),
    }


def remarks(run: RecordedRun, tables: Sequence[SplitTable]) -> list[str]:
    """What stands below the final tables: whether searching paid, how sure the winner is."""
    choice = choice_of(run)
    return [
        *failed_finals(run),
        *verdict(tables),
        *(choice.sentences if choice is not None else ()),
    ]
