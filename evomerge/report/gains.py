"""What the models of a run have over the best parent, document by document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evomerge.foundations.seeding import stream
from evomerge.nouns.comparison import Comparison, compare
from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.trial import Trial
from evomerge.run.recorded_run import RecordedRun


def best_parents(
    trials: Sequence[Trial], scores: Mapping[int, Sequence[Score | None]], n_columns: int
) -> list[int | None]:
    """For each column the parent, or base, with the highest score; the first of equal ones.

    Args:
        trials: The run's.
        scores: Trial id -> a score per column.
        n_columns: How many columns there are.
    """
    parents = [trial.candidate.trial_id for trial in trials if _is_ancestor(trial)]
    found: list[int | None] = []
    for column in range(n_columns):
        values = {p: score.value for p in parents if (score := scores[p][column]) is not None}
        found.append(max(values, key=values.__getitem__, default=None))
    return found


def _is_ancestor(trial: Trial) -> bool:
    """Whether it is a model that was there before; an average of them was not."""
    return trial.candidate.origin.is_unmerged


class Gains:
    """Comparisons of the models of a run on one split.

    Args:
        run: The run.
        split: The split.
        rules: Objectives whose scores, side by side, are the columns.
        parents: Trial id of the best parent, per column.
    """

    def __init__(
        self,
        run: RecordedRun,
        split: str,
        rules: Sequence[Objective],
        parents: Sequence[int | None],
    ) -> None:
        self.run = run
        self.split = split
        self.rules = tuple(rules)
        self.parents = tuple(parents)
        self._of_parent = {
            parent: run.evaluation(split, parent) for parent in parents if parent is not None
        }

    def of(self, trial_id: int) -> tuple[Comparison | None, ...]:
        """One per column; None for the parent itself and where there is nothing to compare."""
        evaluation = self.run.evaluation(self.split, trial_id)
        if evaluation is None:
            return (None,) * len(self.parents)
        found: list[Comparison | None] = []
        for rule in self.rules:
            parents = self.parents[len(found) : len(found) + rule.n_objectives]
            found += self._under(rule, parents, trial_id, evaluation)
        return tuple(found)

    def _under(
        self,
        rule: Objective,
        parents: Sequence[int | None],
        trial_id: int,
        evaluation: Evaluation,
    ) -> Iterator[Comparison | None]:
        against: dict[int, tuple[Comparison, ...]] = {}
        for column, parent in enumerate(parents):
            other = None if parent is None else self._of_parent[parent]
            if parent is None or other is None or parent == trial_id:
                yield None
                continue
            if parent not in against:
                # Named by what is compared: every reader of the run draws the same.
                seed = self.run.ledger.header["seed"]
                draws = stream(seed, "comparison", self.split, rule.name, trial_id, parent)
                members = self.run.members(self.split)
                against[parent] = compare(rule, evaluation, other, draws, members)
            yield against[parent][column]
