"""What a check says of how a swarm moves in the space at hand."""

from __future__ import annotations

import pytest

from evomerge.checks.context import CheckContext
from evomerge.checks.optimizer_notes import in_this_space
from evomerge.checks.rules import RULES
from evomerge.foundations.findings import Severity
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from tests.contract.merge_space_cases import LLAMA

LAYERS = "merge_method: task_arithmetic, layer_granularity: 2, base_model: z"


SUMS, SHARES = "stays among the sums", "searched as shares"


def found_by(what, optimizer, definition=LAYERS, *, is_wide=False):
    text = f"genome: {{models: [a, b, c], {definition}}}\ntasks: [x]\noptimizer: {optimizer}\n"
    genome = validate_genome(parse_yaml(text, "g.yml"))
    space = merge_space_for(genome.genome)(genome.genome, LLAMA, "bfloat16")
    space = space.beyond_models() if is_wide else space
    findings = list(in_this_space(CheckContext(genome, merge_space=space)))
    assert all(finding.severity is Severity.NOTE for finding in findings)
    return [said for said in map(str, findings) if what in said]


def test_one_draw_for_all_places_is_told_to_leave_most_of_the_space_alone():
    assert in_this_space in RULES
    (found,) = found_by(SUMS, "{name: swarm, draws: model}")
    assert found.startswith("optimizer.draws: the swarm stays among the sums of its first")
    assert "parameters it varies a few combinations, however large the budget" in found
    (found,) = found_by(SUMS, "{islands: [tpe, {name: swarm, draws: model}]}")
    assert found.startswith("optimizer.islands[1].draws: ")


def test_where_the_box_reaches_beyond_the_models_one_draw_is_the_default():
    (found,) = found_by(SUMS, "swarm", is_wide=True)
    assert found.startswith("optimizer.draws: the swarm stays among the sums of its first")
    assert found.endswith("draws: place draws for each place of the model by itself.")
    assert not found_by(SUMS, "{name: swarm, draws: place}", is_wide=True)
    assert not found_by(SHARES, "swarm", "merge_method: linear", is_wide=True)


@pytest.mark.parametrize("optimizer", ["swarm", "{name: swarm, draws: coordinate}", "tpe"])
def test_finer_draws_and_other_optimizers_are_no_finding(optimizer):
    assert not found_by(SUMS, optimizer)


def test_one_draw_for_one_place_is_the_papers_own():
    model = "merge_method: task_arithmetic, granularity: model, base_model: z"
    assert not found_by(SUMS, "{name: swarm, draws: model}", model)


def test_shares_are_told_to_be_no_weights():
    linear = "merge_method: linear"
    (found,) = found_by(SHARES, "swarm", linear)
    assert found.startswith("optimizer: weights >= 0 that sum to 1 are searched as shares")
    assert found.endswith("genome.allow_negative_weights: true moves in the weights themselves.")
    (found,) = found_by(SHARES, "{chain: [gradient, swarm]}", linear)
    assert found.startswith("optimizer.chain[1]: ")


@pytest.mark.parametrize(
    ("optimizer", "definition"),
    [
        ("swarm", "merge_method: linear, allow_negative_weights: true"),
        ("swarm", LAYERS),
        ("cma_es", "merge_method: linear"),
    ],
)
def test_where_weights_are_coordinates_there_is_nothing_to_tell(optimizer, definition):
    assert not found_by(SHARES, optimizer, definition)
