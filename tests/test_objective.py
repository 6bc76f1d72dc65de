from __future__ import annotations

import math

import pytest

from evomerge.foundations.errors import EvaluationError
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.objective import OBJECTIVES, Objective

TASKS = (Task(name="math", weight=3.0), Task(name="text", weight=1.0))
KEYS = (MetricKey("math", "acc"), MetricKey("text", "acc"))


def evaluation(math_score, text_score, *, errors=(0.03, 0.04), higher=(True, True)):
    values = (math_score, text_score)
    return Evaluation(
        tuple(
            Metric(key, value, error, 100, up)
            for key, value, error, up in zip(KEYS, values, errors, higher, strict=True)
        )
    )


def complete(*values, **facts):
    return Outcome(TrialState.COMPLETE, evaluation(*values, **facts))


def objective(name, tasks=TASKS):
    return Objective(name, tasks, KEYS)


def test_weighted_sum_divides_by_the_sum_of_the_weights():
    (score,) = objective("weighted_sum").scores(evaluation(0.6, 0.2))
    assert score.value == pytest.approx(0.75 * 0.6 + 0.25 * 0.2)
    assert score.stderr == pytest.approx(math.hypot(0.75 * 0.03, 0.25 * 0.04))
    assert score.n == 200


def test_a_negative_weight_turns_its_task():
    tasks = (TASKS[0], Task(name="text", weight=-1.0))
    (score,) = objective("weighted_sum", tasks).scores(evaluation(0.6, 0.2))
    assert score.value == pytest.approx(0.75 * 0.6 - 0.25 * 0.2)


@pytest.mark.parametrize("name", ["weighted_sum", "normalized", "worst"])
@pytest.mark.parametrize("watched", [0.0, 0.9, math.nan])
def test_a_task_of_weight_0_is_watched_and_changes_nothing(name, watched):
    tasks = (TASKS[0], Task(name="text", weight=0.0))
    alone = Objective(name, tasks[:1], KEYS[:1])
    both = Objective(name, tasks, KEYS)
    (expected,) = alone.scores(evaluation(0.6, watched))
    assert both.scores(evaluation(0.6, watched, errors=(0.03, None))) == (expected,)
    assert expected.stderr == 0.03


def test_worst_is_the_lowest_task_with_its_own_error_and_documents():
    (score,) = objective("worst").scores(evaluation(0.6, 0.2))
    assert (score.value, score.stderr, score.n) == (0.2, 0.04, 100)


def test_harmonic_mean_and_the_error_its_slopes_give():
    (score,) = objective("harmonic_mean").scores(evaluation(0.6, 0.2))
    mean = 1 / (0.75 / 0.6 + 0.25 / 0.2)
    assert score.value == pytest.approx(mean)
    slopes = (0.75 * (mean / 0.6) ** 2, 0.25 * (mean / 0.2) ** 2)
    assert score.stderr == pytest.approx(math.hypot(slopes[0] * 0.03, slopes[1] * 0.04))


def test_the_slopes_of_the_harmonic_mean_are_its_derivatives():
    mean = objective("harmonic_mean")
    step = 1e-6
    (up,) = mean.scores(evaluation(0.6 + step, 0.2))
    (down,) = mean.scores(evaluation(0.6 - step, 0.2))
    (alone,) = mean.scores(evaluation(0.6, 0.2, errors=(1.0, 0.0)))
    assert alone.stderr == pytest.approx((up.value - down.value) / (2 * step), rel=1e-6)


def test_harmonic_mean_of_a_task_at_zero_is_zero():
    (score,) = objective("harmonic_mean").scores(evaluation(0.9, 0.0))
    assert (score.value, score.stderr) == (0.0, None)


def test_normalized_scales_each_task_from_the_base_to_the_best_parent():
    parents = [evaluation(0.5, 0.1), evaluation(0.3, 0.5)]
    scaled = objective("normalized").with_anchors(evaluation(0.1, 0.1), parents)
    (score,) = scaled.scores(evaluation(0.3, 0.7))
    assert score.value == pytest.approx(0.75 * (0.3 - 0.1) / 0.4 + 0.25 * (0.7 - 0.1) / 0.4)
    assert score.stderr == pytest.approx(math.hypot(0.75 * 0.03 / 0.4, 0.25 * 0.04 / 0.4))


def test_normalized_without_a_base_starts_at_the_worst_parent():
    parents = [evaluation(0.5, 0.1), evaluation(0.3, 0.5)]
    scaled = objective("normalized").with_anchors(None, parents)
    assert scaled.scores(parents[0])[0].value == pytest.approx(0.75)
    assert scaled.scores(parents[1])[0].value == pytest.approx(0.25)


def test_normalized_only_shifts_a_task_on_which_no_parent_beats_the_base():
    scaled = objective("normalized").with_anchors(evaluation(0.5, 0.2), [evaluation(0.4, 0.6)])
    (score,) = scaled.scores(evaluation(0.6, 0.6))
    assert score.value == pytest.approx(0.75 * (0.6 - 0.5) + 0.25 * 1.0)


def test_other_objectives_have_no_anchors():
    plain = objective("worst")
    assert plain.with_anchors(evaluation(0, 0), [evaluation(1, 1)]) is plain


def test_per_task_has_a_loss_for_each_task_in_their_order():
    each = objective("per_task")
    assert each.n_objectives == 2
    assert each.labels == ("math", "text")
    assert each.losses(complete(0.6, 0.2)).tolist() == [-0.6, -0.2]


def test_the_sign_turns_where_lower_is_better():
    lower = evaluation(0.6, 12.0, higher=(True, False))
    assert [s.value for s in objective("per_task").scores(lower)] == [0.6, -12.0]
    (score,) = objective("weighted_sum").scores(lower)
    assert score.value == pytest.approx(0.75 * 0.6 - 0.25 * 12.0)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_loss_is_the_score_turned_round(name):
    rule = objective(name)
    outcome = complete(0.6, 0.2)
    assert rule.losses(outcome).tolist() == [-s.value for s in rule.scores(outcome.evaluation)]
    assert rule.losses(outcome).shape == (rule.n_objectives,)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_better_model_never_has_a_higher_loss(name):
    rule = objective(name).with_anchors(evaluation(0.1, 0.1), [evaluation(0.5, 0.5)])
    assert (rule.losses(complete(0.7, 0.3)) <= rule.losses(complete(0.6, 0.2))).all()


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_failed_trial_is_infinitely_bad(name):
    failed = Outcome(TrialState.FAILED, failure="merge: out of memory")
    assert set(objective(name).losses(failed).tolist()) == {math.inf}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_metric_that_is_no_number_is_infinitely_bad_whichever_task_it_is_of(name, place, bad):
    values = [0.5, 0.5]
    values[place] = bad
    losses = objective(name).losses(complete(*values))
    assert losses[place if len(losses) > 1 else 0] == math.inf


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_task_without_an_error_leaves_the_score_without_one(name):
    scores = objective(name).scores(evaluation(0.6, 0.2, errors=(0.03, None)))
    assert scores[-1].stderr is None


def test_an_evaluation_without_the_metric_is_an_error_that_names_it():
    with pytest.raises(EvaluationError, match="the evaluation reports no math/acc,none"):
        objective("worst").scores(Evaluation(()))
