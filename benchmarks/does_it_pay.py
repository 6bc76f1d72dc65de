"""Whether searching pays: the winner against the best merge one would have tried without it.

One search of 100 trials for each family of the zoo, optimizer and seed; its first 25 and 60 trials
are the searches of a smaller budget. At each budget the winner is chosen as a run chooses it: of
the best by search score, fixed recipes among them, the one that is best on search and validation
documents together. On the holdout documents it is compared, document by document, with the fixed
recipe that is best there. Results gather in one file, one line for each search; what is known is
not run again.

    python benchmarks/zoo/make.py -o zoo
    python benchmarks/does_it_pay.py zoo/* [--half tuning] [--optimizers cma_es tpe] [--seeds 0 1]

--table only draws what is known. Tune on the half of the families made for it, and look at the
other half once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pay_tables import drawing, tables
from quality_runs import Bench, KnownOutcomes, Meter
from search_quality import block_of, rows_of, write_row

from evomerge.executors.base import Job
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.files import write_atomic
from evomerge.foundations.seeding import stream
from evomerge.genome.load import load_genome
from evomerge.merge_spaces.baselines import baselines
from evomerge.nouns.comparison import Comparison, compare
from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.events import TrialFinished
from evomerge.nouns.trial import Candidate, Trial
from evomerge.optimizers.gradient.training_section import training_of
from evomerge.optimizers.search_context import Effort
from evomerge.run.expectation import expectation
from evomerge.run.final_choice import FinalChoice, finalists
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.recorded_run import load_run

BUDGETS = (25, 60, 100)
_HALVES = ("tuning", "report")


@dataclass(frozen=True)
class Family:
    """A folder that benchmarks/zoo/make.py made."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the folder says of itself."""
        found: dict[str, Any] = json.loads((self.folder / "family.json").read_text("utf-8"))
        return found

    @property
    def genome(self) -> Path:
        """What is searched."""
        return self.folder / "genome.yml"


@dataclass(frozen=True)
class Plan:
    """One search: family, optimizer as it was named, seed, trials."""

    family: str
    digest: str
    optimizer: str
    seed: int
    trials: int

    def is_in(self, row: dict[str, Any]) -> bool:
        """Whether a row of the results is of this search."""
        return all(row.get(key) == value for key, value in vars(self).items())


