"""What a check says of how a swarm moves in the space at hand."""

from __future__ import annotations

import pytest

from evomerge.checks import swarm_motion as motion
from evomerge.checks.context import CheckContext
from evomerge.checks.rules import RULES
from evomerge.foundations.findings import Severity
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from tests.contract.merge_space_cases import LLAMA

LAYERS = "merge_method: task_arithmetic, layer_granularity: 2, base_model: z"


def found_by(rule, optimizer, definition=LAYERS, *, is_wide=False):
    text = f"genome: {{models: [a, b, c], {definition}}}\ntasks: [x]\noptimizer: {optimizer}\n"
    genome = validate_genome(parse_yaml(text, "g.yml"))
    space = merge_space_for(genome.genome)(genome.genome, LLAMA, "bfloat16")
    space = space.beyond_models() if is_wide else space
    findings = list(rule(CheckContext(genome, merge_space=space)))
    assert all(finding.severity is Severity.NOTE for finding in findings)
    return [str(finding) for finding in findings]


def test_one_draw_for_all_places_is_told_to_leave_most_of_the_space_alone():
    rule = motion.swarm_in_few_directions
    assert rule in RULES
    (found,) = found_by(rule, "{name: swarm, draws: model}")
    assert found.startswith("optimizer.draws: the swarm stays among the sums of its first")
    assert "parameters it varies a few combinations, however large the budget" in found
    (found,) = found_by(rule, "{islands: [tpe, {name: swarm, draws: model}]}")
    assert found.startswith("optimizer.islands[1].draws: ")


def test_where_the_box_reaches_beyond_the_models_one_draw_is_the_default():
    rule = motion.swarm_in_few_directions
    (found,) = found_by(rule, "swarm", is_wide=True)
    assert found.startswith("optimizer.draws: the swarm stays among the sums of its first")
    assert found.endswith("draws: place draws for each place of the model by itself.")
    assert not found_by(rule, "{name: swarm, draws: place}", is_wide=True)
    assert not found_by(motion.swarm_in_shares, "swarm", "merge_method: linear", is_wide=True)


@pytest.mark.parametrize("optimizer", ["swarm", "{name: swarm, draws: coordinate}", "tpe"])
def test_finer_draws_and_other_optimizers_are_no_finding(optimizer):
    assert not found_by(motion.swarm_in_few_directions, optimizer)


def test_one_draw_for_one_place_is_the_papers_own():
    model = "merge_method: task_arithmetic, granularity: model, base_model: z"
    assert not found_by(motion.swarm_in_few_directions, "{name: swarm, draws: model}", model)


def test_shares_are_told_to_be_no_weights():
    assert motion.swarm_in_shares in RULES
    linear = "merge_method: linear"
    (found,) = found_by(motion.swarm_in_shares, "swarm", linear)
    assert found.startswith("optimizer: weights >= 0 that sum to 1 are searched as shares")
    assert found.endswith("genome.allow_negative_weights: true moves in the weights themselves.")
    (found,) = found_by(motion.swarm_in_shares, "{chain: [gradient, swarm]}", linear)
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
    assert not found_by(motion.swarm_in_shares, optimizer, definition)
