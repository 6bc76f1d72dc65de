from __future__ import annotations

import numpy as np
import pytest
import torch

from evomerge.training.descent import Descent, State


def ours(descent, values, gradients, n_steps=None):
    state = State.begin(values)
    for gradient in gradients:
        rate = descent.rate(state.step, n_steps or len(gradients))
        state = descent.step(state, gradient, rate)
    return state


def test_a_step_is_the_one_of_torch(tmp_path):
    random = np.random.default_rng(0)
    values, gradients = random.normal(size=5), random.normal(size=(7, 5))
    leaf = torch.tensor(values, requires_grad=True)
    adamw = torch.optim.AdamW([leaf], lr=0.03, betas=(0.9, 0.999), weight_decay=0.1)
    for gradient in gradients:
        leaf.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_([leaf], 1.5)
        adamw.step()
    found = ours(Descent(0.03, weight_decay=0.1, clip=1.5), values, gradients)
    np.testing.assert_allclose(found.values, leaf.detach().numpy(), rtol=1e-5)


def test_mofo_filters_each_stretch_by_itself_and_moves_one_entry_at_least():
    stretches = (slice(0, 1), slice(1, 4), slice(4, 6))
    descent = Descent(0.1, mofo=0.3, stretches=stretches, clip=None)
    gradient = np.array([0.01, 5.0, -9.0, 7.0, 0.2, -0.1], np.float32)
    state = descent.step(State.begin(np.zeros(6, np.float32)), gradient, 0.1)
    assert (state.values != 0).tolist() == [True, False, True, False, True, False]
    assert state.values.dtype == state.first.dtype == state.second.dtype == np.float32


def test_mofo_moves_those_of_the_largest_momentum_alone():
    # Momenta after two steps of beta 0.9: 0.9 * 0.1 * g1 + 0.1 * g2.
    gradients = np.array([[1.0, -3.0, 2.0], [1.0, 1.0, -2.0]])
    state = State.begin(np.zeros(3))
    state = Descent(0.1, mofo=0.4).step(state, gradients[0], 0.1)
    assert (state.values != 0).tolist() == [False, True, False]  # 0.1, -0.3, 0.2
    before = state.values
    state = Descent(0.1, mofo=0.4).step(state, gradients[1], 0.1)
    np.testing.assert_allclose(state.first, [0.19, -0.17, -0.02])
    assert (state.values != before).tolist() == [True, False, False]


def test_mofo_of_a_single_weight_moves_it():
    assert Descent(0.1, mofo=0.1).step(State.begin(np.zeros(1)), np.ones(1), 0.1).values[0] < 0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.8535533906, 0.5, 0.1464466094]),
    ],
)
def test_the_rate_rises_and_falls_as_its_schedule_says(schedule, expected):
    descent = Descent(1.0, schedule, warmup=1 / 3)
    assert [descent.rate(step, 6) for step in range(6)] == pytest.approx(expected)


def test_a_state_is_read_back_as_it_was():
    state = ours(Descent(0.1), np.arange(3.0), np.ones((2, 3)))
    again = State.from_bytes(state.to_bytes())
    for name in ("values", "first", "second"):
        np.testing.assert_array_equal(getattr(again, name), getattr(state, name))
    assert (again.step, again.position) == (2, 0)
