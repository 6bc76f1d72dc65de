"""Rows of tasks, groups and their parts, held against numpy on made-up answers."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.evaluators.task_facts import GroupFacts, PartFacts, TaskFacts
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey
from evomerge.report.score_rows import BY_DOCUMENTS, BY_TASKS, rows_data, score_rows

SIZES = {"a": 40, "b": 10, "c": 25, "d": 5}
GROUPS = (
    GroupFacts("all", ("a", "b", "c", "d"), True),
    GroupFacts("inner", ("b", "c"), False),
    GroupFacts("single", ("d",), True),
)


def answers(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 2, size).astype(float) for name, size in SIZES.items()}


def evaluation(values, *, is_by_size=True, sign=True):
    """What an evaluator makes of the values of each part's documents."""
    everything = np.concatenate(list(values.values()))
    means = [own.mean() for own in values.values()]
    whole = everything.mean() if is_by_size else np.mean(means)
    metrics = [Metric(MetricKey("all", "acc"), float(whole), 0.1, len(everything), sign)]
    metrics += [
        Metric(MetricKey(name, "acc"), float(own.mean()), float(stderr_of(own)), len(own), sign)
        for name, own in values.items()
    ]
    documents = [
        Document(name, index, {"acc,none": float(value)})
        for name, own in values.items()
        for index, value in enumerate(own)
    ]
    return Evaluation(tuple(metrics), tuple(documents))


def stderr_of(values):
    return np.std(values, ddof=1) / len(values) ** 0.5


def facts(groups=GROUPS):
    parts = tuple(PartFacts(name, n, n, 4.0, 0, False, 0) for name, n in SIZES.items())
    return TaskFacts(MetricKey("all", "acc"), True, parts, groups=groups)


def by_name(rows):
    return {row.name: row for row in rows}


def test_a_group_its_second_mean_its_groups_and_tasks_come_in_order():
    rows = score_rows(facts(), [evaluation(answers(0))])
    shown = [(row.name, row.depth, row.n) for row in rows]
    assert shown == [
        ("all", 0, 80),
        (BY_TASKS, 1, 80),
        ("a", 1, 40),
        ("inner", 1, 35),
        ("b", 2, 10),
        ("c", 2, 25),
        ("d", 1, 5),
    ]


def test_both_means_and_their_errors():
    values = answers(0)
    found = by_name(score_rows(facts(), [evaluation(values)]))
    means = {name: own.mean() for name, own in values.items()}
    assert found["all"].scores[0].value == pytest.approx(np.concatenate([*values.values()]).mean())
    macro = found[BY_TASKS].scores[0]
    assert macro.value == pytest.approx(np.mean(list(means.values())))
    errors = [stderr_of(own) for own in values.values()]
    assert macro.stderr == pytest.approx(np.sqrt(np.sum(np.square(errors))) / 4)
    assert found["inner"].scores[0].value == pytest.approx((means["b"] + means["c"]) / 2)
    groups = (GroupFacts("all", tuple(SIZES), False),)
    other = by_name(score_rows(facts(groups), [evaluation(values, is_by_size=False)]))
    micro = other[BY_DOCUMENTS].scores[0]
    assert micro.value == pytest.approx(np.concatenate([*values.values()]).mean())


def test_differences_are_paired_document_by_document():
    one, other = answers(1), answers(2)
    rows = by_name(score_rows(facts(), [evaluation(one), evaluation(other)]))
    for name in SIZES:
        gain = rows[name].gains[1]
        apart = other[name] - one[name]
        assert gain.difference == pytest.approx(apart.mean())
        assert gain.stderr == pytest.approx(stderr_of(apart))
        assert (gain.n, gain.n_differing) == (len(apart), int((apart != 0).sum()))
        assert rows[name].gains[0] is None
    gain = rows[BY_TASKS].gains[1]
    apart = {name: other[name] - one[name] for name in SIZES}
    assert gain.difference == pytest.approx(np.mean([own.mean() for own in apart.values()]))
    errors = [stderr_of(own) for own in apart.values()]
    assert gain.stderr == pytest.approx(np.sqrt(np.sum(np.square(errors))) / 4)


def test_a_model_without_scores_leaves_its_cells_empty():
    known = evaluation(answers(1))
    for row in score_rows(facts(), [known, None, known]):
        assert [score is None for score in row.scores] == [False, True, False]
        assert [gain is None for gain in row.gains] == [True, True, False]
        assert row.gains[2].difference == 0
    assert score_rows(facts(), [None, None]) == []
    without_first = score_rows(facts(), [None, known])
    assert {row.gains for row in without_first} == {(None, None)}


def test_json_has_differences_in_the_metrics_own_unit():
    one, other = (evaluation(answers(seed), sign=False) for seed in (1, 2))
    (row, *_) = rows_data(score_rows(facts(), [one, other]), ["one", "other"])
    difference = row["models"]["other"]["difference_to_first"]
    scores = [row["models"][name]["score"] for name in ("one", "other")]
    assert difference["value"] == pytest.approx(scores[1] - scores[0], abs=1e-5)
    assert row["higher_is_better"] is False
    assert row["models"]["one"]["difference_to_first"] is None
