"""Differences on the same documents, held against scipy, numpy written out and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.foundations.seeding import stream
from evomerge.genome.task_blocks import Task
from evomerge.nouns.comparison import Comparison, compare
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey
from evomerge.nouns.objective import Anchor, Objective

stats = pytest.importorskip("scipy.stats")

RNG = np.random.default_rng(0)


def objective(name="weighted_sum", weights=(1.0,), metric="acc", anchors=()):
    tasks = [Task(name=f"task{i}", weight=weight) for i, weight in enumerate(weights)]
    return Objective(name, tasks, [MetricKey(t.name, metric) for t in tasks], anchors)


def evaluation(*tasks, metric="acc", aggregate=np.mean, higher_is_better=True):
    """An evaluation whose documents have these values, one list per task."""
    metrics = [
        Metric(MetricKey(f"task{i}", metric), float(aggregate(v)), 0.1, len(v), higher_is_better)
        for i, v in enumerate(tasks)
    ]
    documents = [
        Document(f"task{i}", doc_id, {f"{metric},none": float(value)})
        for i, values in enumerate(tasks)
        for doc_id, value in enumerate(values)
    ]
    return Evaluation(tuple(metrics), tuple(documents))


def compared(rule, one, other, members=None):
    return compare(rule, one, other, stream(0, "test"), members)


def standard_error(values):
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def correlated(n=200):
    """Answers of two models that find the same documents hard."""
    hardness = RNG.random(n)
    return [(RNG.random(n) > hardness).astype(float) for _ in range(2)]


def test_the_standard_error_is_that_of_the_paired_t_test():
    one, other = correlated()
    (found,) = compared(objective(), evaluation(one), evaluation(other))
    paired = stats.ttest_rel(one, other)
    assert found.difference == pytest.approx(one.mean() - other.mean())
    assert found.difference / found.stderr == pytest.approx(paired.statistic)
    assert found.n == 200


def test_for_right_and_wrong_answers_only_the_documents_that_changed_count():
    one = [1.0] * 12 + [0.0] * 5 + [1.0] * 83
    other = [0.0] * 12 + [1.0] * 5 + [1.0] * 83
    (found,) = compared(objective(), evaluation(one), evaluation(other))
    assert found.difference == pytest.approx((12 - 5) / 100)
    mcnemar = (12 + 5 - (12 - 5) ** 2 / 100) / (100 * 99)
    assert found.stderr == pytest.approx(math.sqrt(mcnemar))


def test_tasks_count_as_the_objective_weights_them():
    (a, b), (c, d) = correlated(), correlated(80)
    (found,) = compared(objective(weights=(3.0, -1.0)), evaluation(a, c), evaluation(b, d))
    expected = math.hypot(0.75 * standard_error(a - b), 0.25 * standard_error(c - d))
    assert found.stderr == pytest.approx(expected)
    assert found.difference == pytest.approx(0.75 * (a - b).mean() - 0.25 * (c - d).mean())
    assert found.n == 280


def test_a_task_of_weight_zero_needs_no_documents():
    one, other = correlated()
    first, second = evaluation(one, one), evaluation(other, one)
    second = Evaluation(second.metrics, tuple(d for d in second.documents if d.task == "task0"))
    (found,) = compared(objective(weights=(1.0, 0.0)), first, second)
    assert found.stderr == pytest.approx(standard_error(one - other))


def test_several_objectives_are_compared_one_by_one():
    (a, b), (c, d) = correlated(), correlated(80)
    rule = objective("per_task", (1.0, 1.0))
    found = compared(rule, evaluation(a, c), evaluation(b, d))
    assert [f.stderr for f in found] == pytest.approx(
        [standard_error(a - b), standard_error(c - d)]
    )
    assert [f.n for f in found] == [200, 80]


def test_normalized_is_scaled_by_its_anchors():
    one, other = correlated()
    rule = objective("normalized", anchors=[Anchor(0.2, 0.7)])
    (found,) = compared(rule, evaluation(one), evaluation(other))
    assert found.difference == pytest.approx((one - other).mean() / 0.5)
    assert found.stderr == pytest.approx(standard_error(one - other) / 0.5)


def test_the_sign_turns_where_lower_is_better():
    one, other = RNG.random(50), RNG.random(50) + 1.0
    models = [evaluation(v, higher_is_better=False) for v in (one, other)]
    (found,) = compared(objective(), *models)
    assert found.difference == pytest.approx((other - one).mean())
    assert found.difference > 0


answers = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0])] * 2), min_size=2, max_size=40)


@given(answers)
@settings(deadline=None)
def test_the_paired_error_is_the_error_of_the_differences(pairs):
    one, other = np.array(pairs).T
    (found,) = compared(objective(), evaluation(one), evaluation(other))
    assert found.stderr == pytest.approx(standard_error(one - other))
    (back,) = compared(objective(), evaluation(other), evaluation(one))
    assert (back.difference, back.stderr) == (-found.difference, found.stderr)


@pytest.mark.parametrize("name", ["weighted_sum", "per_task", "worst", "harmonic_mean"])
def test_the_same_answers_differ_by_nothing_for_sure(name):
    one, other = correlated()
    model = evaluation(one, other)
    for found in compared(objective(name, (1.0, 1.0)), model, model):
        assert (found.difference, found.stderr) == (0.0, 0.0)
        assert not found.is_distinguishable


def test_worst_is_drawn_anew_document_by_document():
    (a, b), (c, d) = correlated(100), correlated(100)
    (found,) = compared(objective("worst", (1.0, 1.0)), evaluation(a, c), evaluation(b, d))
    draws = np.random.default_rng(1).integers(100, size=(2, 4000, 100))
    mine = np.minimum(a[draws[0]].mean(axis=1), c[draws[1]].mean(axis=1))
    theirs = np.minimum(b[draws[0]].mean(axis=1), d[draws[1]].mean(axis=1))
    assert found.stderr == pytest.approx(float(np.std(mine - theirs)), rel=0.1)


def test_the_drawing_agrees_with_the_formula_where_there_is_one():
    (a, b), (c, d) = correlated(400), correlated(400)
    weights = (0.5, 0.5)
    (found,) = compared(objective("harmonic_mean", weights), evaluation(a, c), evaluation(b, d))

    def influence(x, y):
        mean = 2 / (1 / x.mean() + 1 / y.mean())
        return [0.5 * (mean / v.mean()) ** 2 * v for v in (x, y)]

    (a_i, c_i), (b_i, d_i) = influence(a, c), influence(b, d)
    expected = math.hypot(standard_error(a_i - b_i), standard_error(c_i - d_i))
    assert found.stderr == pytest.approx(expected, rel=0.1)


def test_a_perplexity_is_compared_by_the_logarithms_of_its_documents():
    log_one = RNG.normal(2.0, 0.3, 300)
    log_other = log_one + RNG.normal(0.1, 0.1, 300)
    facts = {"metric": "perplexity", "aggregate": stats.gmean, "higher_is_better": False}
    models = [evaluation(np.exp(v), **facts) for v in (log_one, log_other)]
    (found,) = compared(objective(metric="perplexity"), *models)
    influence = [np.exp(v.mean()) * v for v in (log_one, log_other)]
    assert found.stderr == pytest.approx(standard_error(influence[1] - influence[0]), rel=0.1)
    assert found.difference > 0


def test_the_same_stream_draws_the_same():
    one, other = correlated()
    rule = objective("worst")
    models = evaluation(one), evaluation(other)
    assert compared(rule, *models) == compared(rule, *models)


@pytest.mark.parametrize("by_size", [True, False])
def test_the_members_of_a_group_count_as_in_its_score(by_size):
    (a, b), (c, d) = correlated(90), correlated(30)

    def group(first, second):
        members = evaluation(first, second)
        parts = np.concatenate([first, second]), np.array([first.mean(), second.mean()])
        metric = Metric(MetricKey("group", "acc"), float(parts[not by_size].mean()), 0.1, 120, True)
        return Evaluation((metric,), members.documents)

    rule = Objective("weighted_sum", [Task(name="group")], [MetricKey("group", "acc")])
    members = {"group": ["task0", "task1"]}
    (found,) = compared(rule, group(a, c), group(b, d), members)
    shares = (0.75, 0.25) if by_size else (0.5, 0.5)
    errors = standard_error(a - b), standard_error(c - d)
    assert found.stderr == pytest.approx(math.hypot(*np.multiply(shares, errors)))
    assert found.n == 120


def test_only_documents_that_both_answered_are_paired():
    one, other = correlated(50)
    short = evaluation(other)
    short = Evaluation(short.metrics, short.documents[:40])
    metric = Metric(MetricKey("task0", "acc"), float(other[:40].mean()), 0.1, 40, True)
    (found,) = compared(objective(), evaluation(one), Evaluation((metric,), short.documents))
    assert found.n == 40
    assert found.stderr == pytest.approx(standard_error((one - other)[:40]))


def test_without_documents_there_is_a_difference_but_no_error():
    one, other = (Evaluation(evaluation(v).metrics) for v in correlated())
    (found,) = compared(objective(), one, other)
    assert found.stderr is None
    assert found.reason == "no result per document is kept of task0/acc,none"
    assert not found.is_distinguishable


def test_a_score_that_is_no_mean_of_its_documents_has_no_error():
    models = [evaluation(v, aggregate=np.max) for v in correlated()]
    (found,) = compared(objective(), *models)
    assert (found.stderr, found.reason) == (None, "task0/acc,none is no mean over its documents")


def test_one_document_says_nothing():
    (found,) = compared(objective(), evaluation([1.0]), evaluation([0.0]))
    assert found.stderr is None
    assert found.reason == "fewer than two documents of task0/acc,none were answered by both"


@pytest.mark.parametrize(
    ("difference", "stderr", "answer"),
    [(0.2, 0.1, True), (0.19, 0.1, False), (-0.2, 0.1, True), (0.2, None, False), (0, 0.0, False)],
)
def test_more_than_1_96_standard_errors_is_more_than_noise(difference, stderr, answer):
    assert Comparison(difference, stderr, 100, 50).is_distinguishable is answer


@pytest.mark.parametrize(("n_differing", "answer"), [(5, False), (6, True)])
def test_five_documents_that_differ_tell_nothing(n_differing, answer):
    assert Comparison(0.1, 0.01, 100, n_differing).is_distinguishable is answer
    assert (2 * 0.5**n_differing < 0.05) is answer  # the sign test, all of them one way
