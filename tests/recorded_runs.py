"""Run folders made up on the spot: what a ledger holds after a search, without any model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evomerge.genome.load import load_genome
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.space import Choice, Integer, Real, Space, to_data
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe
from evomerge.run.best import write_best
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.recorded_run import RecordedRun, recorded_run

GENOME = """\
genome:
  models: [experts/sort, experts/twice]
  base_model: experts/base
  merge_method: METHOD
tasks:
- name: sort_search
- {name: twice_search, metric: perplexity}
validation:
- sort_validation
holdout:
- sort_holdout
objective: OBJECTIVE
optimizer: {name: OPTIMIZER, budget: 12}
"""
SPACE = Space(
    (
        Real("weight[sort]", 0.0, 1.5),
        Real("weight[twice]", 0.0, 1.5, log=False, initial=0.5),
        Integer("steps", 1, 4),
        Choice("mode", ("mean", "sum")),
    )
)
BASELINES = {
    "model experts/sort": (0.55, 8.0),
    "model experts/twice": (0.25, 3.5),
    "base experts/base": (0.2, 9.0),
    "uniform average": (0.6, 5.0),
}
VERSIONS = {"evomerge": "0.1.0", "mergekit": "0.1.5", "torch": "2.13.0"}
FAILED_TRIAL = 7
N_DOCUMENTS = 100
HARDNESS = np.linspace(1.7, -1.7, N_DOCUMENTS)  # of each document, for every model; mean 0


def evaluation(
    accuracy: float, perplexity: float | None = None, split: str = "search"
) -> Evaluation:
    """Accuracy of the sort task, perplexity of the other where there is one, and more beside."""
    error = (accuracy * (1 - accuracy) / N_DOCUMENTS) ** 0.5
    metrics = [Metric(MetricKey(f"sort_{split}", "acc"), accuracy, error, N_DOCUMENTS, True)]
    if perplexity is not None:
        key = MetricKey(f"twice_{split}", "perplexity")
        metrics.append(Metric(key, perplexity, 0.25, N_DOCUMENTS, False))
    beside = MetricKey(f"sort_{split}", "acc_norm")
    metrics.append(Metric(beside, accuracy / 2, error, N_DOCUMENTS, True))
    return Evaluation(tuple(metrics), tuple(_documents(accuracy, perplexity, split)))


def _documents(accuracy: float, perplexity: float | None, split: str) -> Iterator[Document]:
    """Documents whose mean is the accuracy, and whose geometric mean is the perplexity."""
    own = np.random.default_rng(int(accuracy * 10_000)).normal(size=N_DOCUMENTS)
    noise = 0.8 * HARDNESS + 0.6 * (own - own.mean())
    credits = accuracy + (accuracy * (1 - accuracy)) ** 0.5 * noise
    for doc_id, credit in enumerate(credits):
        yield Document(f"sort_{split}", doc_id, {"acc,none": float(credit)})
    if perplexity is not None:
        for doc_id, value in enumerate(perplexity * np.exp(0.3 * noise)):
            yield Document(f"twice_{split}", doc_id, {"perplexity,none": float(value)})


def record_run(
    folder: Path,
    *,
    n_trials: int = 12,
    objective: str = "weighted_sum",
    optimizer: str = "cma_es",
    method: str = "task_arithmetic",
    has_finals: bool = True,
    taught_from: int | None = None,
) -> RecordedRun:
    """Writes a run folder in which every outcome is made up.

    Args:
        folder: The run folder.
        n_trials: Trials of the optimizer; one of the first dozen failed.
        objective: The genome's.
        optimizer: The genome's.
        method: The genome's.
        has_finals: Whether the run came to its end.
        taught_from: The first of these trials that an epoch of training proposed, from 0; the
            others follow it.
    """
    text = GENOME.replace("METHOD", method)
    text = text.replace("OBJECTIVE", objective).replace("OPTIMIZER", optimizer)
    header = {
        "evomerge": "0.1.0",
        "genome": "genomes/skills.yml",
        "genome_digest": "0",
        "seed": 0,
        "merge_seed": 0,
        "threads": 2,
        "device": "cpu",
        "models": {},
        "tasks": {},
        "versions": VERSIONS,
        "optimizer": optimizer,
        "objective": objective,
        "space": to_data(SPACE),
    }
    ledger = Ledger.create(RunFolder(folder), header, text)
    for trial in _baselines():
        ledger.record_trial(trial)
    for index in range(n_trials):
        origin = f"optimizer, epoch {index}" if index == taught_from else "optimizer"
        ledger.record_trial(_searched(len(BASELINES) + index, index, method, origin))
    genome, _ = load_genome(ledger.folder.genome)
    if has_finals:
        _record_finals(ledger, recorded_run(ledger, genome))
    run = recorded_run(ledger, genome)
    write_best(ledger, run.leaderboard, run.winners[0])
    return run


def _baselines() -> list[Trial]:
    trials = []
    for index, (origin, (accuracy, perplexity)) in enumerate(BASELINES.items()):
        recipe = Recipe({"merge_method": "passthrough", "models": [{"model": origin}]})
        point = SPACE.decode(np.full(4, 0.4)) if origin == "uniform average" else {}
        genotype = SPACE.encode(point) if point else None
        candidate = Candidate(index, origin_in(origin), recipe, genotype, point)
        outcome = Outcome(
            TrialState.COMPLETE, evaluation(accuracy, perplexity), seconds={"merge": 0.25}
        )
        trials.append(Trial(candidate, outcome))
    return trials


def _searched(trial_id: int, index: int, method: str, origin: str) -> Trial:
    """Trials that get better, with a relapse every third."""
    genotype = np.array([(0.13 * index) % 1, (0.29 * index) % 1, (0.41 * index) % 1, index % 2 / 2])
    point = SPACE.decode(genotype)
    recipe = Recipe(
        {
            "models": [
                {"model": "experts/sort", "parameters": {"weight": round(0.1 * index, 3)}},
                {"model": "experts/twice", "parameters": {"weight": 0.5}},
            ],
            "merge_method": method,
            "base_model": "experts/base",
            "dtype": "float32",
        }
    )
    accuracy = round(0.5 + 0.4 * index / (index + 6) - (0.15 if index % 3 == 0 else 0.0), 4)
    outcome = Outcome(
        TrialState.COMPLETE,
        evaluation(accuracy, 4.0 - 0.1 * (index * 7 % 11)),
        seconds={"merge": 0.5},
    )
    if trial_id == FAILED_TRIAL:
        outcome = Outcome(TrialState.FAILED, failure="merge: weights <sum> to nothing")
    return Trial(Candidate(trial_id, origin_in(origin), recipe, genotype, point), outcome)


def _record_finals(ledger: Ledger, run: RecordedRun) -> None:
    baselines = [t for t in run.leaderboard.trials if t.candidate.is_baseline]
    for rank, trial in enumerate([*run.leaderboard.ranked()[:5], *baselines]):
        for split in ("validation", "holdout"):
            outcome = Outcome(
                TrialState.COMPLETE, evaluation(round(0.7 - 0.02 * abs(rank - 1), 3), None, split)
            )
            ledger.record_final(trial.candidate.trial_id, split, outcome)
