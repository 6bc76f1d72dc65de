"""The best particles as an ensemble: each document's answer is the one that most of them give.

A run holds no right answers. It holds what each model's answer was worth, so the answer that
wins is worth what it was worth to those who gave it: the same number, where the worth of an
answer does not depend on who gives it. Where it does, there is no vote, and the reason is said.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.nouns.evaluation import Document, Evaluation
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.run_record import RunRecord
from evomerge.nouns.trial import Trial
from evomerge.optimizers.swarm.swarm_tracks import SwarmHistory

N_VOTERS = 10  # the paper's
_FEWEST = 2
_SCORED = {  # splits on which a run scores few
    "validation": "of what it found a run scores its finalists on validation, no others",
    "holdout": "of what it found a run scores the winner alone on holdout",
}
_PRECISION = 1e-6  # relative; between a recorded metric and the mean of its documents

_Place = tuple[str, int]  # task and document
_Answer = int | str


class NoVoteError(Exception):
    """The documents cannot be voted on; the message says why."""


@dataclass(frozen=True)
class Vote:
    """What an ensemble scores on a split.

    Attributes:
        voters: Ids of the trials that voted, best first.
        score: Of the answers they chose; None where they could not vote.
        reason: Why they could not, else empty.
    """

    voters: tuple[int, ...]
    score: Score | None
    reason: str = ""


@dataclass(frozen=True)
class _Voter:
    """One model: what it is worth, and what it answered."""

    utility: float
    evaluation: Evaluation


def vote(history: SwarmHistory, trials: Sequence[Trial], split: str) -> Vote:
    """What the best trials score together on a split.

    Args:
        history: The swarm.
        trials: Best first; of the first ten those vote that were scored on the split.
        split: ``tasks``, ``validation`` or ``holdout``.
    """
    run, best = history.run, trials[:N_VOTERS]
    voters: dict[int, _Voter] = {}
    for trial in best:
        trial_id = trial.candidate.trial_id
        evaluation, utility = run.evaluation(split, trial_id), history.utility(trial)
        if evaluation is not None and utility is not None:
            voters[trial_id] = _Voter(utility, evaluation)
    try:
        if len(voters) < _FEWEST:
            raise NoVoteError(_too_few(len(best), [*voters], split))
        return Vote(tuple(voters), _score(run, split, list(voters.values())))
    except NoVoteError as error:
        return Vote(tuple(voters), None, str(error))


def _too_few(n_best: int, voters: Sequence[int], split: str) -> str:
    """Who was scored on a split, and why not more."""
    if n_best < _FEWEST:
        return "it takes two particles"
    who = f"only trial {voters[0]}" if voters else "none"
    rule = f"; {_SCORED[split]}" if split in _SCORED else ""
    return f"of the {n_best} best particles {who} was scored there{rule}"


def _score(run: RunRecord, split: str, voters: Sequence[_Voter]) -> Score:
    objective = run.leaderboard.objective if split == "tasks" else run.finals[split]
    parts = []
    for index, key in enumerate(objective.keys):
        names = run.members(split).get(key.task, (key.task,))
        values = _task_values(objective, index, voters, frozenset(names))
        sign = 1.0 if objective.metric(voters[0].evaluation, index).higher_is_better else -1.0
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
        parts.append(Score(sign * float(np.mean(values)), error, len(values)))
    combined = objective.combine(parts)
    if len(combined) > 1:
        raise NoVoteError("several objectives have no one score")
    return combined[0]


def _task_values(
    objective: Objective, index: int, voters: Sequence[_Voter], names: frozenset[str]
) -> list[float]:
    """What the chosen answers of one task are worth, a number per document."""
    key = objective.keys[index]
    name = f"{key.metric},{key.filter}"
    ballots: dict[_Place, list[tuple[_Voter, Document]]] = defaultdict(list)
    for voter in voters:
        mine = [d for d in voter.evaluation.documents if d.task in names and name in d.values]
        recorded = objective.metric(voter.evaluation, index).value
        mean = float(np.mean([d.values[name] for d in mine])) if mine else math.nan
        if not math.isclose(mean, recorded, rel_tol=_PRECISION, abs_tol=_PRECISION):
            raise NoVoteError(f"{key} is no mean over the documents that are kept")
        for document in mine:
            ballots[document.task, document.doc_id].append((voter, document))
    return [_worth(ballot, name) for _, ballot in sorted(ballots.items(), key=lambda b: b[0])]


def _worth(ballot: Sequence[tuple[_Voter, Document]], name: str) -> float:
    """What the answer is worth that most give; of equally many, those with more utility."""
    count: dict[_Answer, int] = defaultdict(int)
    utility: dict[_Answer, float] = defaultdict(float)
    worth: dict[_Answer, float] = {}
    for voter, document in ballot:
        answer = document.answer
        if answer is None:
            raise NoVoteError(f"no answers of {document.task} are kept")
        value = document.values[name]
        if worth.setdefault(answer, value) != value:
            raise NoVoteError(f"equal answers of {document.task} are worth different {name}")
        count[answer] += 1
        utility[answer] += voter.utility
    return worth[max(worth, key=lambda answer: (count[answer], utility[answer]))]
