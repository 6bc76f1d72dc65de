from __future__ import annotations

import math
from dataclasses import replace

import pytest

from evomerge.genome.task_blocks import Task
from evomerge.nouns.comparison import Comparison
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.objective import Objective
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe
from evomerge.run.final_choice import FinalChoice, are_alike, finalists, leaders
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.ledger.old_origins import origin_in

SPLITS = {"search": (20, 20), "validation": (10, 10)}  # documents of each task
METRICS = ("acc", "f1")


def objective(name, split="search", *, metrics=METRICS, weights=(1.0, 1.0), names=None):
    names = names or (f"math_{split}", f"text_{split}")
    tasks = tuple(Task(name=n, weight=w) for n, w in zip(names, weights, strict=True))
    keys = tuple(MetricKey(n, m) for n, m in zip(names, metrics, strict=True))
    return Objective(name, tasks, keys)


def outcome(*values, split="search", sizes=None, **settings):
    keys = objective("worst", split, **settings).keys
    triples = zip(keys, values, sizes or SPLITS[split], strict=True)
    metrics = tuple(Metric(key, value, 0.1, n, True) for key, value, n in triples)
    return Outcome(TrialState.COMPLETE, Evaluation(metrics))


def trial(trial_id, *values, origin="optimizer"):
    return Trial(Candidate(trial_id, origin_in(origin), Recipe({"n": trial_id})), outcome(*values))


def leaderboard(name, *trials):
    return Leaderboard(objective(name), tuple(trials))


def choice(found, validated, count=5, **settings):
    """The choice where these scores are what validation found."""
    outcomes = {
        i: outcome(*values, split="validation", **settings) for i, values in validated.items()
    }
    rule = objective(found.objective.name, "validation", **settings)
    return FinalChoice(found, rule, outcomes, count)


def ids(trials):
    return [one.candidate.trial_id for one in trials]


def apart_from(*told):
    """Says that these trials can be told from the best, all others not."""

    def compare(best, other):
        assert best.candidate.trial_id == 9
        is_told = other.candidate.trial_id in told
        return Comparison(1.0, 0.1 if is_told else 10.0, 100, 50)

    return compare


TEN = tuple(trial(i, 0.1 * i, 0.5) for i in range(10))


def test_the_finalists_are_the_best_few_or_the_whole_front():
    assert ids(finalists(leaderboard("weighted_sum", *TEN), 2)) == [9, 8]
    front = [trial(i, 0.1 * i, 0.9 - 0.2 * i) for i in range(4)]
    assert ids(finalists(leaderboard("per_task", *front, trial(9, 0.0, 0.0)), 2)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((), [9, 8, 7, 6, 5, 4]),  # at most twice as many
        ((5,), [9, 8, 7, 6]),
        ((8, 6), [9, 8, 7]),  # those that are taken anyway are not asked about
    ],
)
def test_who_cannot_be_told_from_the_best_is_looked_at_too(told, expected):
    found = leaderboard("weighted_sum", *TEN)
    assert ids(finalists(found, 3, apart_from(*told))) == expected


def test_where_nobody_knows_how_sure_a_difference_is_no_more_are_looked_at():
    unknown = Comparison(0.1, None, 0, reason="no documents")
    assert ids(finalists(leaderboard("weighted_sum", *TEN), 3, lambda *_: unknown)) == [9, 8, 7]


def test_the_winner_is_the_best_over_search_and_validation_documents_together():
    found = leaderboard("weighted_sum", trial(0, 0.9, 0.9), trial(1, 0.8, 0.8), trial(2, 0.7, 0.7))
    validated = {0: (0.5, 0.5), 1: (0.6, 0.6), 2: (0.7, 0.7)}
    # 20 and 10 documents of each task: 0.767, 0.733, 0.700; validation alone says the reverse.
    assert ids(choice(found, validated).winners) == [0]
    assert choice(found, validated).is_pooled
    assert choice(found, validated).loss(found.trials[1]) == pytest.approx(-22 / 30)
    assert ids(choice(found, {**validated, 1: (0.71, 0.71)}).winners) == [1]
    assert ids(FinalChoice(found).winners) == [0]


