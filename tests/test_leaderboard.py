from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.objective import Objective
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.ledger.old_origins import origin_in

TASKS = (Task(name="math"), Task(name="text"))
KEYS = (MetricKey("math", "acc"), MetricKey("text", "acc"))


def trial(trial_id, *values, origin="optimizer", recipe=None):
    metrics = tuple(Metric(k, v, None, 10, True) for k, v in zip(KEYS, values, strict=True))
    candidate = Candidate(
        trial_id, origin_in(origin), Recipe({"n": trial_id if recipe is None else recipe})
    )
    return Trial(candidate, Outcome(TrialState.COMPLETE, Evaluation(metrics)))


def failed(trial_id):
    outcome = Outcome(TrialState.FAILED, failure="evaluate: broken")
    return Trial(Candidate(trial_id, origin_in("optimizer"), Recipe({"n": trial_id})), outcome)


def leaderboard(name, *trials):
    found = Leaderboard(Objective(name, TASKS, KEYS))
    for one in trials:
        found = found.with_trial(one)
    return found


def ids(trials):
    return [one.candidate.trial_id for one in trials]


def test_the_best_trial_comes_first_and_failed_ones_not_at_all():
    found = leaderboard("weighted_sum", trial(0, 0.1, 0.1), failed(1), trial(2, 0.9, 0.1))
    assert ids(found.ranked()) == [2, 0]
    assert found.best.candidate.trial_id == 2
    assert found.scores(found.trials[1]) == ()


def test_the_earlier_trial_wins_a_tie_in_whichever_order_they_finish():
    found = leaderboard("weighted_sum", trial(3, 0.5, 0.5), trial(1, 0.5, 0.5), trial(2, 0.5, 0.5))
    assert ids(found.trials) == [1, 2, 3]
    assert ids(found.ranked()) == [1, 2, 3]


def test_twins_of_a_recipe_are_ranked_once():
    found = leaderboard("worst", trial(0, 0.5, 0.5, recipe=7), trial(1, 0.5, 0.5, recipe=7))
    assert ids(found.ranked()) == [0]


def test_a_score_that_is_no_number_ranks_last():
    found = leaderboard("weighted_sum", trial(0, math.nan, 1.0), trial(1, 0.0, 0.0))
    assert ids(found.ranked()) == [1, 0]


def test_nothing_stands_best_where_nothing_is_complete():
    found = leaderboard("worst", failed(0))
    assert found.best is None
    assert found.front() == []


def test_the_front_holds_what_nothing_beats_in_every_task():
    found = leaderboard(
        "per_task",
        trial(0, 0.9, 0.1),
        trial(1, 0.1, 0.9),
        trial(2, 0.5, 0.5),
        trial(3, 0.4, 0.5),
        failed(4),
    )
    assert found.is_multi
    assert ids(found.front()) == [0, 1, 2]
    assert ids(found.ranked())[-1] == 3


def test_equal_points_of_the_front_both_stay_in_it():
    found = leaderboard("per_task", trial(0, 0.5, 0.5), trial(1, 0.5, 0.5))
    assert ids(found.front()) == [0, 1]


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 2), min_size=1, max_size=12))
def test_the_front_is_what_pairwise_comparison_says(points):
    found = leaderboard("per_task", *(trial(i, *map(float, p)) for i, p in enumerate(points)))
    front = [
        i
        for i, p in enumerate(points)
        if not any(all(a >= b for a, b in zip(q, p, strict=True)) and q != p for q in points)
    ]
    assert ids(found.front()) == front


def test_anchors_come_from_models_and_base_alone():
    found = leaderboard(
        "normalized",
        trial(0, 0.5, 0.5, origin="model a"),
        trial(1, 0.1, 0.1, origin="base b"),
        trial(2, 0.9, 0.9, origin="uniform average"),
        trial(3, 0.9, 0.9, origin="task arithmetic 0.5"),
        trial(4, 1.0, 1.0),
    ).with_anchors()
    assert [(a.zero, a.one) for a in found.objective.anchors] == [(0.1, 0.5)] * 2
    assert found.scores(found.trials[0])[0].value == pytest.approx(1.0)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 8)), max_size=14),
    st.randoms(use_true_random=False),
    st.sampled_from(["weighted_sum", "per_task"]),
)
def test_trials_that_come_one_by_one_stand_as_all_at_once(values, order, name):
    trials = [
        failed(i) if not a + b else trial(i, float(a), float(b), recipe=recipe)
        for i, (a, b, recipe) in enumerate(values)
    ]
    at_once = Leaderboard(Objective(name, TASKS, KEYS), tuple(trials))
    order.shuffle(trials)
    one_by_one = leaderboard(name, *trials)
    assert one_by_one.trials == at_once.trials
    assert one_by_one.best is at_once.best
    assert ids(one_by_one.front()) == ids(at_once.front())
    assert ids(one_by_one.ranked()) == ids(at_once.ranked())


def test_what_one_standing_learns_misleads_no_other():
    start = leaderboard("per_task", trial(0, 0.1, 0.1))
    one, other = start.with_trial(trial(1, 0.9, 0.9)), start.with_trial(trial(1, 0.0, 0.0))
    assert (ids(one.front()), ids(other.front())) == ([1], [0])
    assert ids(start.with_trial(trial(2, 0.5, 0.5, recipe=1)).front()) == [2]


def mixture(trial_id, *values):
    one = trial(trial_id, *values, recipe="mixture")
    origin = Origin(OriginKind.MIXTURE)
    return replace(one, candidate=replace(one.candidate, origin=origin))


@pytest.mark.parametrize("name", ["weighted_sum", "per_task"])
def test_a_mixture_beside_the_merges_never_wins(name):
    trials = [trial(0, 0.1, 0.2), mixture(1, 0.9, 0.9), trial(2, 0.5, 0.1)]
    for found in (leaderboard(name, *trials), Leaderboard(leaderboard(name).objective, (*trials,))):
        assert found.best.candidate.trial_id == 2 or name == "per_task"
        assert ids(found.front()) == ([0, 2] if name == "per_task" else ids(found.front()))
        assert 1 not in ids(found.ranked()) + ids(found.front())
        assert ids(found.complete) == [0, 1, 2]  # it is scored, and shown
