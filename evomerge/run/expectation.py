"""What the winner of a search can be expected to score on fresh documents.

Its search score is too high, because it was chosen among many by that score. Its expectation is
made of what is known of it:

- the search scores, shrunken for the number of looks (``run.shrinkage``). Of the variance
  of a score, the part that a candidate has for itself is half the variance of its paired
  difference to another; only that part chose it. The rest is common to all: documents that are
  hard are hard for everyone. As the scores shrink, so does their mean over the finalists.
- the validation scores, which nobody chose by before.

    level = weighed(mean of shrunken scores, mean of validation scores)   errors: common parts
    lead  = weighed(own shrunken score - their mean, own validation score - theirs)   own parts

    expected = level + lead

each weighed by 1 / variance; the means are over the finalists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.nouns.objective import Score
from evomerge.nouns.trial import Trial
from evomerge.run.final_choice import Compare, FinalChoice
from evomerge.run.shrinkage import Estimate, shrunken, weighed


@dataclass(frozen=True)
class Expectation:
    """A search score, and what it is worth.

    Attributes:
        searched: The winner's search score.
        looks: Different merges that were scored on the search documents.
        expected: What it can be expected to score on fresh documents.
        stderr: Standard error of that, of the documents that were drawn so far.
    """

    searched: float
    looks: int
    expected: float
    stderr: float


def expectation(choice: FinalChoice, compare: Compare) -> Expectation | None:
    """What to expect from the winner; None where nobody can tell.

    A winner whose weights the search documents taught is expected to score what validation says.
    None too where there are several objectives, or a score is not made of documents.

    Args:
        choice: With at least one complete trial.
        compare: Two trials on the search documents.
    """
    winner = choice.winners[0]
    ranked = choice.standing.ranked()
    if choice.standing.is_multi or not math.isfinite(choice.standing.losses(winner)[0]):
        return None
    found = _expected(choice, winner, compare)
    if found is None or not math.isfinite(found.value):
        return None
    searched = choice.standing.scores(winner)[0].value
    return Expectation(searched, len(ranked), found.value, math.sqrt(found.variance))


def _expected(choice: FinalChoice, winner: Trial, compare: Compare) -> Estimate | None:
    validated = _validated(choice, winner)
    if not choice.is_fair(winner):
        return None if validated is None or validated.stderr is None else _alone(validated)
    fair = [trial for trial in choice.standing.ranked() if choice.is_fair(trial)]
    searched = choice.standing.scores(winner)[0]
    own = _own_share(choice, winner, fair, compare)
    if own is None or searched.stderr is None:
        return None
    common = (1 - own) * searched.stderr**2
    chosen = _finalists(choice, winner) if validated is not None else [winner]
    scores = np.array([choice.standing.scores(trial)[0].value for trial in fair])
    scores = scores[np.isfinite(scores)]
    values = [choice.standing.scores(trial)[0].value for trial in chosen]
    worth = shrunken(values, scores, own * searched.stderr**2)
    if validated is None or validated.stderr is None:
        return Estimate(worth[0].value, worth[0].variance + common)
    mean = sum(one.value for one in worth) / len(worth)
    others = [score.value for one in chosen if (score := _validated(choice, one)) is not None]
    mean_validated = sum(others) / len(others)
    apart, together = own * validated.stderr**2, (1 - own) * validated.stderr**2
    level = weighed([Estimate(mean, common), Estimate(mean_validated, together)])
    lead = weighed(
        [
            Estimate(worth[0].value - mean, worth[0].variance),
            Estimate(validated.value - mean_validated, apart),
        ]
    )
    return Estimate(level.value + lead.value, level.variance + lead.variance)


def _alone(score: Score) -> Estimate:
    assert score.stderr is not None
    return Estimate(score.value, score.stderr**2)


def _own_share(
    choice: FinalChoice, winner: Trial, fair: Sequence[Trial], compare: Compare
) -> float | None:
    """Which part of the variance of the winner's search score is its own, in [0, 1]."""
    score = choice.standing.scores(winner)[0]
    others = [trial for trial in fair if trial is not winner][: choice.count]
    errors = [compare(winner, other).stderr for other in others]
    known = [error for error in errors if error is not None]
    if not known or not score.stderr:
        return None
    own = sum(error**2 for error in known) / len(known) / 2
    return min(own / score.stderr**2, 1.0)


def _finalists(choice: FinalChoice, winner: Trial) -> list[Trial]:
    """The winner, then the others that validation saw and whose search scores say something."""
    others = [one for one in choice.candidates if choice.is_fair(one) and one is not winner]
    return [winner, *(one for one in others if _validated(choice, one) is not None)]


def _validated(choice: FinalChoice, trial: Trial) -> Score | None:
    """A validation score that can stand beside a search score; None where there is none.

    The scale of ``normalized`` is another on each split.
    """
    outcome = choice.validated.get(trial.candidate.trial_id)
    if not choice.is_pooled or choice.standing.objective.name == "normalized":
        return None
    if choice.validation is None or outcome is None or outcome.evaluation is None:
        return None
    return choice.validation.scores(outcome.evaluation)[0]
