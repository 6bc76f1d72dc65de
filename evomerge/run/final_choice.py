"""Who is looked at again after the search, and who of them wins.

Looked at again, on the validation documents, are the best few by search score, those that
follow them as long as they cannot be told from the best, and the baselines. The winner is the one
of all these with the best score over all documents, search and validation together. Shrinking the
search scores first for the number of looks would choose the same: they all have about the same
noise, so each is a rising function of its score (:mod:`evomerge.run.shrinkage`), and its estimate
and the validation score, weighed by their precisions, stand in the order of the pooled score.

A search score says nothing of fresh documents where the search documents taught the weights, or
where an earlier search chose by them: such a merge is judged on validation alone. To stand
beside the others it counts on the search documents what validation says, moved by what the
baselines have more there. Taught merges are ranked apart, among themselves: by search score they
would take every place, and no other would be looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median

from evomerge.genome.words import N_FINALISTS
from evomerge.nouns.comparison import Comparison
from evomerge.nouns.evaluation import Evaluation, Metric, Outcome
from evomerge.nouns.objective import Objective
from evomerge.nouns.trial import Trial
from evomerge.run.leaderboard import Leaderboard, anchored

Compare = Callable[[Trial, Trial], Comparison]  # on the documents of one split
AT_MOST = 2  # times as many finalists as there are at least
_FEW = 2  # taught merges that are looked at even where few finalists are wanted


def finalists(
    leaderboard: Leaderboard, count: int = N_FINALISTS, compare: Compare | None = None
) -> list[Trial]:
    """The trials that validation sees for their search scores, best first; or the whole front.

    Args:
        leaderboard: The trials on the search tasks.
        count: How many there are at least; at most twice as many, the taught ones included.
        compare: Tells by how much the first of two trials is better; None takes no more than
            ``count``, and the taught ones.
    """
    choice = FinalChoice(leaderboard, count=count)
    if leaderboard.is_multi:
        return choice.possible_finalists
    fair = [trial for trial in choice.possible_finalists if choice.is_fair(trial)]
    found = {_id(trial) for trial in leaders(fair, count, compare)}
    return [t for t in choice.possible_finalists if _id(t) in found or not choice.is_fair(t)]


def leaders(ranked: Sequence[Trial], count: int, compare: Compare | None) -> list[Trial]:
    """The first ``count`` of ranked trials, and more as long as none can be told from the best."""
    found = list(ranked[:count])
    if compare is None:
        return found
    for trial in ranked[count:]:
        difference = compare(ranked[0], trial)
        if difference.stderr is None or difference.is_distinguishable:
            break
        found.append(trial)
    return found


@dataclass(frozen=True)
class FinalChoice:
    """The rule that chooses among trials once the search is over.

    Attributes:
        leaderboard: The trials on the search tasks.
        validation: The objective of the validation tasks; None without any.
        validated: Trial id -> outcome on them.
        count: How many finalists there are at least.
    """

    leaderboard: Leaderboard
    validation: Objective | None = None
    validated: Mapping[int, Outcome] = field(default_factory=dict)
    count: int = N_FINALISTS

    @property
    def candidates(self) -> list[Trial]:
        """Those that may win, best first on the search tasks: all that validation may see.

        Without validation those that may be the best on the search tasks.
        """
        if self.leaderboard.is_multi:
            return self.possible_finalists
        if self.validation is None:
            return self.leaderboard.ranked()[: AT_MOST * self.count]
        may_win = {_digest(trial) for trial in (*self.possible_finalists, *self.beside)}
        return [trial for trial in self.leaderboard.ranked() if _digest(trial) in may_win]

    @cached_property
    def possible_finalists(self) -> list[Trial]:
        """The most that :func:`finalists` can be, best first on the search tasks.

        Taught merges are half of ``count``, or as many as proposals that are none leave free.
        """
        ranked, count = self.leaderboard.ranked(), self.count
        if self.leaderboard.is_multi:
            front = {_id(trial) for trial in self.leaderboard.front()}
            return [trial for trial in ranked if _id(trial) in front]
        fair = [trial for trial in ranked if self.is_fair(trial)]
        # Seeds are no fair ones either, but stand beside the finalists anyway.
        taught = [t for t in ranked if not self.is_fair(t) and not t.candidate.is_baseline]
        n_free = count - sum(not trial.candidate.is_baseline for trial in fair)
        taught = taught[: min(count, max(_FEW, count // 2, n_free))]
        found = {_id(trial) for trial in (*fair[: AT_MOST * count - len(taught)], *taught)}
        return [trial for trial in ranked if _id(trial) in found]

    @property
    def winners(self) -> list[Trial]:
        """The front where there are several objectives, else the best trial; best first."""
        found = self.candidates
        if self.validation is not None:
            found = sorted(found, key=self.loss)
        return found if self.leaderboard.is_multi else found[:1]

    @property
    def beside(self) -> list[Trial]:
        """The baselines that validation and holdout see: of the fixed recipes the best alone.

        It is chosen as the winner is. Where there are several objectives each may be the best
        in one.
        """
        baselines = [trial for trial in self.leaderboard.complete if trial.candidate.is_baseline]
        fixed = [trial for trial in baselines if trial.candidate.is_fixed_recipe]
        if self.leaderboard.is_multi or not fixed:
            return baselines
        best = min(fixed, key=lambda trial: (self.loss(trial), self._searched(trial)))
        return [t for t in baselines if t is best or not t.candidate.is_fixed_recipe]

    def loss(self, trial: Trial) -> float:
        """What orders trials; ``inf`` where there is validation and the trial has no score there.

        For several objectives the sum of their losses.
        """
        if self.validation is None:
            return self._searched(trial)
        outcome = self.validated.get(_id(trial))
        if outcome is None or outcome.evaluation is None:
            return math.inf
        if self._pooled is None:
            scaled = anchored(self.validation, self.leaderboard.trials, self.validated)
            return float(scaled.losses(outcome).sum())
        return float(self._pooled.losses(self._whole(trial, outcome)).sum())

    def is_fair(self, trial: Trial) -> bool:
        """Whether its search score says as much of fresh documents as that of others."""
        return not trial.candidate.is_seed and not self.leaderboard.is_learned(trial)

    @property
    def is_pooled(self) -> bool:
        """Whether the documents of both splits choose, not those of validation alone."""
        return self._pooled is not None

    @cached_property
    def _pooled(self) -> Objective | None:
        """The rule over the documents of both splits; None where they cannot be joined."""
        validation, trials = self.validation, self.leaderboard.trials
        if validation is None or self.leaderboard.is_multi:
            return None
        if not self._are_joinable(validation):
            return None
        if not self._more_on_search and not all(map(self.is_fair, trials)):
            return None
        both = {_id(t): self._whole(t, self.validated[_id(t)]) for t in self._baselines_on_both}
        return anchored(self.leaderboard.objective, trials, both)

    def _are_joinable(self, validation: Objective) -> bool:
        """Whether each search task has the validation task that belongs to it."""
        for trial in self.leaderboard.complete:
            outcome = self.validated.get(_id(trial))
            if outcome is not None and outcome.evaluation is not None:
                searched, validated = self._metrics(trial.outcome, outcome)
                sizes = [(one.n, other.n) for one, other in zip(searched, validated, strict=False)]
                return are_alike(self.leaderboard.objective, validation, sizes)
        return False

    @cached_property
    def _baselines_on_both(self) -> list[Trial]:
        complete = {i for i, outcome in self.validated.items() if outcome.evaluation is not None}
        baselines = (t for t in self.leaderboard.complete if t.candidate.is_baseline)
        return [trial for trial in baselines if _id(trial) in complete]

    @cached_property
    def _more_on_search(self) -> tuple[float, ...]:
        """What the baselines have more on each search task; empty where nobody knows.

        The median: a model that is broken may have a perplexity beyond all measure.
        """
        differences = []
        for trial in filter(self.is_fair, self._baselines_on_both):
            outcomes = trial.outcome, self.validated[_id(trial)]
            pairs = zip(*self._metrics(*outcomes), strict=True)
            found = [one.value - other.value for one, other in pairs]
            if all(map(math.isfinite, found)):
                differences.append(found)
        return tuple(median(column) for column in zip(*differences, strict=True))

    def _whole(self, trial: Trial, validated: Outcome) -> Outcome:
        """A trial's outcome over the documents of both splits, under the search tasks' names."""
        pairs = zip(*self._metrics(trial.outcome, validated), strict=True)
        is_fair, more = self.is_fair(trial), self._more_on_search
        joined = [
            _joined(one if is_fair else replace(one, value=other.value + more[index]), other)
            for index, (one, other) in enumerate(pairs)
        ]
        return replace(trial.outcome, evaluation=Evaluation(tuple(joined)))

    def _metrics(self, searched: Outcome, validated: Outcome) -> tuple[list[Metric], list[Metric]]:
        """What each task measures on the one split and on the other."""
        search, validation = self.leaderboard.objective, self.validation
        assert searched.evaluation is not None
        assert validated.evaluation is not None
        assert validation is not None
        return (
            [search.metric(searched.evaluation, i) for i in range(len(search.tasks))],
            [validation.metric(validated.evaluation, i) for i in range(len(validation.tasks))],
        )

    def _searched(self, trial: Trial) -> float:
        return float(self.leaderboard.losses(trial).sum())


def are_alike(one: Objective, other: Objective, sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether the tasks of two splits can be joined, the first with the first and so on.

    They are as many, with the same metrics and weights in the same order. Which of two tasks of
    one metric belongs to which only their names could say, and nobody knows how those are meant
    unless they are the same. So there is one task of each metric, or it does not matter: where a
    weighted sum has as many documents of each of them within a split, any pairing gives the same.

    Args:
        one: The rule of the one split.
        other: That of the other.
        sizes: Documents of each task in the one and the other.
    """

    def told(objective: Objective) -> list[tuple[str, str, float]]:
        pairs = zip(objective.keys, objective.tasks, strict=True)
        return [(key.metric, key.filter, task.weight) for key, task in pairs]

    if one.name != other.name or told(one) != told(other):
        return False
    if [task.name for task in one.tasks] == [task.name for task in other.tasks]:
        return True
    groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for key, size in zip(one.keys, sizes, strict=True):
        groups.setdefault((key.metric, key.filter), []).append(size)
    is_sum = one.name == "weighted_sum"
    return all(len(g) == 1 or (is_sum and len(set(g)) == 1) for g in groups.values())


def _joined(one: Metric, other: Metric) -> Metric:
    """A metric over the documents of both: their mean, each weighed by its documents.

    For a mean over documents that is the value on all of them. For a metric of a corpus (a
    perplexity, an F1) it is only near it.
    """
    n = one.n + other.n
    shares = (one.n / n, other.n / n) if n else (0.5, 0.5)
    errors = (one.stderr, other.stderr)
    stderr = None
    if errors[0] is not None and errors[1] is not None:
        stderr = math.hypot(shares[0] * errors[0], shares[1] * errors[1])
    value = shares[0] * one.value + shares[1] * other.value
    return replace(one, value=value, stderr=stderr, n=n)


def _id(trial: Trial) -> int:
    return trial.candidate.trial_id


def _digest(trial: Trial) -> str:
    return trial.candidate.recipe.digest