def test_each_task_is_joined_before_the_tasks_are():
    found = leaderboard("worst", trial(0, 0.9, 0.3), trial(1, 0.5, 0.5))
    # Joined 0.7 and 0.5: the worst is 0.5. The joined worst scores would be 0.3.
    mixed = choice(found, {0: (0.3, 0.9), 1: (0.4, 0.4)})
    assert mixed.loss(found.trials[0]) == pytest.approx(-0.5)
    assert ids(mixed.winners) == [0]


@pytest.mark.parametrize("changes", [{"metrics": ("acc", "exact_match")}, {"weights": (1.0, 2.0)}])
def test_validation_on_other_tasks_chooses_alone(changes):
    found = leaderboard("weighted_sum", trial(0, 0.9, 0.9), trial(1, 0.8, 0.8))
    alone = choice(found, {0: (0.5, 0.5), 1: (0.6, 0.6)}, **changes)
    assert not alone.is_pooled
    assert ids(alone.winners) == [1]


def of_one_metric(name, sizes, names=None):
    """Two trials on two tasks of one metric, which validation finds alike."""
    metrics = {"metrics": ("acc", "acc")}
    trials = [
        Trial(
            Candidate(i, origin_in("optimizer"), Recipe({"n": i})),
            outcome(*v, sizes=sizes[0], **metrics),
        )
        for i, v in enumerate([(0.9, 0.5), (0.8, 0.6)])
    ]
    found = Leaderboard(objective(name, **metrics), tuple(trials))
    validated = {0: (0.9, 0.5), 1: (0.8, 0.6)}
    rule = objective(name, "validation", names=names, **metrics)
    outcomes = {
        i: outcome(*v, split="validation", sizes=sizes[1], names=names, **metrics)
        for i, v in validated.items()
    }
    return FinalChoice(found, rule, outcomes)


EQUAL = ((20, 20), (10, 10))


def test_two_tasks_of_one_metric_may_stand_in_another_order_so_they_are_not_joined():
    swapped = of_one_metric("worst", EQUAL, ("text_validation", "math_validation"))
    assert not swapped.is_pooled
    assert ids(swapped.winners) == [1]  # joined crosswise: 0.77 and 0.63, and 0.73 and 0.67
    # A worst score joined crosswise would be that of no task.
    assert swapped.loss(swapped.leaderboard.trials[0]) == pytest.approx(-0.5)
    for name in ("normalized", "harmonic_mean"):
        assert not of_one_metric(name, EQUAL).is_pooled


def test_they_are_joined_where_their_order_does_not_matter_or_is_told_by_their_names():
    assert of_one_metric("weighted_sum", EQUAL).is_pooled
    for sizes in [((20, 30), (10, 10)), ((20, 20), (10, 15)), ((20, 30), (20, 30))]:
        assert not of_one_metric("weighted_sum", sizes).is_pooled
    named = of_one_metric("worst", ((20, 30), (10, 15)), ("math_search", "text_search"))
    assert named.is_pooled


def test_splits_that_are_scored_by_other_rules_are_not_joined():
    one, other = (objective(name, names=("math", "text")) for name in ("worst", "harmonic_mean"))
    assert are_alike(one, one, EQUAL)
    assert not are_alike(one, other, EQUAL)


def test_who_was_not_looked_at_does_not_win_nor_does_who_failed_on_validation():
    found = leaderboard("weighted_sum", *TEN)
    validated = {i: (1.0 - 0.1 * i, 1.0) for i in range(10)}
    assert ids(choice(found, validated, count=3).candidates) == [9, 8, 7, 6, 5, 4]
    best = choice(found, {**validated, 0: (9.0, 9.0)}, count=3)
    assert ids(best.winners) == [9]
    failed = choice(found, {i: v for i, v in validated.items() if i != 9}, count=3)
    assert math.isinf(failed.loss(found.trials[9]))
    assert ids(failed.winners) == [8]


@pytest.mark.parametrize("origin", ["ties", "model a", "base b", "uniform average", "seed c"])
def test_a_baseline_wins_where_all_documents_find_it_best_whatever_its_place(origin):
    baseline = trial(0, 0.5, 0.5, origin=origin)
    found = leaderboard("weighted_sum", baseline, *(trial(i, 0.6, 0.6) for i in range(1, 9)))
    validated = dict.fromkeys(range(1, 9), (0.3, 0.3))
    judged = choice(found, {0: (0.9, 0.9), **validated}, count=2)
    assert ids(judged.candidates)[-1] == 0
    assert ids(judged.winners) == [0]  # 0.633 and 0.5; a seed on validation alone
    assert ids(choice(found, {0: (0.4, 0.4), **validated}, count=2).winners)[0] in {1, 0}
    assert len({one.candidate.recipe.digest for one in judged.candidates}) == 5


