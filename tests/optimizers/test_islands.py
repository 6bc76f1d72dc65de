"""Islands: whose turn it is, who hears of whose best and when, and that runs can be replayed."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.compiler.make_optimizer import chosen_optimizer, deaf_islands, oddities, optimizer_for
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.chain import Link
from evomerge.optimizers.islands import Islands
from evomerge.optimizers.search_context import InMemory, SearchContext
from tests.contract.merge_space_cases import LLAMA
from tests.optimizers.labels import labels_of
from tests.optimizers.test_chain import SPACE, Scribe, sphere


class Open(Scribe):
    """A scribe that learns in mid-run."""

    takes_migrants = True


class Workshop:
    """Builds islands of scribes, and keeps them in their order."""

    def __init__(self):
        self.built = []

    def link(
        self,
        value,
        budget=10,
        size=1,
        kind=Open,
        ends_after=1000,
        n_objectives=1,
        is_meant=True,
    ):
        members = {"value": value, "ends_after": ends_after, "is_meant": is_meant}
        one = type("One", (kind,), members)

        def make(space, context):
            arguments = {"population_size": size, "n_objectives": n_objectives}
            self.built.append(one(space, seed=0, context=context, **arguments))
            return self.built[-1]

        return Link(f"scribe-{value}", one, make, budget)


@pytest.fixture
def workshop():
    return Workshop()


def islands(*links, every=4, **arguments):
    return Islands(links, SPACE, migrate_every=every, seed=0, **arguments)


def step(one, loss=1.0):
    asked = one.ask()
    one.tell(asked, np.full(len(asked), loss))
    return float(asked[0, 0])


def test_each_spends_the_same_share_of_its_budget(workshop):
    one = islands(workshop.link(0.1, 20, size=2), workshop.link(0.2, 10), workshop.link(0.3, 10))
    assert [step(one) for _ in range(9)] == [0.1, 0.2, 0.3] * 3
    assert [scribe.n_asked for scribe in workshop.built] == [3, 3, 3]


def test_where_one_is_finished_the_others_go_on(workshop):
    one = islands(workshop.link(0.1, ends_after=1), workshop.link(0.2, ends_after=3))
    asked = []
    while not one.is_finished:
        asked.append(step(one))
    assert asked == [0.1, 0.2, 0.2, 0.2]


def test_the_last_generation_of_each_is_cut_to_what_is_left_of_its_budget(workshop):
    links = [workshop.link(value, 5, size=size) for value, size in ((0.1, 3), (0.2, 1), (0.3, 4))]
    one = islands(*links, every=6)
    sizes = {0.1: [], 0.2: [], 0.3: []}
    while sum(map(sum, sizes.values())) < 15:
        asked = one.ask()
        assert len(labels_of(one)) == len(asked)
        sizes[float(asked[0, 0])].append(len(asked))
        one.tell(asked, np.full(len(asked), 1.0))
    assert sizes[0.1] == [3, 2]
    assert sizes[0.2] == [1] * 5
    assert sizes[0.3][0] == 4
    assert sum(sizes[0.3][:-1]) == 4  # the search itself cuts the very last to its budget
    told = [len(heard[1]) for heard in workshop.built[0].heard if heard[0] == "tell"]
    assert told == [3]  # of a cut one it hears nothing, nor of migrants later


def test_what_one_leaves_of_its_budget_the_others_spend(workshop):
    links = (
        workshop.link(0.1, 6, size=2, ends_after=1),
        workshop.link(0.2, 3, size=2),
        workshop.link(0.3, 3, size=2),
    )
    one = islands(*links)
    for _ in range(6):
        step(one)
    assert not one.is_finished
    assert [island.n_asked for island in one._islands] == [2, 6, 4]


def test_what_was_made_before_is_told_to_all(workshop):
    one = islands(workshop.link(0.1), workshop.link(0.2, kind=Scribe))
    one.tell(np.full((1, 2), 0.9), np.array([3.0]))
    assert [scribe.heard for scribe in workshop.built] == [[("learn", [[0.9, 0.9]], [3.0])]] * 2


def test_the_best_of_each_migrates_to_the_others_when_it_is_time_and_once(workshop):
    one = islands(workshop.link(0.1), workshop.link(0.2), workshop.link(0.3, kind=Scribe), every=3)
    for loss in (5.0, 4.0, 3.0):
        step(one, loss)
    own = [[("tell", [[v, v]], [loss])] for v, loss in ((0.1, 5.0), (0.2, 4.0), (0.3, 3.0))]
    first, second, third = (scribe.heard for scribe in workshop.built)
    assert first == [*own[0], ("see", [None, None]), ("learn", [[0.2] * 2, [0.3] * 2], [4.0, 3.0])]
    assert second == [*own[1], ("see", [None, None]), ("learn", [[0.1] * 2, [0.3] * 2], [5.0, 3.0])]
    assert third == own[2]  # it takes none
    for loss in (2.0, 2.0, 2.0):
        step(one, loss)
    heard = [entry for scribe in workshop.built for entry in scribe.heard if entry[0] == "learn"]
    assert len(heard) == 2  # the same genotypes are better now, but known


def test_what_no_point_means_does_not_migrate(workshop):
    one = islands(workshop.link(0.1, is_meant=False), workshop.link(0.2), every=2)
    step(one, 1.0)
    step(one, 2.0)
    first, second = ([entry[0] for entry in scribe.heard] for scribe in workshop.built)
    assert first == ["tell", "see", "learn"]
    assert second == ["tell"]


def test_failed_trials_do_not_migrate(workshop):
    one = islands(workshop.link(0.1), workshop.link(0.2), every=2)
    step(one, np.inf)
    step(one, 1.0)
    assert [entry[0] for entry in workshop.built[0].heard] == ["tell", "see", "learn"]
    assert [entry[0] for entry in workshop.built[1].heard] == ["tell"]


def test_migrants_bring_what_they_were_made_from(workshop):
    one = islands(workshop.link(0.1), workshop.link(0.2), every=2)
    evaluation = Evaluation(())
    for known in (evaluation, None):
        one.tell(one.ask(), np.ones(1), [known])
    assert ("see", [evaluation]) in workshop.built[1].heard


def test_of_several_losses_the_sum_decides(workshop):
    links = [workshop.link(value, n_objectives=2) for value in (0.1, 0.2)]
    one = islands(*links, every=2, n_objectives=2)
    for losses in ([1.0, 5.0], [4.0, 0.0]):
        one.tell(one.ask(), np.array([losses]))
    assert workshop.built[0].heard[-1] == ("learn", [[0.2, 0.2]], [[4.0, 0.0]])


def test_labels_activity_and_recipes_are_those_of_the_island(workshop):
    one = islands(workshop.link(0.1, is_meant=False), workshop.link(0.2))
    assert one.activity == "thinking of 0.1"
    one.ask()
    assert labels_of(one) == ("island 1 scribe-0.1, row 0",)
    assert one.recipe_config(0) == {"row": 0, "value": 0.1}
    one.tell(np.full((1, 2), 0.1), np.zeros(1))
    assert one.activity == "thinking of 0.2"


def test_islands_keep_their_things_apart(workshop):
    artifacts = InMemory()
    islands(workshop.link(0.1), workshop.link(0.1), context=SearchContext(artifacts=artifacts))
    workshop.built[1].context.artifacts.keep("state", b"second")
    assert artifacts.kept == {"1-scribe-0.1/state": b"second"}


# Real ones

GENOME = "genome: {models: [a, b, c], base_model: z, merge_method: task_arithmetic}\ntasks: [x]\n"


def compiled(block, seed=0):
    source = parse_yaml(f"{GENOME}optimizer: {block}\nseed: {seed}\n", "g.yml")
    genome = validate_genome(source)
    space = merge_space_for(genome.genome)(genome.genome, LLAMA, "bfloat16").space
    return chosen_optimizer(genome, source), genome, space


ALL = "{islands: [cma_es, tpe, niches, {name: swarm, population_size: 4}, qmc, nsga2], budget: 90}"


def run(one, n):
    history = []
    for _ in range(n):
        asked = one.ask()
        history.append((asked, labels_of(one)))
        one.tell(asked, sphere(asked))
    return history


@pytest.mark.parametrize("stop", [1, 7, 23])
def test_islands_that_are_replayed_go_on_as_if_they_had_never_stopped(stop):
    whole = run(optimizer_for(*compiled(ALL)), 30)
    again = optimizer_for(*compiled(ALL))
    for asked, _ in whole[:stop]:
        np.testing.assert_array_equal(again.ask(), asked)
        again.tell(asked, sphere(asked))
    for (asked, labels), (expected, names) in zip(run(again, 30 - stop), whole[stop:], strict=True):
        np.testing.assert_array_equal(asked, expected)
        assert labels == names


@pytest.mark.parametrize("budget", [24, 60, 61])
def test_real_islands_spend_their_shares_to_the_trial(budget):
    names = "cma_es, niches, {name: swarm, population_size: 8}"
    one = optimizer_for(*compiled(f"{{islands: [{names}], budget: {budget}}}"))
    labels = []
    while len(labels) < budget:
        asked = one.ask()
        labels += labels_of(one)
        one.tell(asked, sphere(asked))
    spent = [sum(label.startswith(f"island {i} ") for label in labels[:budget]) for i in (1, 2, 3)]
    assert spent == [budget // 3 + (i < budget % 3) for i in range(3)]


def test_each_seed_gives_another_run():
    first, second = (run(optimizer_for(*compiled(ALL, seed)), 6) for seed in (0, 1))
    assert not np.array_equal(first[0][0], second[0][0])


@pytest.mark.parametrize(
    "name", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "niches", "swarm"]
)
def test_who_takes_migrants_asks_other_trials_for_it(name):
    space = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(3)))

    def asked(migrant):
        one = OPTIMIZERS[name](space, seed=0, population_size=4)
        for _ in range(6):
            last = one.ask()
            one.tell(last, sphere(last))
        if migrant:
            one.tell(np.full((1, 3), 0.3), np.zeros(1), [None])
        return one.ask()

    assert OPTIMIZERS[name].takes_migrants
    assert not np.array_equal(asked(migrant=False), asked(migrant=True))


DEAF = sorted(n for n in OPTIMIZERS if n != "auto" and not OPTIMIZERS[n].takes_migrants)


@pytest.mark.parametrize("name", DEAF)
def test_a_check_says_who_takes_no_migrants(name):
    choice, genome, _ = compiled(f"{{islands: [tpe, {name}]}}")
    (found,) = deaf_islands(choice, genome.optimizer)
    assert str(found).startswith(f"optimizer.islands[1]: {name} takes no migrants in mid-run")


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (
            "{islands: [cma_es, random]}",
            "optimizer.islands: none of cma_es, random learns from trials made elsewhere",
        ),
        (
            "{islands: [cma_es, tpe], migrate_every: 100}",
            "optimizer.migrate_every: got 100, the budget is 100: nobody ever migrates",
        ),
        (
            "{islands: [swarm, tpe], budget: 30}",
            "optimizer.islands[0].budget: 15 trials are one generation of swarm (20)",
        ),
    ],
)
def test_islands_that_are_none_are_told(block, sentence):
    (found,) = (str(problem) for problem in oddities(*compiled(block)))
    assert found.startswith(sentence)


def test_islands_of_several_beat_random_search():
    def best(block):
        history = run(optimizer_for(*compiled(block)), 40)
        return min(float(sphere(asked).min()) for asked, _ in history)

    assert best("{islands: [tpe, niches, {name: swarm, population_size: 4}]}") < best("random") / 2
