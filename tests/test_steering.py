from __future__ import annotations

import pytest

from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import (
    Document,
    Evaluation,
    Metric,
    MetricKey,
    Outcome,
    Sample,
    Tally,
    TrialState,
)
from evomerge.nouns.objective import Objective
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.steering import doubts

KEY = MetricKey("maths", "exact_match", "strict")
PARENTS = ("model a", "model b")


def trial(index, origin, value, *, n=20, tally=(), samples=()):
    other = Metric(MetricKey("maths", "length"), float(index), None, n, True)
    metrics = (Metric(KEY, value, None, n, True), other)
    evaluation = Evaluation(metrics, samples=samples, tallies=tally)
    outcome = Outcome(TrialState.COMPLETE, evaluation)
    return Trial(Candidate(index, origin_in(origin), Recipe({"merge_method": origin})), outcome)


def found(values, *, others=(), values_of=None, weight=1.0, rule="weighted_sum", **facts):
    """The reasons found where the parents score ``values``.

    Args:
        others: Scores of further baselines.
        values_of: Trial -> per-document values of the metric that steers; all differ in another.
    """
    origins = (*PARENTS[: len(values)], "base c", "uniform average")
    trials = [
        trial(index, *pair, **facts)
        for index, pair in enumerate(zip(origins, (*values, *others), strict=False))
    ]

    def documents(trial_id):
        own = (values_of or {}).get(trial_id, ())
        return [
            Document("part", i, {"exact_match,strict": value, "length,none": float(trial_id)})
            for i, value in enumerate(own)
        ]

    tasks = [Task(name="maths", weight=weight)]
    objective = Objective(rule, tasks, [KEY])
    doubt = doubts(objective, trials, documents, {"maths": ["part"]})
    return [reason for one in doubt for reason in one.reasons]


def generated(n_cut=0, n_empty=0):
    return (Tally("maths", 10, n_cut, n_empty),)


def test_a_task_that_tells_the_models_apart_is_no_doubt():
    assert found([0.2, 0.4], tally=generated(n_cut=5)) == []


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.0, 0.0], "every model scores 0 (exact_match,strict)"),
        ([0.0], "the model scores 0 (exact_match,strict)"),
        ([1.0, 1.0], "every model scores 1 (exact_match,strict)"),
        ([0.5, 0.5], "every model scores the same (exact_match,strict 0.5)"),
    ],
)
def test_a_task_on_which_all_do_alike_cannot_steer(values, text):
    assert found(values) == [text]


def test_alike_on_every_document_is_said_where_they_were_scored():
    alike = {0: [0.0, 1.0], 1: [0.0, 1.0]}
    told = "every model scores the same on every document (exact_match,strict 0.5)"
    assert found([0.5, 0.5], values_of=alike) == [told]


def test_what_base_and_average_score_beside_is_told():
    assert found([0.0, 0.0], others=[0.0, 0.125]) == [
        "every model scores 0 (exact_match,strict, uniform average 0.125)"
    ]


def test_the_metric_that_steers_decides_and_no_other():
    """Other values differ per document; the same score may come from other documents."""
    assert found([0.5, 0.5], values_of={0: [1.0, 0.0], 1: [1.0, 0.0]}) != []
    assert found([0.5, 0.5], values_of={0: [1.0, 0.0], 1: [0.0, 1.0]}) == []


def test_a_metric_without_values_per_document_tells_models_apart():
    assert found([3.1, 4.5], values_of={}) == []


@pytest.mark.parametrize(("value", "is_told"), [(0.1, True), (0.4, True), (0.5, False)])
def test_a_task_that_is_guessed_cannot_steer(value, is_told):
    """At 20 documents and four options two standard errors above 1/4 are 0.44."""
    reasons = found([0.25, value], tally=(Tally("maths", guess=0.25),))
    assert [reason.startswith("no model is told from guessing") for reason in reasons] == (
        [True] if is_told else []
    )


@pytest.mark.parametrize(("value", "is_told"), [(-0.2, True), (0.4, True), (0.5, False)])
def test_a_correlation_that_is_guessed_cannot_steer(value, is_told):
    """At 20 documents that of guesses is 0, two standard errors are 0.45."""
    reasons = found([0.1, value], tally=(Tally("maths", guess=0.0),))
    assert [reason.startswith("no model is told from guessing") for reason in reasons] == (
        [True] if is_told else []
    )


@pytest.mark.parametrize(
    ("tally", "text"),
    [
        (generated(n_cut=6), "60% of a model's answers were cut by the length limit"),
        (generated(n_empty=10), "100% of a model's answers are empty"),
    ],
)
def test_answers_that_are_cut_or_empty_are_told(tally, text):
    assert found([0.2, 0.4], tally=tally) == [text]


def test_a_task_of_weight_0_does_not_steer_where_weights_count():
    assert found([0.2, 0.4], weight=0.0) == ["it has weight 0"]
    assert found([0.2, 0.4], weight=0.0, rule="per_task") == []


def test_prompt_target_and_answer_stand_as_they_were():
    samples = (Sample("other", 0, "p", "a"), Sample("part", 4, "1+1=", " 3", "2"))
    trials = [trial(i, origin, 0.0, samples=samples) for i, origin in enumerate(PARENTS)]
    objective = Objective("weighted_sum", [Task(name="maths")], [KEY])
    (doubt,) = doubts(objective, trials, lambda trial_id: (), {"maths": ["part"]})
    assert str(doubt.finding) == (
        "maths: every model scores 0 (exact_match,strict): nothing here shows that this task can "
        "steer the search. "
        "Look at prompt, target and answer: chat template, stop texts, answer format and the "
        "metric's filter decide what counts. As it was:\n"
        "  part, document 4\n"
        "    prompt ... '1+1='\n"
        "    target     '2'\n"
        "    answer     ' 3'"
    )


def test_models_that_failed_say_nothing():
    failed = Candidate(0, origin_in("model a"), Recipe({"merge_method": "x"}))
    trials = [Trial(failed, Outcome(TrialState.FAILED, failure="on purpose"))]
    assert doubts(Objective("worst", [Task(name="maths")], [KEY]), trials, lambda i: (), {}) == []
