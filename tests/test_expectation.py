"""The final choice and what is expected of it, where the true qualities are known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from evomerge.genome.task_blocks import Task
from evomerge.nouns.comparison import compare
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.objective import Objective
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe
from evomerge.run.expectation import expectation
from evomerge.run.final_choice import FinalChoice, finalists
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.ledger.old_origins import origin_in

N_SEARCH, N_VALIDATION = 60, 60
HARDNESS, OWN = 0.3, 0.1  # noise of a document: of all candidates alike, and of each for itself
OBJECTIVES = {
    split: Objective("weighted_sum", (Task(name=split),), (MetricKey(split, "acc"),))
    for split in ("search", "validation")
}


def outcome(split, credits):
    error = float(credits.std(ddof=1)) / len(credits) ** 0.5
    metric = Metric(MetricKey(split, "acc"), float(credits.mean()), error, len(credits), True)
    documents = (
        Document(split, index, {"acc,none": value}) for index, value in enumerate(credits.tolist())
    )
    return Outcome(TrialState.COMPLETE, Evaluation((metric,), tuple(documents)))


def answered(random, qualities, n):
    """Credits of each candidate on documents that are hard for all alike; shape (k, n)."""
    hardness = random.normal(0, HARDNESS, n)
    return qualities[:, None] + hardness + random.normal(0, OWN, (len(qualities), n))


def compared(one, other):
    evaluations = one.outcome.evaluation, other.outcome.evaluation
    return compare(OBJECTIVES["search"], *evaluations, np.random.default_rng(0))[0]


def compared_among(outcomes):
    """Compares on the validation documents."""

    def compared(one, other):
        pair = (outcomes[trial.candidate.trial_id].evaluation for trial in (one, other))
        return compare(OBJECTIVES["validation"], *pair, np.random.default_rng(0))[0]

    return compared


@cache
def searched(seed, n=60, origin="optimizer"):
    """True qualities and the finished trials of a search that tried a plateau and worse."""
    random = np.random.default_rng(seed)
    qualities = 0.6 - np.abs(random.normal(0, 0.01, n))
    qualities -= np.where(random.random(n) < 0.4, random.exponential(0.1, n), 0)
    credits = answered(random, qualities, N_SEARCH)
    validated = answered(random, qualities, N_VALIDATION)
    return qualities, *recorded(credits, validated, origin)


def recorded(credits, validated, origin="optimizer"):
    """The finished trials that answered so, and what validation finds of each."""
    origins = ["model a", *[origin] * (len(credits) - 1)]
    trials = tuple(
        Trial(Candidate(i, origin_in(origins[i]), Recipe({"n": i})), outcome("search", row))
        for i, row in enumerate(credits)
    )
    outcomes = {i: outcome("validation", row) for i, row in enumerate(validated)}
    return Leaderboard(OBJECTIVES["search"], trials), outcomes


def chosen(leaderboard, outcomes):
    seen = {trial.candidate.trial_id for trial in finalists(leaderboard, compare=compared)} | {0}
    validated = {i: outcome for i, outcome in outcomes.items() if i in seen}
    return FinalChoice(leaderboard, OBJECTIVES["validation"], validated)


def by_validation(leaderboard, outcomes):
    """The rule of before: of the five best by search the one that validation finds best."""
    few = finalists(leaderboard)
    rule = OBJECTIVES["validation"]
    return min(few, key=lambda t: rule.losses(outcomes[t.candidate.trial_id])[0])


SEARCHES = range(120)


@pytest.mark.slow
def test_the_choice_is_better_than_the_best_search_score_and_the_best_validation_score():
    gains = {"search": [], "validation": []}
    for seed in SEARCHES:
        qualities, leaderboard, outcomes = searched(seed)
        won = qualities[chosen(leaderboard, outcomes).winners[0].candidate.trial_id]
        others = {"search": leaderboard.best, "validation": by_validation(leaderboard, outcomes)}
        for name, other in others.items():
            gains[name].append(won - qualities[other.candidate.trial_id])
    for gain in gains.values():
        assert np.mean(gain) > 1.5 * np.std(gain, ddof=1) / len(gain) ** 0.5


def level(qualities, outcomes):
    """By how much the documents are easier than others."""
    values = [outcome.evaluation.metrics[0].value for outcome in outcomes]
    return float(np.mean(values) - qualities.mean())


@pytest.mark.slow
@pytest.mark.parametrize("has_validation", [False, True])
def test_what_is_expected_is_what_comes_and_as_sure_as_is_told(has_validation):
    errors, told, optimism, left = [], [], [], []
    for seed in SEARCHES:
        qualities, leaderboard, outcomes = searched(seed)
        choice = chosen(leaderboard, outcomes) if has_validation else FinalChoice(leaderboard)
        found = expectation(choice, compared)
        true = qualities[choice.winners[0].candidate.trial_id]
        easier = level(qualities, [trial.outcome for trial in leaderboard.trials])
        both = (easier + level(qualities, outcomes.values())) / 2 if has_validation else easier
        errors.append(found.expected - true)
        told.append(found.stderr)
        optimism.append(found.searched - easier - true)
        left.append(found.expected - both - true)
        assert found.looks == len(qualities) - 1  # the model was there before
    own = OWN / N_SEARCH**0.5  # what a search score errs for itself
    assert np.mean(optimism) > own  # the winner's curse
    assert abs(np.mean(left)) < 0.5 * own
    assert abs(np.mean(left)) < np.mean(optimism) / 3
    assert np.mean(np.abs(errors) < 2 * np.array(told)) > 0.85
    assert 0.7 < np.std(errors) / np.mean(told) < 1.3


def test_what_was_taught_is_expected_to_score_what_validation_says():
    _, leaderboard, outcomes = searched(0, 10, "optimizer, epoch 1")
    winner = replace(leaderboard.trials[4], outcome=outcome("search", np.full(N_SEARCH, 1.0)))
    trials = (*leaderboard.trials[:4], winner, *leaderboard.trials[5:])
    leaderboard = Leaderboard(leaderboard.objective, trials)
    high = outcome("validation", np.linspace(0.5, 1.0, N_VALIDATION))
    choice = chosen(leaderboard, {**outcomes, 4: high})
    assert choice.winners == [winner]
    found = expectation(choice, compared)
    assert found.expected == pytest.approx(0.75)
    assert found.stderr == pytest.approx(high.evaluation.metrics[0].stderr)
    assert expectation(FinalChoice(leaderboard), compared) is None


@pytest.mark.slow
def test_a_search_that_ended_in_copies_of_its_best_is_as_optimistic_as_others():
    n_clusters, n_copies, left, optimism = 8, 8, [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        qualities = np.full(n_clusters, 0.6)
        credits = answered(random, qualities, N_SEARCH).repeat(n_copies, axis=0)
        credits += random.normal(0, 0.001, credits.shape)
        leaderboard, _ = recorded(credits, [])
        found = expectation(FinalChoice(leaderboard), compared)
        easier = credits.mean() - 0.6
        left.append(found.expected - easier - 0.6)
        optimism.append(found.searched - easier - 0.6)
    assert np.mean(optimism) > OWN / N_SEARCH**0.5
    assert abs(np.mean(left)) < np.mean(optimism) / 3


def test_a_taught_winner_is_worth_less_than_the_validation_score_it_was_chosen_by():
    left, optimism = [], []
    for seed in range(80):
        random = np.random.default_rng(seed)
        qualities = np.full(12, 0.6)
        rows = [answered(random, qualities, n) for n in (N_SEARCH, N_VALIDATION)]
        rows[1][0] -= 0.1  # the model: what was taught wins
        leaderboard, outcomes = recorded(*rows, "optimizer, epoch 1")
        choice = chosen(leaderboard, outcomes)
        assert not choice.is_fair(choice.winners[0])
        score = outcomes[choice.winners[0].candidate.trial_id].evaluation.metrics[0].value
        easier = rows[1][1:].mean() - 0.6
        found = expectation(choice, compared, compared_among(outcomes))
        assert found.expected <= score
        left.append(found.expected - easier - 0.6)
        optimism.append(score - easier - 0.6)
    assert np.mean(optimism) > OWN / N_VALIDATION**0.5
    assert abs(np.mean(left)) < np.mean(optimism) / 2


def test_where_no_documents_are_kept_nothing_is_expected():
    _, leaderboard, _ = searched(0)
    bare = tuple(replace(t, outcome=t.outcome.without_documents()) for t in leaderboard.trials)
    assert expectation(FinalChoice(Leaderboard(leaderboard.objective, bare)), compared) is None
