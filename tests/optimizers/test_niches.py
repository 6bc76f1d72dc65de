"""The rules of `niches`, on archives small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.genome.schema import Genome
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey
from evomerge.nouns.space import Choice, Integer, Real, Space
from evomerge.optimizers.niches.archive import (
    Member,
    Supply,
    attraction,
    least_fit,
    resources_of,
    shared_fitness,
    supply_of,
)
from evomerge.optimizers.niches.m2n2 import Niches, NichesSettings, first_points, shares_of
from evomerge.optimizers.search_context import SearchContext
from tests.optimizers.labels import labels_of

# Three trials, four documents of one task: the first solves two that others solve too, the second
# one of them and one of its own, the third what the first does.
SCORES = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
SUPPLY = Supply(SCORES, np.ones(4))
LINE = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(4)))
MIXED = Space(
    (Real("weight", 0.0, 1.0), Integer("start", 0, 3), Choice("method", ("linear", "ties")))
)


def member(row, loss=0.0, genotype=(0.5,)):
    documents = tuple(("task", "task", doc_id) for doc_id in range(len(row)))
    return Member(np.array(genotype), loss, documents, np.array(row, dtype=float))


def evaluation(values, task="task", metric="acc", higher_is_better=True, own=()):
    key = MetricKey(task, metric)
    metrics = (*own, Metric(key, float(np.mean(values)), None, len(values), higher_is_better))
    name = f"{metric},none"
    documents = tuple(Document(task, i, {name: float(v)}) for i, v in enumerate(values))
    return Evaluation(metrics, documents)


def got_by(evaluation):
    documents, resources = resources_of(evaluation)
    return dict(zip(documents, resources.tolist(), strict=True))


def test_those_that_solve_a_document_share_it():
    # z = 3, 2, 1, 0
    expected = [1 / 3 + 1 / 2, 1 / 3 + 1, 1 / 3 + 1 / 2]
    np.testing.assert_allclose(shared_fitness(SUPPLY, alpha=1.0), expected)


def test_without_sharing_fitness_is_the_sum_of_scores():
    np.testing.assert_allclose(shared_fitness(SUPPLY, alpha=0.0), [2.0, 2.0, 2.0])


def test_alpha_is_the_power_of_what_all_get():
    expected = [1 / 9 + 1 / 4, 1 / 9 + 1, 1 / 9 + 1 / 4]
    np.testing.assert_allclose(shared_fitness(SUPPLY, alpha=2.0), expected)


def test_a_partner_is_wanted_for_what_the_first_parent_lacks():
    np.testing.assert_allclose(attraction(SUPPLY, 0, alpha=1.0), [0.0, 1.0, 0.0])
    np.testing.assert_allclose(attraction(SUPPLY, 1, alpha=1.0), [1 / 2, 0.0, 1 / 2])
    np.testing.assert_allclose(attraction(SUPPLY, 1, alpha=0.0), [1.0, 0.0, 1.0])


def test_graded_scores_count_by_how_much_they_are_better():
    scores = np.array([[0.2, 0.5], [0.6, 0.1], [0.0, 0.0]])
    np.testing.assert_allclose(
        attraction(Supply(scores, np.ones(2)), 0, alpha=1.0), [0.0, 0.4 / 0.8, 0.0]
    )


def test_the_first_parent_gives_its_share_before_the_split_and_the_rest_after():
    np.testing.assert_array_equal(shares_of(3, 1, 0.75), [0.75, 0.25, 0.25])
    np.testing.assert_array_equal(shares_of(3, 3, 0.75), [0.75] * 3)


def test_the_least_fit_leaves():
    archive = [member(SCORES[0], 0.1), member(SCORES[1], 0.3), member(SCORES[2], 0.2)]
    assert least_fit(archive, alpha=1.0) == 2  # as fit as the first, which is the best trial


def test_the_best_trial_stays_though_it_is_the_least_fit():
    rows = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    archive = [member(row, loss) for row, loss in zip(rows, (0.1, 0.2, 0.9, 0.8), strict=True)]
    # fitness 1, 1, 1, 1: among equals the one of the largest loss
    assert least_fit(archive, alpha=1.0) == 2
    lone = [member([1, 0], 0.1), member([1, 1], 0.2), member([1, 1], 0.3)]
    assert shared_fitness(supply_of(lone), 1.0).argmin() == 0
    assert least_fit(lone, alpha=1.0) == 2


def test_a_specialist_outlives_what_is_better_on_the_mean():
    generalists = [member([1, 1, 1, 0], 0.25 + i / 100) for i in range(4)]
    specialist = member([0, 0, 0, 1], 0.75)
    assert least_fit([*generalists, specialist], alpha=1.0) == 3
    assert least_fit([*generalists, specialist], alpha=0.0) == 4


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_a_task_counts_by_its_weight_however_many_documents_it_has(alpha):
    documents = tuple((task, task, i) for task, n in (("large", 3), ("small", 1)) for i in range(n))
    rows = np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    archive = [Member(np.zeros(1), 0.0, documents, row) for row in rows]
    # z = 1 everywhere: each has what its one task has to give
    np.testing.assert_allclose(shared_fitness(supply_of(archive), alpha), [2.0, 2.0])
    weighed = supply_of(archive, {"large": 3.0})
    np.testing.assert_allclose(weighed.capacities, [1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(shared_fitness(weighed, alpha), [3.0, 1.0])
    np.testing.assert_allclose(attraction(weighed, 0, alpha), [0.0, 1.0])


def test_capacities_are_what_is_shared_by_those_that_solve_a_document():
    documents = tuple((task, task, i) for task, n in (("large", 3), ("small", 1)) for i in range(n))
    rows = np.array([[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    archive = [Member(np.zeros(1), 0.0, documents, row) for row in rows]
    supply = supply_of(archive)
    np.testing.assert_allclose(supply.capacities, [2 / 3, 2 / 3, 2 / 3, 2.0])
    # z = 2, 1, 0, 1
    np.testing.assert_allclose(shared_fitness(supply, 1.0), [1 / 3 + 2 / 3 + 2.0, 1 / 3])


def test_a_task_of_no_weight_feeds_nobody():
    documents = (("good", "good", 0), ("idle", "idle", 0))
    archive = [Member(np.zeros(1), 0.0, documents, row) for row in np.eye(2)]
    np.testing.assert_allclose(shared_fitness(supply_of(archive, {"idle": 0.0}), 1.0), [2.0, 0.0])
    nothing = supply_of(archive, {"idle": 0.0, "good": 0.0})
    np.testing.assert_array_equal(shared_fitness(nothing, 1.0), [0.0, 0.0])


def test_members_of_a_group_share_the_weight_of_the_group():
    documents = (("group", "one", 0), ("group", "two", 0), ("lone", "lone", 0))
    archive = [Member(np.zeros(1), 0.0, documents, np.ones(3))] * 2
    np.testing.assert_allclose(supply_of(archive).capacities, [3 / 4, 3 / 4, 3 / 2])


def test_documents_that_not_all_answered_do_not_count():
    archive = [member([1, 0, 1]), member([0, 1])]
    np.testing.assert_array_equal(supply_of(archive).scores, [[1, 0], [0, 1]])


def test_without_documents_ranks_are_the_one_resource():
    archive = [Member(np.zeros(1), loss) for loss in (0.3, -5.0, 7.0)]
    np.testing.assert_allclose(supply_of(archive).scores, [[2 / 3], [1.0], [1 / 3]])


def test_scores_outside_one_are_measured_from_the_worst_to_the_best():
    archive = [member([-3.0]), member([-1.0]), member([-2.0])]
    np.testing.assert_allclose(supply_of(archive).scores, [[0.0], [1.0], [0.5]])
    broken = [member([-np.inf]), member([-1.0])]
    np.testing.assert_allclose(supply_of(broken).scores, [[0.0], [1.0]])


def test_a_document_is_read_by_the_metric_of_its_task_in_its_direction():
    assert got_by(evaluation([0.0, 1.0])) == {("task", "task", 0): 0.0, ("task", "task", 1): 1.0}
    turned = evaluation([2.0, 3.0], metric="perplexity", higher_is_better=False)
    assert got_by(turned) == {("task", "task", 0): -2.0, ("task", "task", 1): -3.0}


def test_the_first_metric_of_a_task_is_the_genomes():
    metrics = [Metric(MetricKey("task", name), 0.5, None, 1, True) for name in ("acc_norm", "acc")]
    documents = (Document("task", 0, {"acc,none": 0.0, "acc_norm,none": 1.0}),)
    assert got_by(Evaluation(tuple(metrics), documents)) == {("task", "task", 0): 1.0}


def test_a_member_of_a_group_is_read_by_the_metric_of_the_group():
    metric = Metric(MetricKey("group", "acc"), 0.5, None, 2, True)
    documents = (Document("member", 0, {"acc,none": 1.0}), Document("other", 0, {"f1,none": 1.0}))
    assert got_by(Evaluation((metric,), documents)) == {("group", "member", 0): 1.0}


def learned(optimizer, genotypes, rows):
    losses = np.array([1 - np.mean(row) for row in rows])
    optimizer.tell(np.array(genotypes), losses, [evaluation(row) for row in rows])
    return optimizer


def test_children_of_complements_come_from_both_though_a_third_is_better_on_the_mean():
    settings = NichesSettings(n_startup_trials=2, mutation=0.0)
    corners = [[0.0] * 4, [1.0] * 4]
    optimizer = learned(Niches(LINE, seed=0, settings=settings), corners, [[1, 0], [0, 1]])
    children = []
    for _ in range(20):
        children.append(optimizer.ask()[0])
        optimizer.tell(children[-1][None], np.array([np.inf]))
    for child in children:  # one value, then what is left of it
        assert len(np.unique(np.round(child, 12))) <= 2
        assert child.min() + child.max() == pytest.approx(1.0) or np.ptp(child) < 1e-12
    assert len({int((child == child[0]).sum()) for child in children}) > 2  # the split moves


def test_a_cut_separates_layers_whatever_the_order_of_the_coordinates():
    """Two models, three places: the coordinates stand model by model, the cut runs by place."""
    space = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(6)))
    settings = NichesSettings(n_startup_trials=2, mutation=0.0)
    context = SearchContext(places=np.array([2, 0, 1, 2, 0, 1]))
    optimizer = Niches(space, seed=0, settings=settings, context=context)
    learned(optimizer, [[0.0] * 6, [1.0] * 6], [[1, 0], [0, 1]])
    cuts = set()
    for _ in range(40):
        child = optimizer.ask()[0]
        optimizer.tell(child[None], np.array([np.inf]))
        along = child[[1, 4, 2, 5, 0, 3]]  # from the first place to the last
        changes = np.flatnonzero(np.abs(np.diff(along)) > 1e-12)
        assert len(changes) <= 1
        cuts.update(changes.tolist())
    assert cuts == {0, 1, 2, 3, 4}


def test_switches_take_parts_away():
    corners, rows = [[0.0] * 4, [1.0] * 4], [[1, 0], [0, 1]]
    whole = NichesSettings(n_startup_trials=2, mutation=0.0, split_point=False)
    child = learned(Niches(LINE, seed=0, settings=whole), corners, rows).ask()[0]
    assert np.ptp(child) < 1e-12
    assert 0 < child[0] < 1
    single = NichesSettings(n_startup_trials=2, mutation=0.0, crossover=False)
    child = learned(Niches(LINE, seed=0, settings=single), corners, rows).ask()[0]
    assert child.tolist() in corners
    anyone = NichesSettings(n_startup_trials=2, matchmaker=False)
    assert learned(Niches(LINE, seed=0, settings=anyone), corners, rows).ask().shape == (1, 4)


def test_equal_trials_and_trials_that_solve_nothing_still_have_children():
    settings = NichesSettings(n_startup_trials=2)
    for rows in ([[1, 1], [1, 1]], [[0, 0], [0, 0]]):
        optimizer = learned(Niches(LINE, seed=0, settings=settings), [[0.2] * 4, [0.8] * 4], rows)
        for _ in range(5):
            child = optimizer.ask()
            optimizer.tell(child, np.array([1.0]), [evaluation(rows[0])])
            assert np.isfinite(child).all()


def test_choices_and_integers_come_from_either_parent():
    settings = NichesSettings(n_startup_trials=2, mutation=0.0)
    parents = [
        MIXED.encode({"weight": 0.0, "start": 0, "method": "linear"}),
        MIXED.encode({"weight": 1.0, "start": 3, "method": "ties"}),
    ]
    optimizer = learned(Niches(MIXED, seed=0, settings=settings), parents, [[1, 0], [0, 1]])
    points = []
    for _ in range(20):
        genotypes = optimizer.ask()
        points.append(MIXED.decode(genotypes[0]))
        optimizer.tell(genotypes, np.array([np.inf]))
    assert {point["start"] for point in points} == {0, 3}
    assert {point["method"] for point in points} == {"linear", "ties"}


def test_a_failed_trial_has_no_place_in_the_archive():
    optimizer = Niches(LINE, seed=0, settings=NichesSettings(n_startup_trials=2))
    optimizer.tell(np.eye(4), np.array([np.inf, 0.1, 0.2, np.inf]), [None] * 4)
    assert [found.loss for found in optimizer._archive] == [0.1, 0.2]


def test_trials_made_elsewhere_spare_first_points():
    optimizer = Niches(LINE, seed=0)
    optimizer.tell(np.eye(4), np.arange(4.0))
    labels = []
    for _ in range(8):
        genotypes = optimizer.ask()
        labels += labels_of(optimizer)
        optimizer.tell(genotypes, genotypes.sum(axis=1))
    assert labels == ["first point"] * 6 + ["child"] * 2


def test_first_points_meet_every_choice_and_half_lie_around_the_start():
    start = Space(tuple(Real(f"weight_{i}", 0.0, 1.0, initial=0.9) for i in range(30)))
    settings = NichesSettings(spread=0.01)
    points = first_points(start, 10, settings, np.random.default_rng(0))
    near = [bool(np.all(np.abs(point - 0.9) < 0.1)) for point in points]
    assert near == [False, True] * 5
    met = [
        MIXED.decode(point)["start"]
        for point in first_points(MIXED, 4, settings, np.random.default_rng(0))
    ]
    assert set(met) == {0, 1, 2, 3}


def test_tasks_to_be_answered_badly_are_refused():
    def said(weight):
        data = {
            "genome": {"models": ["org/a", "org/b"], "merge_method": "linear"},
            "tasks": [{"name": "good"}, {"name": "bad", "weight": weight}],
        }
        genome = Genome.model_validate(data)
        return [p.what for p in Niches.obstacles(LINE, genome, NichesSettings())]

    assert said(0.5) == []
    assert [what.partition(",")[0] for what in said(-0.5)] == ["bad has a negative weight"]
