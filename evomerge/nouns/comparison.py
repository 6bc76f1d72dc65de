"""Two evaluations on the same documents: the difference of their scores, its standard error.

Models that answer the same documents are compared document by document: what is hard for both
cancels out, and the standard error of the difference is smaller than those of the scores say.

Where a score is linear in its documents (a weighted sum of means) the standard error is the
exact formula; elsewhere (``worst``, ``harmonic_mean``, a perplexity) the documents are drawn
anew, with replacement and for both models alike. Documents of different tasks are taken as
independent, and the anchors of ``normalized`` as known.

Source: Miller, Adding Error Bars to Evals (2024), arXiv:2411.00640, section 4.2 (paired
differences); Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.paired import NotPairedError, PairedTask, paired_task

SURE = 1.96  # standard errors; noise alone goes beyond in one case of twenty
N_RESAMPLES = 2_000  # a standard error to 1.6 %
FEW = 30  # documents below which the rule is rough
# Of five documents that differ all go one way by chance in one case of sixteen: no test of
# paired answers can be surer than that (the sign test at 5 %).
LEAST_DIFFERING = 6


@dataclass(frozen=True)
class Comparison:
    """By how much one score is better than another on the same documents.

    Attributes:
        difference: The one score minus the other; above 0 is better.
        stderr: Standard error of the difference, None where none can be given.
        n: Documents that both answered.
        n_differing: Those of them on which the scores differ.
        reason: Why there is no standard error; empty where there is one.
    """

    difference: float
    stderr: float | None
    n: int
    n_differing: int = 0
    reason: str = ""

    @property
    def is_distinguishable(self) -> bool:
        """Whether the difference is larger than noise explains."""
        if self.stderr is None or self.n_differing < LEAST_DIFFERING:
            return False
        return abs(self.difference) > SURE * self.stderr


def compare(
    objective: Objective,
    one: Evaluation,
    other: Evaluation,
    generator: np.random.Generator,
    members: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Comparison, ...]:
    """The comparison of each objective.

    Args:
        objective: Metrics -> scores.
        one: With its documents.
        other: Likewise.
        generator: Draws documents anew where there is no formula.
        members: Task -> the names its documents go by, for groups of tasks.
    """
    pairs = zip(objective.scores(one), objective.scores(other), strict=True)
    differences = [mine.value - theirs.value for mine, theirs in pairs]
    slopes = objective.slopes
    found = []
    for index, difference in enumerate(differences):
        counting = filter(objective.counts, range(len(objective.tasks)))
        wanted = [k for k in counting if slopes is None or slopes[index][k]]
        try:
            sides = {k: [(e, objective.metric(e, k)) for e in (one, other)] for k in wanted}
            tasks = {k: paired_task(mine, its, members or {}) for k, (mine, its) in sides.items()}
        except NotPairedError as error:
            found.append(Comparison(difference, None, 0, reason=str(error)))
            continue
        if slopes is not None and all(task.is_linear for task in tasks.values()):
            stderr = math.hypot(*(slopes[index][k] * task.stderr for k, task in tasks.items()))
        else:
            stderr = _bootstrapped(objective, index, tasks, generator)
        n, n_differing = (
            sum(getattr(task, name) for task in tasks.values()) for name in ("n", "n_differing")
        )
        found.append(Comparison(difference, stderr, n, n_differing))
    return tuple(found)


def _bootstrapped(
    objective: Objective,
    index: int,
    tasks: Mapping[int, PairedTask],
    generator: np.random.Generator,
) -> float:
    """Standard deviation of the difference over documents drawn anew."""
    drawn = np.zeros((len(objective.tasks), N_RESAMPLES, 2))  # 0: the score does not stand on it
    for k, task in tasks.items():
        drawn[k] = task.resampled(N_RESAMPLES, generator)
    if objective.slopes is not None:
        scores = np.tensordot(objective.slopes[index], drawn, axes=1)
    else:
        scores = np.apply_along_axis(lambda parts: _score(objective, index, parts), 0, drawn)
    return float(np.std(scores[:, 0] - scores[:, 1], ddof=1))


def _score(objective: Objective, index: int, parts: NDArray[np.float64]) -> float:
    return objective.combine([Score(float(part), None, 0) for part in parts])[index].value