def test_points_of_a_front_that_failed_on_validation_come_last():
    found = leaderboard("per_task", *(trial(i, 0.1 * i, 0.9 - 0.2 * i) for i in range(4)))
    assert ids(choice(found, {i: (0.5 * i, 0.5) for i in range(2)}, 2).winners) == [1, 0, 2, 3]


def test_normalized_is_scaled_by_the_baselines_scores_on_all_documents():
    searched = [
        trial(0, 0.5, 0.5, origin="model a"),
        trial(1, 0.1, 0.1, origin="base b"),
        trial(2, 0.5, 0.3),
        trial(3, 0.3, 0.95),
    ]
    found = leaderboard("normalized", *searched).with_anchors()
    validated = {0: (0.2, 0.9), 1: (0.1, 0.1), 2: (0.2, 0.3), 3: (0.15, 0.95)}
    scaled = choice(found, validated)
    # Joined: the model 0.4 and 0.633, the base 0.1 and 0.1, trial 2 0.4 and 0.3.
    assert scaled.loss(found.trials[2]) == pytest.approx(-(1 + 0.2 / (0.5333333)) / 2, abs=1e-6)
    assert ids(scaled.winners) == [3]


# What was taught

BASES = (trial(0, 0.5, 0.5, origin="model a"), trial(1, 0.2, 0.4, origin="base b"))
EPOCH = "optimizer, epoch 1"


def test_what_the_search_documents_taught_is_judged_on_validation_alone():
    honest, taught = trial(2, 0.7, 0.7), trial(3, 0.99, 0.99, origin=EPOCH)
    validated = {0: (0.4, 0.5), 1: (0.1, 0.3), 2: (0.6, 0.6), 3: (0.55, 0.55)}
    judged = choice(leaderboard("weighted_sum", *BASES, honest, taught), validated)
    assert ids(judged.winners) == [2]
    # What the baselines have more on the search documents: 0.1 of math, and 0.05 (0, 0.1) of text.
    expected = 0.55 + 2 / 3 * (0.1 + 0.05) / 2
    assert judged.loss(taught) == pytest.approx(-expected)
    better = choice(judged.leaderboard, {**validated, 3: (0.65, 0.65)})
    assert ids(better.winners) == [3]


@pytest.mark.parametrize("label", ["gradient, epoch 1", "2 gradient, epoch 7"])
def test_so_is_what_came_after_it_and_may_have_begun_there(label):
    after = trial(4, 0.95, 0.95, origin="optimizer, cma_es")
    trials = [*BASES, trial(2, 0.7, 0.7), trial(3, 0.8, 0.8, origin=f"optimizer, {label}"), after]
    judged = choice(leaderboard("weighted_sum", *trials), {})
    assert [judged.is_fair(one) for one in trials] == [True, True, True, False, False]


def test_so_is_what_an_earlier_search_chose():
    seed = trial(2, 0.99, 0.99, origin="seed runs/before, trial 9")
    validated = {0: (0.4, 0.5), 1: (0.1, 0.3), 2: (0.5, 0.5), 3: (0.6, 0.6)}
    found = leaderboard("weighted_sum", *BASES, seed, trial(3, 0.7, 0.7))
    assert not choice(found, validated).is_fair(seed)
    assert ids(choice(found, validated).winners) == [3]


@pytest.mark.parametrize("is_taught", [True, False])
def test_so_is_what_follows_a_seed_that_was_taught_in_an_earlier_search(is_taught):
    first, seed, other = trial(1, 0.5, 0.5), trial(2, 0.9, 0.9), trial(3, 0.6, 0.6)
    seeds = [
        replace(
            one,
            candidate=replace(one.candidate, origin=Origin(OriginKind.SEED, "x", is_taught=taught)),
        )
        for one, taught in ((first, False), (seed, is_taught), (other, False))
    ]
    after = trial(4, 0.8, 0.8, origin="optimizer, cma_es")
    judged = choice(leaderboard("weighted_sum", BASES[0], *seeds, after), {})
    assert [judged.leaderboard.is_learned(one) for one in seeds] == [False, is_taught, False]
    # No seed's search score says what others' do; that of the search's own only if it learned none.
    assert [judged.is_fair(one) for one in seeds] == [False] * 3
    assert judged.is_fair(after) != is_taught
    assert judged.is_fair(BASES[0])