class Fixed:
    """The fixed recipes of a family, scored once for all its searches."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._executor = bench.executor()
        candidates = baselines(bench.compiled.merge_space)
        self.candidates = list({one.recipe.digest: one for one in reversed(candidates)}.values())[
            ::-1
        ]
        self.holdout = {
            str(candidate.origin): score
            for candidate in self.candidates
            if (score := self._score(candidate)) is not None
        }

    @property
    def best(self) -> Candidate:
        """The best on the holdout documents; the first of equal ones."""
        scored = [
            candidate for candidate in self.candidates if str(candidate.origin) in self.holdout
        ]
        return max(scored, key=lambda candidate: self.holdout[str(candidate.origin)])

    def outcome(self, candidate: Candidate, split: str) -> Outcome:
        """What comes of any candidate, found before or now."""
        return self._executor.found(Job(candidate, split)).outcome

    def _score(self, candidate: Candidate) -> float | None:
        evaluation = self.outcome(candidate, "holdout").evaluation
        if evaluation is None:
            return None
        return self._bench.compiled.tasks.objectives["holdout"].scores(evaluation)[0].value


def searched(bench: Bench, fixed: Fixed, plan: Plan, family: Family) -> dict[str, Any]:
    """Runs one search; a row of the results.

    Raises:
        EvomergeError: there is no such optimizer, or it cannot search this space.
    """
    block = {**block_of(plan.optimizer), "budget": plan.trials, "seed": plan.seed}
    genome, source = load_genome(family.genome, [f"optimizer={json.dumps(block)}"])
    proposed: list[Candidate] = []
    with tempfile.TemporaryDirectory() as temporary:
        run_dir = Path(temporary) / "run"
        search, _ = bench.search(genome, source, run_dir)
        for event in search.run():
            if isinstance(event, TrialFinished) and not event.candidate.is_baseline:
                proposed.append(event.candidate)
                line = f"{plan.family}, {plan.optimizer}, seed {plan.seed}: "
                print(f"\r{line}{len(proposed)}/{plan.trials}  ", end="", file=sys.stderr)
        efforts = _efforts(run_dir)
    print(file=sys.stderr)
    budgets = [*(n for n in BUDGETS if n < plan.trials), plan.trials]
    return {
        **vars(plan),
        "half": family.record["half"],
        "dims": search.merge_space.space.n_dims,
        "fixed": fixed.holdout,
        "best_fixed": str(fixed.best.origin),
        "budgets": {str(n): _paid(bench, fixed, proposed[:n], efforts) for n in budgets},
    }


def _efforts(run_dir: Path) -> dict[int, Effort]:
    """Trial id -> what the epoch of training took that ended there."""
    epochs = training_of(load_run(run_dir))
    return {
        epoch.trial.candidate.trial_id: epoch.lesson.effort
        for epoch in epochs
        if epoch.trial is not None
    }


def _paid(
    bench: Bench, fixed: Fixed, proposed: Sequence[Candidate], efforts: Mapping[int, Effort]
) -> dict[str, Any]:
    """The winner of a budget against the best fixed recipe, and what it took to find it.

    Documents that were learned count beside those that were scored, and so do the seconds.
    """
    objectives = bench.compiled.tasks.objectives
    candidates = [*fixed.candidates, *proposed]
    outcomes = [fixed.outcome(candidate, "tasks") for candidate in candidates]
    trials = tuple(
        Trial(_numbered(candidate, index), outcome)
        for index, (candidate, outcome) in enumerate(zip(candidates, outcomes, strict=True))
    )
    leaderboard = Leaderboard(objectives["tasks"], trials)

    def compared(one: Trial, other: Trial) -> Comparison:
        evaluations = (one.outcome.evaluation, other.outcome.evaluation)
        return compare(objectives["tasks"], *evaluations, stream(0, "does it pay"))[0]

    again = [*FinalChoice(leaderboard).beside, *finalists(leaderboard, compare=compared)]
    validated = {t.candidate.trial_id: fixed.outcome(t.candidate, "validation") for t in again}
    choice = FinalChoice(leaderboard, objectives["validation"], validated)
    winner, hoped = choice.winners[0].candidate, expectation(choice, compared)
    gain = _compared(bench, fixed, winner)
    scores = bench.scores(winner)
    spent = {c.recipe.digest: o for c, o in zip(candidates, outcomes, strict=True)}
    own = [spent[digest] for digest in {candidate.recipe.digest for candidate in proposed}]
    epochs = (efforts[c.trial_id] for c in proposed if c.trial_id in efforts)
    trained = sum(epochs, Effort())
    return {
        "winner": str(winner.origin),
        **scores,
        "expected": None if hoped is None else hoped.expected,
        "expected_stderr": None if hoped is None else hoped.stderr,
        "gain": gain.difference,
        "stderr": gain.stderr,
        "verdict": verdict(gain),
        "documents": sum(len(o.evaluation.documents) for o in own if o.evaluation)
        + trained.n_documents,
        "seconds": sum(sum(outcome.seconds.values()) for outcome in own) + trained.seconds,
        "training": {"documents": trained.n_documents, "seconds": trained.seconds},
    }


def _numbered(candidate: Candidate, trial_id: int) -> Candidate:
    return Candidate(trial_id, candidate.origin, candidate.recipe)


def _compared(bench: Bench, fixed: Fixed, winner: Candidate) -> Comparison:
    one, other = (fixed.outcome(c, "holdout").evaluation for c in (winner, fixed.best))
    if one is None or other is None:
        raise EvomergeError(f"{winner.origin} could not be scored on the holdout documents")
    objective = bench.compiled.tasks.objectives["holdout"]
    return compare(objective, one, other, stream(0, "does it pay"))[0]


def verdict(gain: Comparison) -> str:
    """In words: whether the gain can be told from noise, and which way it goes."""
    if not gain.is_distinguishable:
        return "cannot be told"
    return "pays" if gain.difference > 0 else "does not pay"


def run(families: Sequence[Family], plans: Sequence[Plan], results: Path) -> None:
    """Runs what is not known yet, family by family, and writes down each result as it comes."""
    meter, by_name = Meter(), {family.record["name"]: family for family in families}
    bench: tuple[str, Bench, Fixed] | None = None
    with meter.watching():
        for plan in plans:
            if any(plan.is_in(row) for row in rows_of(results)):
                continue
            family = by_name[plan.family]
            if bench is None or bench[0] != plan.family:
                known = KnownOutcomes(results.parent / f"{plan.family}-{plan.digest}", meter)
                made = Bench.of(*load_genome(family.genome), known)
                bench = plan.family, made, Fixed(made)
            try:
                row = searched(bench[1], bench[2], plan, family)
            except (EvomergeError, ModuleNotFoundError) as error:
                print(f"{plan.family}, {plan.optimizer}: left out: {error}", file=sys.stderr)
                continue
            write_row(results, row)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="families made")
    parser.add_argument("--half", choices=_HALVES, help="only the families of this half")
    parser.add_argument("--optimizers", nargs="+", default=["cma_es"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=BUDGETS[-1])
    parser.add_argument("--results", type=Path, default=Path("runs/does-it-pay/results.jsonl"))
    parser.add_argument("--svg", type=Path, help="where to draw the gains")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="draw what is known, run nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    made = [Family(folder) for folder in arguments.folders if (folder / "family.json").is_file()]
    families = [f for f in made if arguments.half in (None, f.record["half"])]
    plans = [
        Plan(family.record["name"], family.record["digest"], optimizer, seed, arguments.trials)
        for family in families
        for seed in arguments.seeds
        for optimizer in arguments.optimizers
    ]
    if not arguments.table:
        run(families, plans, arguments.results)
    rows = [row for row in rows_of(arguments.results) if any(plan.is_in(row) for plan in plans)]
    print(tables(rows))
    if arguments.svg is not None:
        write_atomic(arguments.svg, drawing(rows))


if __name__ == "__main__":
    main()
