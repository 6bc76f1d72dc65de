"""What a chain hands from one optimizer to the next, with links that write down what they hear."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from evomerge.foundations.errors import RunError
from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.origin import proposed
from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.chain import Chain, Link
from evomerge.optimizers.search_context import InMemory, SearchContext
from tests.optimizers.labels import labels_of

SPACE = Space((Real("weight", 0.0, 2.0), Real("density", 0.0, 1.0)))


class Scribe(Optimizer):
    """Proposes the same value again and again, and remembers all it is told."""

    multi_objective: ClassVar[bool] = True
    value = 0.5
    ends_after = 1000
    is_meant = True  # a point of the space means what it has scored

    def _start(self):
        self.heard, self.n_asked = [], 0

    @property
    def is_finished(self):
        return self.n_asked >= self.ends_after

    @property
    def activity(self):
        return f"thinking of {self.value}"

    def recipe_config(self, row):
        return None if self.is_meant else {"row": row, "value": self.value}

    def _ask(self):
        self.n_asked += 1
        self.origins = tuple(proposed(f"row {row}") for row in range(self.population_size))
        return np.full((self.population_size, self.space.n_dims), self.value)

    def _hear(self, how, genotypes, losses):
        self.heard.append((how, genotypes.tolist(), losses.tolist()))

    def _see(self, evaluations):
        self.heard.append(("see", list(evaluations)))

    def _learn(self, genotypes, losses):
        self._hear("learn", genotypes, losses)

    def _tell(self, genotypes, losses):
        self._hear("tell", genotypes, losses)


class Reader(Scribe):
    needs_documents = True


class Refuses(Scribe):
    def _ask(self):
        raise RunError("nothing teaches here")


class Workshop:
    """Builds chains of scribes, and keeps the links in the order they were begun."""

    def __init__(self):
        self.begun = []

    def link(
        self,
        value,
        budget,
        size=1,
        ends_after=1000,
        kind=Scribe,
        n_objectives=1,
        is_meant=True,
    ):
        members = {"value": value, "ends_after": ends_after, "is_meant": is_meant}
        one = type("One", (kind,), members)

        def make(space, context):
            self.begun.append(
                one(
                    space,
                    seed=0,
                    population_size=size,
                    n_objectives=n_objectives,
                    context=context,
                )
            )
            return self.begun[-1]

        return Link(f"scribe-{value}", one, make, budget)

    def chain(self, *links, **arguments):
        return Chain(links, SPACE, seed=0, **arguments)


@pytest.fixture
def workshop():
    return Workshop()


def step(chain, loss=1.0):
    asked = chain.ask()
    chain.tell(asked, np.full(len(asked), loss))
    return asked


def test_each_link_proposes_as_many_trials_as_its_budget_and_the_last_goes_on(workshop):
    chain = workshop.chain(workshop.link(0.1, 2), workshop.link(0.2, 3), workshop.link(0.3, 1))
    asked = [float(step(chain)[0, 0]) for _ in range(8)]
    assert asked == [0.1] * 2 + [0.2] * 3 + [0.3] * 3


def test_labels_name_the_link(workshop):
    chain = workshop.chain(workshop.link(0.1, 2, size=2), workshop.link(0.2, 2))
    step(chain)
    assert labels_of(chain) == ("scribe-0.1, row 0", "scribe-0.1, row 1")
    step(chain)
    assert labels_of(chain) == ("scribe-0.2, row 0",)


def test_a_generation_is_cut_at_the_budget_and_only_the_next_link_hears_of_it(workshop):
    chain = workshop.chain(workshop.link(0.1, 3, size=2), workshop.link(0.2, 3))
    assert [len(step(chain, loss)) for loss in (5.0, 4.0)] == [2, 1]
    first, second = workshop.begun
    whole, cut = [[0.1, 0.1]] * 2, [[0.1, 0.1]]
    assert first.heard == [("tell", whole, [5.0, 5.0])]
    assert second.heard == [("learn", whole, [5.0, 5.0]), ("learn", cut, [4.0])]


def test_the_last_generation_is_not_cut(workshop):
    chain = workshop.chain(workshop.link(0.1, 1), workshop.link(0.2, 1, size=3))
    assert [len(step(chain)) for _ in range(2)] == [1, 3]
    assert chain.population_size == 3


def test_a_link_starts_at_the_best_trial_so_far(workshop):
    chain = workshop.chain(workshop.link(0.25, 2), workshop.link(0.5, 1))
    chain.tell(np.array([[0.75, 0.125], [0.5, 0.5]]), np.array([0.5, 0.75]))
    step(chain, loss=0.625)
    step(chain, loss=0.625)
    np.testing.assert_allclose(workshop.begun[0].space.initial, [0.75, 0.125])
    np.testing.assert_allclose(workshop.begun[1].space.initial, [0.75, 0.125])


def test_of_several_losses_the_sum_decides(workshop):
    links = [workshop.link(value, 1, n_objectives=2) for value in (0.25, 0.5)]
    chain = workshop.chain(*links, n_objectives=2)
    chain.tell(np.array([[0.75, 0.75], [0.5, 0.5]]), np.array([[0.0, 9.0], [1.0, 1.0]]))
    chain.tell(chain.ask(), np.array([[np.inf, 0.0]]))
    np.testing.assert_allclose(workshop.begun[1].space.initial, [0.5, 0.5])


def test_where_all_trials_failed_a_link_starts_where_the_search_does(workshop):
    chain = workshop.chain(workshop.link(0.25, 1), workshop.link(0.5, 1))
    step(chain, loss=np.inf)
    np.testing.assert_allclose(workshop.begun[1].space.initial, SPACE.initial)
    assert workshop.begun[1].heard == [("learn", [[0.25, 0.25]], [np.inf])]


def test_trials_a_link_leaves_go_to_the_next(workshop):
    chain = workshop.chain(
        workshop.link(0.1, 5, ends_after=2), workshop.link(0.2, 3), workshop.link(0.3, 1)
    )
    asked = [float(step(chain)[0, 0]) for _ in range(10)]
    assert asked == [0.1] * 2 + [0.2] * 6 + [0.3] * 2
    assert [link.context.budget for link in workshop.begun] == [5, 6, 1]


def test_links_with_nothing_to_ask_are_passed_over(workshop):
    chain = workshop.chain(
        workshop.link(0.1, 2, ends_after=0),
        workshop.link(0.2, 2, ends_after=0),
        workshop.link(0.3, 2),
    )
    assert float(step(chain)[0, 0]) == 0.3


def test_after_a_link_that_proposed_nothing_the_next_begins_as_a_first_one_does(workshop):
    first = replace(workshop.link(0.1, 2, kind=Refuses), is_optional=True)
    chain = workshop.chain(first, workshop.link(0.2, 1))
    chain.tell(np.array([[0.75, 0.125]]), np.array([0.5]))
    assert float(step(chain)[0, 0]) == 0.2
    assert not workshop.begun[1].context.begins_at_best


def test_it_is_finished_when_its_last_link_is(workshop):
    chain = workshop.chain(workshop.link(0.1, 1, ends_after=1), workshop.link(0.2, 1, ends_after=2))
    finished = [chain.is_finished]
    for _ in range(3):
        step(chain)
        finished.append(chain.is_finished)
    assert finished == [False, False, False, True]


def test_activity_and_recipes_are_those_of_the_link_whose_turn_it_is(workshop):
    ahead = type("Ahead", (Scribe,), {"asks_ahead": True})
    chain = workshop.chain(workshop.link(0.1, 1, is_meant=False), workshop.link(0.2, 1, kind=ahead))
    assert (chain.activity, chain.asks_ahead) == ("thinking of 0.1", False)
    chain.ask()
    assert chain.recipe_config(0) == {"row": 0, "value": 0.1}
    chain.tell(np.full((1, 2), 0.1), np.zeros(1))
    assert float(step(chain)[0, 0]) == 0.1  # the place where the next one begins
    assert (chain.activity, chain.asks_ahead) == ("thinking of 0.2", True)
    assert workshop.chain(workshop.link(0.1, 1, kind=ahead)).asks_ahead


KNOWN = Evaluation(())
BEFORE = [("see", [KNOWN]), ("learn", [[0.9, 0.9]], [5.0]), ("learn", [[0.1, 0.1]], [3.0])]


@pytest.fixture
def looking(workshop):
    """A chain whose second link was best by recipes that no point means; the third is to begin."""
    links = (
        workshop.link(0.1, 1),
        workshop.link(0.3, 2, size=2, is_meant=False),
        workshop.link(0.5, 2),
    )
    chain = workshop.chain(*links, workshop.link(0.7, 1))
    chain.tell(np.array([[0.9, 0.9]]), np.array([5.0]), [KNOWN])
    step(chain, loss=3.0)
    step(chain, loss=1.0)
    assert workshop.begun[1].heard == [*BEFORE, ("tell", [[0.3, 0.3]] * 2, [1.0, 1.0])]
    return chain


def test_the_point_nearest_to_what_none_means_is_tried_before_the_next_link_begins(looking):
    assert (looking.is_finished, looking.is_waiting, looking.activity) == (False, False, "")
    assert looking.ask().tolist() == [[0.3, 0.3]]
    assert labels_of(looking) == ("scribe-0.5, start",)
    assert looking.recipe_config(0) is None


@pytest.mark.parametrize(
    ("loss", "begun"), [(2.0, [0.3, 0.3]), (4.0, [0.1, 0.1]), (np.inf, [0.1, 0.1])]
)
def test_a_link_begins_at_the_best_of_what_was_scored_as_a_point(workshop, looking, loss, begun):
    step(looking, loss)
    third = workshop.begun[2]
    np.testing.assert_allclose(third.space.initial, begun)
    assert third.context.begins_at_best
    assert third.heard == [*BEFORE, ("learn", [[0.3, 0.3]], [loss])]


def test_such_a_look_is_none_of_the_trials_of_the_link(workshop, looking):
    assert [float(step(looking, 2.0)[0, 0]) for _ in range(4)] == [0.3, 0.5, 0.5, 0.7]
    assert [link.context.budget for link in workshop.begun] == [1, 2, 2, 1]


def test_what_is_told_while_a_look_is_to_come_is_told_the_link_when_it_begins(workshop, looking):
    looking.tell(np.array([[0.6, 0.6]]), np.array([0.5]))
    step(looking, 2.0)
    np.testing.assert_allclose(workshop.begun[2].space.initial, [0.6, 0.6])
    assert workshop.begun[2].heard[3:] == [
        ("learn", [[0.6, 0.6]], [0.5]),
        ("learn", [[0.3, 0.3]], [2.0]),
    ]


def test_a_point_that_was_scored_is_not_tried_again(workshop):
    links = workshop.link(0.3, 1, is_meant=False), workshop.link(0.5, 1)
    chain = workshop.chain(*links)
    chain.tell(np.array([[0.9, 0.9], [0.3, 0.3]]), np.array([5.0, 6.0]))
    step(chain, loss=1.0)
    assert chain.ask().tolist() == [[0.5, 0.5]]
    np.testing.assert_allclose(workshop.begun[1].space.initial, [0.9, 0.9])


def test_a_link_that_first_tries_its_own_start_has_its_whole_budget_after_that(workshop):
    class Starter(Scribe):
        @property
        def is_at_start(self):
            return self.n_asked == 1

    links = workshop.link(0.1, 2, kind=Starter), workshop.link(0.2, 1)
    chain = workshop.chain(*links)
    assert [float(step(chain)[0, 0]) for _ in range(4)] == [0.1, 0.1, 0.1, 0.2]


def test_later_links_see_what_earlier_trials_were_made_from(workshop):
    links = workshop.link(0.1, 1), workshop.link(0.2, 1, kind=Reader)
    chain = workshop.chain(*links)
    assert chain.needs_documents
    evaluation = Evaluation(())
    chain.tell(np.full((1, 2), 0.9), np.ones(1), [None])
    chain.tell(chain.ask(), np.zeros(1), [evaluation])
    assert workshop.begun[1].heard == [
        ("see", [None]),
        ("learn", [[0.9, 0.9]], [1.0]),
        ("see", [evaluation]),
        ("learn", [[0.1, 0.1]], [0.0]),
    ]


def test_links_keep_their_things_apart(workshop):
    artifacts = InMemory()
    chain = workshop.chain(
        workshop.link(0.1, 1), workshop.link(0.1, 1), context=SearchContext(artifacts=artifacts)
    )
    workshop.begun[0].context.artifacts.keep("state", b"first")
    step(chain)
    assert workshop.begun[1].context.artifacts.recall("state") is None
    assert workshop.begun[0].context.artifacts.recall("state") == b"first"
    assert artifacts.kept == {"0-scribe-0.1/state": b"first"}


def real_chain(seed=0):
    def link(name, budget):
        def make(space, context):
            return OPTIMIZERS[name](space, seed=seed, context=context)

        return Link(name, OPTIMIZERS[name], make, budget)

    return Chain([link("random", 5), link("cma_es", 20), link("niches", 5)], SPACE, seed=seed)


def sphere(genotypes):
    return ((genotypes - 0.3) ** 2).sum(axis=1)


@pytest.mark.parametrize("stop", [3, 5, 9, 14])
def test_a_chain_that_is_replayed_goes_on_as_if_it_had_never_stopped(stop):
    whole, history = real_chain(), []
    for _ in range(16):
        asked = whole.ask()
        history.append((asked, labels_of(whole)))
        whole.tell(asked, sphere(asked))
    again = real_chain()
    for asked, _ in history[:stop]:
        np.testing.assert_array_equal(again.ask(), asked)
        again.tell(asked, sphere(asked))
    for asked, labels in history[stop:]:
        np.testing.assert_array_equal(again.ask(), asked)
        assert labels_of(again) == labels
        again.tell(asked, sphere(asked))
    names = [label.partition(", ")[0] for _, labels in history for label in labels]
    assert list(dict.fromkeys(names)) == ["random", "cma_es", "niches"]


def test_cma_es_looks_nearby_where_a_link_before_it_found_the_place() -> None:
    def spread(context: SearchContext) -> float:
        optimizer = OPTIMIZERS["cma_es"](SPACE, seed=0, population_size=40, context=context)
        return float(optimizer.ask().std(axis=0).mean())

    assert spread(SearchContext(begins_at_best=True)) < spread(SearchContext()) / 2
