"""Requests that share beginnings, and tiny models of every kind that answer them."""

from __future__ import annotations

import random

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM

from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.inference import ENGINES
from evomerge.inference.transformers import trees
from tests.evaluators.tiny_tasks import WORDS
from tests.tiny_models import tiny_config, tiny_tokenizer

WINDOW = {"sliding_window": 11}
KINDS = ["full_attention", "sliding_attention"]


def small_trees(monkeypatch) -> None:
    """Few tokens are enough for stems and for rows of several documents."""
    monkeypatch.setattr(trees, "TREE_TOKENS", 40)
    monkeypatch.setattr(trees, "STEM_TOKENS", 8)
    monkeypatch.setattr(trees, "TOKENS_AFTER_STEM", 120)
    monkeypatch.setattr(trees, "ALONE_TOKENS", {"cpu": 12})


def build(architecture: str, **settings):
    config = tiny_config(architecture, **settings)
    torch.manual_seed(0)
    how = settings.get("attn_implementation")
    module = AutoModelForCausalLM.from_config(config, attn_implementation=how).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


def bound(module, engine="fast", batch_size="auto", **more) -> LiveLanguageModel:
    model = LiveLanguageModel(ENGINES["transformers"](tiny_tokenizer(), batch_size, engine))
    model.bind(module, **more)
    return model


def words(count: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def questions() -> list[tuple[str, str]]:
    """Few-shot prompts that documents share, prompts of their own, none; and odd ones."""
    prompts = [words(20, 1)] * 6 + [words(14, 9)] * 5 + [words(12, 20 + n) for n in range(4)]
    contexts = [f"{prompt} {words(4, 50 + n)}" for n, prompt in enumerate(prompts)]
    contexts += [words(3, 70 + n) for n in range(5)]
    options = ["fox", "the lazy dog", "the lazy cat", "jugs of liquor"]
    pairs = [(context, f" {option}") for context in contexts for option in options]
    # Many continuations of one text; a text that another begins with; one too long; a repetition.
    pairs += [(contexts[0], f" {words(3, 90 + n)}") for n in range(15)]
    pairs += [("the lazy", " dog"), ("the lazy dog", " jumps"), ("", "the fox"), pairs[0]]
    return [*pairs, (words(90, 3), " dog"), (words(90, 3), " jugs")]


def asked(kind: str, arguments) -> list[Instance]:
    return [Instance(kind, {}, given, index) for index, given in enumerate(arguments)]


def assert_same(found, expected):
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    likelihoods = [value for value, _ in expected]
    assert [value for value, _ in found] == pytest.approx(likelihoods, abs=1e-4, rel=0)


def prompts() -> list[str]:
    """Prompts that share a beginning, others, and one longer than the model reads."""
    shared = [f"{words(16, 1)} {words(2 + n % 5, 30 + n)}" for n in range(14)]
    return [*shared, *(words(1 + 3 * n, 60 + n) for n in range(6)), "", words(90, 3), shared[0]]
