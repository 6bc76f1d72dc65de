from __future__ import annotations

import math

import pytest
import torch

from evomerge.training import losses
from evomerge.training.losses import of_weights

TWO = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4, 3/4
EVEN = torch.tensor([[0.0, 0.0]])


def test_answer_nll_is_the_weighted_sum():
    logits, tokens = torch.cat([TWO, EVEN]), torch.tensor([0, 1])
    found = losses.answer_nll(logits, tokens, torch.tensor([0.5, 0.25]))
    assert float(found) == pytest.approx(0.5 * math.log(4) + 0.25 * math.log(2))


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
    angles = torch.tensor([[1.0, 0.5]])
    terms = of_weights(values, models, places, angles)
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
    assert set(of_weights(torch.ones(2), zeros, torch.tensor([0, 1]), None)) == {"l1", "l2"}
