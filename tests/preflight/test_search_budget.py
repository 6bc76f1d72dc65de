"""Searches that cannot succeed: dimensions against the budget, parameters that do nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evomerge.checks import search_size as search
from evomerge.checks.context import CheckContext
from evomerge.checks.optimizer_notes import untold_losses
from evomerge.compiler.make_optimizer import choice_of, chosen_optimizer, optimizer_for
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from evomerge.models.facts import ModelFacts
from tests.contract.merge_space_cases import LLAMA

DEEP = replace(LLAMA, n_layers=32)


def context(definition="", rest=""):
    text = (
        "genome: {models: [a, b, c], base_model: z, merge_method: task_arithmetic"
        f"{definition and ', '}{definition}}}\ntasks: [x]\n{rest}"
    )
    source = parse_yaml(text, "g.yml")
    genome = validate_genome(source)
    space = merge_space_for(genome.genome)(genome.genome, DEEP, "bfloat16")
    optimizer = optimizer_for(chosen_optimizer(genome, source), genome, space.space)
    return CheckContext(genome, merge_space=space, optimizer=optimizer)


def sentences(rule, *arguments):
    return [str(finding) for finding in rule(context(*arguments))]


@pytest.mark.parametrize(
    ("chain", "n_notes"),
    [
        ("[{name: gradient, granularity: column}, cma_es]", 1),
        ("[{name: gradient, granularity: tensor}, cma_es]", 1),
        ("[gradient, cma_es]", 0),
        ("[cma_es, {name: gradient, granularity: column}]", 0),
    ],
)
def test_scores_that_the_next_link_is_not_told_are_noted(chain, n_notes):
    found = sentences(untold_losses, "", f"optimizer: {{chain: {chain}, budget: 9}}")
    assert len(found) == n_notes
    for sentence in found:
        assert sentence.startswith("optimizer.chain[0].granularity: what it learns per ")
        assert "is not told its scores" in sentence


COARSER = {
    "granularity: layer": "Set granularity: layers and layer_granularity: 16",
    "granularity: layers, layer_granularity: 2": "Set layer_granularity: 16",
    "layer_granularity: 1": "Set layer_granularity: 8",
    "granularity: tensor": "Set granularity: layers and layer_granularity: 16",
    "layer_granularity: 2, filters: [self_attn, mlp]": (
        "Set granularity: model and drop layer_granularity and filters"
    ),
}


@pytest.mark.parametrize("definition", sorted(COARSER))
def test_a_space_too_wide_for_the_budget_is_told_with_a_coarser_one(definition):
    (found,) = sentences(search.budget, definition, "optimizer: {name: cma_es, budget: 50}")
    dims = context(definition).merge_space.space.n_dims
    assert found.startswith(f"optimizer.budget: 50 trials for {dims} parameters, ")
    assert f"{COARSER[definition]}, or raise budget to {3 * dims} or more." in found


@pytest.mark.parametrize("definition", sorted(COARSER))
def test_the_coarser_granularity_that_is_advised_is_enough(definition):
    advised = COARSER[definition].removeprefix("Set ").partition(" and drop")[0]
    advised = advised.replace(" and ", ", ")
    assert not sentences(search.budget, advised, "optimizer: {budget: 50}")


def test_where_no_granularity_is_coarse_enough_the_budget_is_all_that_is_advised():
    (found,) = sentences(search.budget, "granularity: layer", "optimizer: {budget: 8}")
    assert found.endswith("will hardly leave where it starts. Raise budget to 315 or more.")


def test_a_population_that_takes_the_whole_budget_is_told():
    (found,) = sentences(search.budget, "", "optimizer: {budget: 20, population_size: 20}")
    assert "20 trials for 3 parameters, 1 generation of 20, are few" in found
    assert found.endswith("Raise budget to 100 or more.")


@pytest.mark.parametrize("optimizer", ["{budget: 60}", "{name: random, budget: 2}"])
def test_a_budget_that_will_do_is_no_finding(optimizer):
    assert not sentences(search.budget, "", f"optimizer: {optimizer}")


def test_one_generation_is_told_however_few_the_parameters():
    (found,) = sentences(search.budget, "", "optimizer: {budget: 40, population_size: 60}")
    assert "40 trials for 3 parameters, 1 generation of 60, are few" in found


def test_a_patience_shorter_than_a_generation_is_told():
    block = "optimizer: {population_size: 20, patience: 5}"
    assert sentences(search.patience, "", block) == [
        "optimizer.patience: patience 5 is less than a generation of 20: the search may end "
        "before anything is learned. Make it 40 or more, or leave it out."
    ]


def test_workers_that_wait_are_told():
    swarm = "optimizer: {name: swarm, population_size: 4}\nexecution: {workers: 9}"
    assert sentences(search.idle_workers, "", swarm) == [
        "execution.workers: 9 workers share generations of 4 trials; 5 of them wait. "
        "Use 4 workers, or population_size: 9."
    ]
    for name in ("tpe", "cma_es"):
        assert sentences(search.idle_workers, "", swarm.replace("swarm", name)) == []
    epochs = "optimizer: {name: gradient, epochs: 3}\nexecution: {workers: 4}"
    assert sentences(search.idle_workers, "", epochs) == [
        "execution.workers: 4 workers share 3 trials at once; 1 of them waits. Use 3 workers."
    ]
    assert sentences(search.idle_workers, "", epochs.replace("4", "3")) == []
    (alone,) = sentences(search.idle_workers, "", epochs.replace("3", "1"))
    assert alone.endswith("4 workers share 1 trial at once; 3 of them wait. Use 1 worker.")


@pytest.mark.parametrize(
    ("block", "size"),
    [
        ("tpe", 1),
        ("random", 1),
        ("{name: tpe, population_size: 2}", 2),
        ("cma_es", 30),
        ("swarm", 30),
        ("{chain: [{name: tpe, budget: 9}, niches], budget: 99}", 30),
    ],
)
def test_who_has_no_generations_is_asked_for_every_worker_by_itself(block, size):
    one = context("", f"optimizer: {block}\nexecution: {{workers: 30}}")
    assert one.optimizer.population_size == size


@pytest.mark.parametrize(("block", "size"), [("tpe", 3), ("{name: tpe, population_size: 2}", 2)])
def test_a_run_that_was_begun_with_trials_asked_at_once_goes_on_so(block, size):
    genome = context("", f"optimizer: {block}\nexecution: {{workers: 3}}").genome
    space = merge_space_for(genome.genome)(genome.genome, DEEP, "bfloat16").space
    optimizer = optimizer_for(choice_of(genome), genome, space, asked_at_once=3)
    assert optimizer.population_size == size


@pytest.mark.parametrize(("workers", "at_once", "size"), [(1, 7, 7), (9, 1, 9), (9, 9, 9)])
def test_a_generation_is_as_large_as_when_the_run_began(workers, at_once, size):
    """Of one worker it is told at once, of several trial by trial."""
    genome = context("", f"optimizer: cma_es\nexecution: {{workers: {workers}}}").genome
    space = merge_space_for(genome.genome)(genome.genome, DEEP, "bfloat16").space
    optimizer = optimizer_for(choice_of(genome), genome, space, asked_at_once=at_once)
    assert optimizer.population_size == size


def test_a_patience_that_never_ends_the_search_is_told():
    found = sentences(search.patience, "", "optimizer: {budget: 20, patience: 20}")
    assert found[0].startswith("optimizer.patience: patience 20 never ends a search of 20 trials")


@pytest.mark.parametrize(
    ("unseen", "named"), [("", ""), ("b", "b"), ("abz", "a, b, z"), ("abcz", "a, b, c, ...")]
)
def test_models_that_nobody_could_look_into_are_told(unseen, named):
    models = [ModelFacts(name=n, folder=None if n in unseen else Path(n)) for n in "abcz"]
    found = [str(one) for one in search.uncompared(replace(context(), models=models))]
    assert len(found) == bool(unseen)
    for sentence in found:
        assert sentence.startswith(
            f"genome.models: tensors of {named} were not compared with those of other models: "
        )


def test_adapters_of_which_factors_are_summed_are_not_compared_anyway():
    text = "genome: {models: [z+a, z+b], adapters: factors, merge_method: linear}\ntasks: [x]\n"
    genome = validate_genome(parse_yaml(text, "g.yml"))
    assert not [*search.uncompared(CheckContext(genome, models=[ModelFacts(name="z+a")]))]


def test_a_parameter_that_changes_nothing_is_told():
    narrow = "parameters: {weight: {range: [0.5, 0.500000001]}}"
    (found,) = sentences(search.idle_parameters, narrow)
    assert found.startswith("genome.parameters.weight: weight[a] changes nothing")
    assert not sentences(search.idle_parameters)


def test_what_learns_from_texts_is_not_told_to_take_more_trials():
    few = "granularity: tensor", "optimizer: {name: gradient, budget: 3, epochs: 3}"
    assert sentences(search.budget, *few) == []
    chain = "optimizer: {chain: [{name: gradient, budget: 2}, cma_es], budget: 9}"
    assert len(sentences(search.budget, few[0], chain)) == 1
