"""The rule that picks optimizers, and the chain it makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from evomerge.foundations.errors import GenomeError, LedgerError
from evomerge.genome.schema import OptimizerBlock
from evomerge.nouns.space import Choice, Integer, Real, Space
from evomerge.optimizers.auto import Auto, Facts, chosen
from evomerge.optimizers.picked import chosen_in, is_auto
from evomerge.optimizers.search_context import InMemory, SearchContext
from evomerge.run.ledger.shape import _Auto
from evomerge.run.ledger.strict_values import checked
from tests.optimizers.labels import labels_of
from tests.optimizers.toy_trainer import ToyTrainer


def reals(n_dims):
    return Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(n_dims)))


MIXED = Space((*reals(2), Integer("start", 0, 6), Choice("method", ("linear", "ties"))))

NONE = "ties has no useful gradient"


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (Facts(reals(6), 60), ["gradient", "gp"]),
        (Facts(reals(6), 20), ["gradient", "gp"]),
        (Facts(reals(6), 19), ["gp"]),
        (Facts(reals(6), 60, no_gradient=NONE), ["gp"]),
        (Facts(reals(64), 60, no_gradient=NONE), ["gp"]),
        (Facts(reals(65), 60, no_gradient=NONE), ["cma_es"]),
        (Facts(reals(65), 60), ["gradient", "cma_es"]),
        (Facts(reals(6), 200, no_gradient=NONE), ["gp"]),
        (Facts(reals(6), 201, no_gradient=NONE), ["cma_es"]),
        (Facts(reals(6), 60, workers=2, no_gradient=NONE), ["cma_es"]),
        (Facts(reals(6), 60, workers=2), ["gradient", "cma_es"]),
        (Facts(MIXED, 60, no_gradient=NONE), ["gp"]),
        (Facts(MIXED, 60, no_gradient=NONE, n_conditional=2), ["nsga2"]),
        (Facts(reals(6), 60, n_objectives=2), ["nsga2"]),
    ],
)
def test_the_rule(facts, names):
    picked = chosen(facts)
    assert [link.name for link in picked.links] == names
    assert sum(link.budget for link in picked.links) == facts.budget
    assert chosen(facts) == picked


def test_the_choice_is_one_line():
    line = str(chosen(Facts(reals(6), 60, no_gradient=NONE)))
    assert line == (
        f"optimizer auto: gp, 60 trials (6 dimensions; no gradient: {NONE}; docs/optimizers.md "
        "has the rule)"
    )
    assert str(chosen(Facts(reals(1), 100))) == (
        "optimizer auto: gradient, a weight a tensor, 6 epochs, then gp, 94 trials (1 dimension; "
        "docs/optimizers.md has the rule)"
    )


def test_a_population_is_that_of_the_search_and_not_of_the_training():
    first, second = chosen(Facts(reals(6), 60, population_size=5)).links
    assert (first.population_size, second.population_size) == (None, 5)


@pytest.mark.parametrize("facts", [Facts(reals(6), 60), Facts(reals(3), 60, population_size=7)])
def test_a_ledger_gives_the_choice_back(facts):
    picked = chosen(facts)
    assert chosen_in({"auto": picked.to_data()}) == picked
    assert chosen_in({}) is None


def test_a_ledger_of_a_stranger_names_nothing_that_the_rule_would_not_pick():
    stray = {"name": "llm", "budget": 5, "base_url": "https://elsewhere"}
    with pytest.raises(ValueError, match=r"links\.0"):
        checked(TypeAdapter(_Auto), {"links": [stray], "reason": "mine"})


def test_what_was_picked_takes_the_place_of_the_word():
    given = OptimizerBlock.model_validate({"budget": 60, "patience": 9})
    assert is_auto(given)
    block = chosen(Facts(reals(6), 60)).block(given)
    assert (block.title, block.patience, block.budget) == ("gradient -> gp", 9, 60)
    assert not is_auto(block)


# The chain

KNOWN = np.full((1, 3), 0.5)


class OfTensors(ToyTrainer):
    """What it learns no point of the space means."""

    def epoch(self, *arguments):
        return replace(super().epoch(*arguments), config={"merge_method": "linear"})


class Refusing(ToyTrainer):
    """Fails from an epoch on, as a trainer does that runs out of memory."""

    error: Exception = GenomeError("no right answer can be read off the search tasks")

    def __init__(self, settings=None, until=0):
        super().__init__(settings)
        self.until = until

    def epoch(self, index, genotype, state, seed, pace=1.0):
        if index >= self.until:
            raise self.error
        return super().epoch(index, genotype, state, seed, pace)


def sphere(genotypes):
    return ((genotypes - 0.3) ** 2).sum(axis=1)


def run(optimizer, n_trials):
    """Asks and tells, after a first trial; all that was asked, and the label of each."""
    asked, labels = [], []
    optimizer.tell(KNOWN, sphere(KNOWN))
    for _ in range(n_trials):
        genotypes = optimizer.ask()
        labels += labels_of(optimizer)
        optimizer.tell(genotypes, sphere(genotypes))
        asked.append(genotypes)
    return np.vstack(asked), labels


def auto(trainer, artifacts=None, **context):
    context = SearchContext(
        trainer=lambda settings: trainer,
        artifacts=artifacts or InMemory(),
        budget=60,
        **context,
    )
    return Auto(reals(3), seed=1, context=context)


def test_it_trains_first_and_goes_on_from_the_best():
    _, labels = run(auto(ToyTrainer()), 10)
    assert labels == [*(f"gradient, epoch {n}" for n in range(1, 7)), *["gp"] * 4]


def test_a_start_that_nobody_scored_costs_no_epoch():
    optimizer, labels = auto(ToyTrainer()), []
    for _ in range(8):
        genotypes = optimizer.ask()
        labels += labels_of(optimizer)
        optimizer.tell(genotypes, sphere(genotypes))
    assert labels == ["gradient, start", *(f"gradient, epoch {n}" for n in range(1, 7)), "gp"]


def test_after_tensors_the_search_begins_at_a_point_that_was_scored():
    optimizer = auto(OfTensors())
    asked, labels = run(optimizer, 8)
    assert labels[5:] == ["gradient, epoch 6", "gp, start", "gp"]
    assert asked[6].tolist() == asked[5].tolist()
    assert optimizer._current.space.initial.tolist() == asked[6].tolist()


def test_without_anybody_to_train_it_searches_at_once():
    assert set(run(Auto(reals(3), seed=1), 4)[1]) == {"gp"}


@pytest.mark.slow
def test_training_and_search_go_on_as_if_never_stopped():
    whole, _ = run(auto(ToyTrainer()), 12)
    for stop in (2, 6, 9):
        artifacts, again = InMemory(), ToyTrainer()
        run(auto(ToyTrainer(), artifacts), stop)
        assert run(auto(again, artifacts), 12)[0].tobytes() == whole.tobytes()
        assert again.epochs == list(range(stop, 6))  # no epoch is paid for twice


@pytest.mark.slow
@pytest.mark.parametrize("until", [0, 2])
def test_where_training_cannot_go_on_the_search_does(until):
    told, artifacts = [], InMemory()
    whole, labels = run(auto(Refusing(until=until), artifacts, notify=told.append), 9)
    epochs = [f"gradient, epoch {n}" for n in range(1, until + 1)]
    assert labels == [*epochs, *["gp"] * (9 - until)]
    assert told == [
        "gradient cannot go on, gp takes its place: no right answer can be read off the search "
        "tasks."
    ]
    # Nor does it in a run that goes on where there is more memory.
    assert run(auto(ToyTrainer(), artifacts), 9)[0].tobytes() == whole.tobytes()


class Workplace:
    """Somebody to train, whose place is taken and given back as that of a worker is."""

    def __init__(self, trainer):
        self.trainer, self.said = trainer, []

    def __call__(self, settings):
        if self.said[-1:] != ["lent"]:
            self.said.append("lent")
        return self.trainer

    def end(self):
        if self.said[-1:] == ["lent"]:
            self.said.append("back")


@pytest.mark.parametrize(
    ("trainer", "n_told"), [(Refusing(until=0), 0), (Refusing(until=2), 2), (ToyTrainer(), 5)]
)
def test_whoever_leaves_the_training_gives_its_place_back(trainer, n_told):
    place = Workplace(trainer)
    context = SearchContext(trainer=place, end_training=place.end, budget=60)
    optimizer = Auto(reals(3), seed=1, context=context)
    optimizer.tell(KNOWN, sphere(KNOWN))
    for _ in range(n_told):
        genotypes = optimizer.ask()
        optimizer.tell(genotypes, sphere(genotypes))
    assert place.said == ["lent"] * (n_told > 0)
    optimizer.ask()
    assert place.said == ["lent", "back"]


def test_a_broken_run_folder_is_no_reason_to_go_on():
    trainer = Refusing()
    trainer.error = LedgerError("broken")
    with pytest.raises(LedgerError, match="broken"):
        run(auto(trainer), 1)


def test_a_search_that_nothing_was_proposed_before_takes_its_usual_steps():
    trained, alone = auto(Refusing()), Auto(reals(3), seed=1)
    for optimizer in (trained, alone):
        optimizer.tell(KNOWN, sphere(KNOWN))
    trained.ask()
    assert not trained._current.context.begins_at_best
    alone.ask()
    assert trained._current.space.initial.tolist() == alone._current.space.initial.tolist()