def test_a_broken_baseline_does_not_move_what_was_taught():
    broken = trial(2, 1e11, 0.1, origin="model c")
    found = leaderboard("weighted_sum", *BASES, broken, trial(3, 0.9, 0.9, origin=EPOCH))
    validated = {0: (0.4, 0.5), 1: (0.1, 0.3), 2: (1.0, 0.0), 3: (0.55, 0.55)}
    expected = 0.55 + 2 / 3 * (0.1 + 0.1) / 2  # medians
    assert choice(found, validated).loss(found.trials[3]) == pytest.approx(-expected)


def test_without_baselines_on_both_splits_validation_alone_judges_all():
    found = leaderboard("weighted_sum", trial(0, 0.7, 0.7), trial(1, 0.8, 0.8, origin=EPOCH))
    alone = choice(found, {0: (0.5, 0.5), 1: (0.6, 0.6)})
    assert not alone.is_pooled
    assert ids(alone.winners) == [1]


def epochs(first, n):
    return [trial(first + i, 0.9 + 0.001 * i, 0.9, origin=EPOCH) for i in range(n)]


def test_taught_merges_leave_places_for_those_that_honestly_scored_less():
    honest = [trial(2 + i, 0.7 - 0.01 * i, 0.7) for i in range(6)]
    found = leaderboard("weighted_sum", *BASES, *honest, *epochs(8, 9))
    assert ids(finalists(found)) == [16, 15, 2, 3, 4, 5, 6]
    alike = Comparison(0.01, 1.0, 100, 50)
    asked = []

    def compare(best, other):
        asked.append((best.candidate.trial_id, other.candidate.trial_id))
        return alike

    assert ids(finalists(found, 5, compare)) == [16, 15, 2, 3, 4, 5, 6, 7, 0, 1]
    assert {best for best, _ in asked} == {2}  # no taught one is the measure of the honest ones
    for count, n_taught in [(1, 1), (2, 2), (3, 2), (8, 4)]:
        seen = finalists(found, count, compare)
        assert len(seen) <= 2 * count
        assert sum(one.candidate.origin.is_taught for one in seen) == n_taught


def test_where_no_others_were_proposed_taught_merges_have_the_places():
    found = leaderboard("weighted_sum", *BASES, *epochs(2, 9))
    assert ids(finalists(found)) == [10, 9, 8, 7, 6, 0, 1]


def test_without_validation_the_best_search_score_wins_whoever_has_it():
    found = leaderboard("weighted_sum", *BASES, trial(2, 0.7, 0.7), *epochs(3, 4))
    assert ids(FinalChoice(found).winners) == [6]
    assert ids(leaders(FinalChoice(found).candidates, 3, None)) == [6, 5, 4]


# Which baselines stand beside

BESIDE = (
    "model a",
    "model b",
    "base c",
    "uniform average",
    "task arithmetic 0.3",
    "ties",
    "seed 1",
)


def beside(name):
    scores = [0.1, 0.2, 0.0, 0.3, 0.5, 0.6, 0.2]
    pairs = enumerate(zip(BESIDE, scores, strict=True))
    return leaderboard(name, *(trial(i, s, 1 - s, origin=o) for i, (o, s) in pairs))


def test_of_the_fixed_recipes_the_best_alone_is_looked_at_after_the_search():
    found = leaderboard("worst", *beside("worst").trials, trial(7, 0.9, 0.9))
    assert ids(FinalChoice(found).beside) == [0, 1, 2, 3, 4, 6]  # worst of (.5, .5), of (.6, .4)


def test_once_validation_has_seen_them_all_documents_choose_among_the_fixed_recipes():
    found = beside("worst")
    assert ids(choice(found, {4: (0.1, 0.1), 5: (0.4, 0.4)}).beside) == [0, 1, 2, 3, 5, 6]
    assert ids(choice(found, {4: (0.3, 0.3), 5: (0.4, 0.4)}).beside) == [0, 1, 2, 3, 4, 6]
    assert ids(choice(found, {4: (0.1, 0.1)}).beside) == [0, 1, 2, 3, 4, 6]


def test_each_objective_may_have_another_best_recipe():
    assert ids(FinalChoice(beside("per_task")).beside) == [*range(7)]
