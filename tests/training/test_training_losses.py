from __future__ import annotations

import math

import pytest
import torch

from evomerge.training import losses
from evomerge.training.losses import of_weights

TWO = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4, 3/4
EVEN = torch.tensor([[0.0, 0.0]])


def test_the_likelihood_of_a_text_is_the_sum_over_its_tokens():
    logits, tokens = torch.cat([TWO, EVEN, TWO]), torch.tensor([0, 1, 1])
    found = losses.likelihoods(logits, tokens, [2, 1])
    assert found.tolist() == pytest.approx([-math.log(8), math.log(0.75)])


def test_a_choice_is_by_the_probability_of_what_is_right_among_the_options():
    scores = torch.log(torch.tensor([0.1, 0.3, 0.1]))
    assert float(losses.choice_nll(scores, (1,))) == pytest.approx(math.log(5 / 3))
    assert float(losses.choice_nll(scores, (0, 1))) == pytest.approx(math.log(5 / 4))


def test_divergence_is_from_the_teacher_to_the_student():
    found = losses.divergence(EVEN, TWO, 1.0)
    assert float(found) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert float(losses.divergence(TWO, TWO, 2.0)) == pytest.approx(0, abs=1e-7)


def test_divergence_at_a_temperature_is_that_of_the_softened_logits():
    found = losses.divergence(2 * EVEN, 2 * TWO, 2.0)
    assert float(found) == pytest.approx(4 * float(losses.divergence(EVEN, TWO, 1.0)))


def test_square_error_and_entropy():
    assert float(losses.square_error(TWO, EVEN)) == pytest.approx(math.log(3) ** 2 / 2)
    assert float(losses.entropy(EVEN, 1.0)) == pytest.approx(math.log(2))
    assert float(losses.entropy(2 * EVEN, 2.0)) == pytest.approx(4 * math.log(2))


def test_terms_of_the_weights_on_two_models_in_two_places():
    values = torch.tensor([0.3, -0.4, 0.8, 0.6])
    models, places = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    modules = torch.tensor([0, 0])
    angles = torch.tensor([[1.0, 0.5]])
    terms = of_weights(values, models, places, modules, angles)
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(
        {
            "l1": 2.1 / 4,
            "l2": (0.09 + 0.16 + 0.64 + 0.36) / 4,
            "similarity": (0.24 - 0.24) / (0.5 * 1.0),
            "overlap": (0.3 + 0.4) / 2,
            "weighted_overlap": (0.3 + 0.2) / 2,
        },
        abs=1e-7,
    )


def test_one_model_has_nothing_to_overlap_with():
    zeros = torch.tensor([0, 0])
    terms = of_weights(torch.ones(2), zeros, torch.tensor([0, 1]), zeros, None)
    assert set(terms) == {"l1", "l2"}


def test_similarity_is_a_sum_of_cosines_one_for_each_module_with_a_direction():
    """Two columns, one column, three columns; of three models."""
    tables = torch.tensor(
        [[1.0, 2, 9, 1, 0, 0], [2.0, -1, 9, 1, 0, 1], [0.0, 3, -9, 0, 2, 0]], dtype=torch.float64
    )
    modules = torch.tensor([0, 0, 1, 2, 2, 2])
    models, places = torch.arange(3).repeat_interleave(6), torch.arange(6).repeat(3)
    cosine = torch.nn.functional.cosine_similarity
    expected = torch.stack(
        [
            torch.stack(
                [cosine(tables[a, own], tables[b, own], dim=0) for a, b in ((0, 1), (0, 2), (1, 2))]
            ).mean()
            for own in (slice(0, 2), slice(3, 6))
        ]
    ).sum()
    found = of_weights(tables.flatten(), models, places, modules, None)["similarity"]
    assert float(found) == pytest.approx(float(expected))


def test_a_module_of_zeros_has_no_similarity_and_no_slope():
    values = torch.zeros(4, requires_grad=True)
    two, places = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    found = of_weights(values, two, places, torch.tensor([0, 0]), None)["similarity"]
    (slope,) = torch.autograd.grad(found, values)
    assert float(found.detach()) == 0
    assert torch.equal(slope, torch.zeros(4))
