"""A scaled residual stream is the same as scaled tensors that write to it, where a space has it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.merge_spaces.layer_paths.fold import ADDS, obstacle
from tests.suite_seed import of_suite

GATED = {"num_key_value_heads": 2, "intermediate_size": 64}
MODELS: dict[str, dict[str, Any]] = {
    "llama": GATED,
    "mistral": GATED,
    "qwen2": GATED,
    "qwen3": {**GATED, "head_dim": 8},
    "gemma": {**GATED, "head_dim": 8},
    "phi3": {**GATED, "pad_token_id": 0},
    "gpt_neox": {"intermediate_size": 64},
    "gpt2": {},
    "gemma2": {**GATED, "head_dim": 8},
    "olmo2": GATED,
}
SCALES = (0.7, 1.6, 0.9)  # of the stream, before each layer


EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")


def model_of(model_type: str, epsilon: float | None = 1e-12) -> Any:
    """Three layers with every parameter random, in float64.

    Args:
        model_type: Of the architecture.
        epsilon: Of its norms; None: the architecture's own.
    """
    config = AutoConfig.for_model(
        model_type,
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        attn_implementation="eager",
        **MODELS[model_type],
    )
    for name in {*EPSILONS} & {*vars(config)} if epsilon is not None else ():
        setattr(config, name, epsilon)
    torch.manual_seed(of_suite(3))
    model = AutoModelForCausalLM.from_config(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def layers_of(model: Any) -> Any:
    inner = model.base_model
    return inner.h if hasattr(inner, "h") else inner.layers


def with_scaled_stream(model: Any) -> Any:
    model = copy.deepcopy(model)
    for layer, scale in zip(layers_of(model), SCALES, strict=True):

        def scaled(_: Any, given: tuple[Any, ...], scale: float = scale) -> tuple[Any, ...]:
            return (given[0] * scale, *given[1:])

        layer.register_forward_pre_hook(scaled)
    return model


def with_folded_scales(model: Any, adds: tuple[str, ...]) -> Any:
    model, stream = copy.deepcopy(model), 1.0
    for layer, scale in zip(layers_of(model), SCALES, strict=True):
        stream *= scale
        for name, parameter in layer.named_parameters():
            if any(text in f"layer.{name}" for text in adds):
                parameter.data /= stream
    return model


def largest_difference(model_type: str) -> tuple[str, float]:
    model = model_of(model_type)
    name = type(model).__name__
    adds = ADDS.get(name, ("o_proj", "down_proj"))
    tokens = torch.arange(5, 25)[None]
    with torch.no_grad():
        plain = model(tokens).logits
        expected = with_scaled_stream(model)(tokens).logits
        found = with_folded_scales(model, adds)(tokens).logits
    assert (expected - plain).abs().max() > 1e-2  # the scales do something
    return name, float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("model_type", MODELS)
def test_the_fold_is_exact_where_it_is_offered_and_only_there(model_type: str) -> None:
    name, difference = largest_difference(model_type)
    if obstacle(name):
        assert difference > 1e-3
    else:
        assert difference < 1e-5  # norms are computed in float32


BLOCKS = ("self_attn", "attention", "attn", "mlp")  # of a layer: each adds once to the stream


def with_weighted_layers(model: Any) -> Any:
    """What every layer adds is multiplied as it is added, without a look at any weight."""
    model = copy.deepcopy(model)
    for layer, scale in zip(layers_of(model), SCALES, strict=True):

        def weighted(_: Any, given: Any, found: Any, scale: float = scale) -> Any:
            return (found[0] * scale, *found[1:]) if isinstance(found, tuple) else found * scale

        blocks = [getattr(layer, name) for name in BLOCKS if hasattr(layer, name)]
        assert len(blocks) == 2
        for block in blocks:
            block.register_forward_hook(weighted)
    return model


@torch.no_grad()
@pytest.mark.parametrize("model_type", [one for one in MODELS if one not in ("gemma2", "olmo2")])
def test_what_a_layer_adds_is_weighted_exactly_at_the_architectures_own_epsilon(
    model_type: str,
) -> None:
    model = model_of(model_type, None)
    adds = ADDS[type(model).__name__]
    folded = copy.deepcopy(model)
    for layer, scale in zip(layers_of(folded), SCALES, strict=True):
        for name, parameter in layer.named_parameters():
            if any(text in f"layer.{name}" for text in adds):
                parameter.data *= scale
    tokens = torch.arange(5, 25)[None]
    plain, found = model(tokens).logits, folded(tokens).logits
    expected = with_weighted_layers(model)(tokens).logits
    assert (expected - plain).abs().max() > 1e-2
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()  # norms are in float32


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("epsilon", [None, 1e-5])  # the architecture's own, and that of Llama 3
def test_a_scaled_stream_differs_by_the_epsilon_of_the_norms(
    model_type: str, epsilon: float | None
) -> None:
    """To first order a norm sees h where it had s h, as if its epsilon were s² times as large."""
    model = model_of(model_type, epsilon)
    tokens = torch.arange(5, 25)[None]
    states = model(tokens, output_hidden_states=True).hidden_states
    least = min(float(state.square().mean(-1).min()) for state in states)
    found = with_folded_scales(model, ADDS[type(model).__name__])(tokens).logits
    expected = with_scaled_stream(model)(tokens).logits
    difference = float((found - expected).abs().max() / expected.abs().max())
    share = model.config.rms_norm_eps / least  # of what a norm divides by, at its smallest
    n_norms = 2 * len(SCALES) + 1
    assert difference < 1e-5 + n_norms * share
    assert n_norms * share < 0.02


def test_every_architecture_that_may_be_scaled_is_tested() -> None:
    tested = {AutoModelForCausalLM._model_mapping[type(AutoConfig.for_model(m))] for m in MODELS}
    assert {*ADDS} <= {kind.__name__ for kind in tested}
