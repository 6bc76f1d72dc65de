"""What the winner of a search can be expected to score on fresh documents.

Its search score is too high, because it was chosen among many by that score. Its expectation is
made of what is known of it:

- the search scores, shrunken for the number of looks (``run.shrinkage``). Of the variance
  of a score, the part that a candidate has for itself is half the variance of its paired
  difference to another, in the middle of all: those next to it in rank may be its copies. Only
  that part chose it. The rest is common to all: documents that are hard are hard for everyone. As
  the scores shrink, so does their mean over the finalists.
- the validation scores, which nobody chose by before.

    level = weighed(mean of shrunken scores, mean of validation scores)   errors: common parts
    lead  = weighed(own shrunken score - their mean, own validation score - theirs)   own parts

    expected = level + lead

each weighed by 1 / variance; the means are over the finalists.

Of what the search documents taught the validation scores alone say something, and it was chosen
by them: they are shrunken as the search scores of others are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from evomerge.nouns.objective import Score
from evomerge.nouns.trial import Trial
from evomerge.run.final_choice import Compare, FinalChoice
from evomerge.run.shrinkage import Estimate, shrunken, weighed

_MOST_PAIRS = 20  # of the winner with others: each is read, and may be drawn 2,000 times


@dataclass(frozen=True)
class Expectation:
    """A search score, and what it is worth.

    Attributes:
        searched: The winner's search score.
        looks: Different merges that were scored on the search documents; the models and the base
            are none.
        expected: What it can be expected to score on fresh documents.
        stderr: Standard error of that, of the documents that were drawn so far.
    """

    searched: float
    looks: int
    expected: float
    stderr: float


def expectation(
    choice: FinalChoice, compare: Compare, compare_validated: Compare | None = None
) -> Expectation | None:
    """What to expect from the winner; None where nobody can tell.

    None too where there are several objectives, or a score is not made of documents.

    Args:
        choice: With at least one complete trial.
        compare: Two trials on the search documents.
        compare_validated: Two trials on the validation documents; without it the validation score
            of a winner that was taught stays as it is.
    """
    winner = choice.winners[0]
    if choice.leaderboard.is_multi or not math.isfinite(choice.leaderboard.losses(winner)[0]):
        return None
    if choice.is_fair(winner):
        found = _expected(choice, winner, compare)
    else:
        found = _expected_of_taught(choice, winner, compare_validated)
    if found is None or not math.isfinite(found.value):
        return None
    searched = choice.leaderboard.scores(winner)[0].value
    looks = [trial for trial in choice.leaderboard.ranked() if not _is_model(trial)]
    return Expectation(searched, len(looks), found.value, math.sqrt(found.variance))


def _expected(choice: FinalChoice, winner: Trial, compare: Compare) -> Estimate | None:
    validated = _validated(choice, winner)
    fair = [trial for trial in choice.leaderboard.ranked() if choice.is_fair(trial)]
    searched = choice.leaderboard.scores(winner)[0]
    own = _own_share(searched, winner, fair, compare)
    if own is None or searched.stderr is None:
        return None
    common = (1 - own) * searched.stderr**2
    chosen = _finalists(choice, winner) if validated is not None else [winner]
    scores = np.array([choice.leaderboard.scores(trial)[0].value for trial in fair])
    scores = scores[np.isfinite(scores)]
    values = [choice.leaderboard.scores(trial)[0].value for trial in chosen]
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


def _expected_of_taught(
    choice: FinalChoice, winner: Trial, compare: Compare | None
) -> Estimate | None:
    """What its validation score is worth among those that validation alone judged."""
    score = _validated(choice, winner)
    if score is None or score.stderr is None:
        return None
    others = [one for one in choice.candidates if not choice.is_fair(one) and one is not winner]
    scores = {id(one): found.value for one in others if (found := _validated(choice, one))}
    others = [one for one in others if math.isfinite(scores.get(id(one), math.nan))]
    own = None if compare is None else _own_share(score, winner, others, compare)
    if own is None:
        return Estimate(score.value, score.stderr**2)
    all_scores = np.array([score.value, *(scores[id(one)] for one in others)])
    (worth,) = shrunken([score.value], all_scores, own * score.stderr**2)
    return Estimate(worth.value, worth.variance + (1 - own) * score.stderr**2)


def _own_share(
    score: Score, winner: Trial, others: Sequence[Trial], compare: Compare
) -> float | None:
    """Which part of the variance of the winner's score is its own, in [0, 1]."""
    others = [trial for trial in others if trial is not winner]
    spread = np.linspace(0, len(others) - 1, min(len(others), _MOST_PAIRS)).round().astype(int)
    errors = [compare(winner, others[index]).stderr for index in spread]
    known = [error for error in errors if error is not None]
    if not known or not score.stderr:
        return None
    return min(median(known) ** 2 / 2 / score.stderr**2, 1.0)


def _finalists(choice: FinalChoice, winner: Trial) -> list[Trial]:
    """The winner, then the others that validation saw and whose search scores say something.

    A baseline that stands beside them may be far below, and says nothing of them.
    """
    others = [t for t in choice.possible_finalists if choice.is_fair(t) and t is not winner]
    return [winner, *(one for one in others if _validated(choice, one) is not None)]


def _is_model(trial: Trial) -> bool:
    return trial.candidate.origin.is_unmerged


def _validated(choice: FinalChoice, trial: Trial) -> Score | None:
    """A validation score that can stand beside a search score; None where there is none.

    The scale of ``normalized`` is another on each split.
    """
    outcome = choice.validated.get(trial.candidate.trial_id)
    if not choice.is_pooled or choice.leaderboard.objective.name == "normalized":
        return None
    if choice.validation is None or outcome is None or outcome.evaluation is None:
        return None
    return choice.validation.scores(outcome.evaluation)[0]
