"""Tokens computed once for all rows that begin with them give what plain rows give."""

from __future__ import annotations

import logging
import math
import random

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import TrialTimeoutError
from evomerge.inference.transformers import sharing
from evomerge.inference.transformers.sharing import SHARED
from evomerge.inference.transformers.trees import cut, lay_out, lay_out_apart
from tests.evaluators.tiny_requests import (
    KINDS,
    WINDOW,
    asked,
    assert_same,
    bound,
    build,
    prompts,
    questions,
    small_trees,
    words,
)
from tests.thinned import thinned
from tests.tiny_models import tiny_config

CASES = [
    *((name, {}) for name in sorted(SHARED)),
    *((name, {"tie_word_embeddings": True}) for name in sorted(SHARED)),
    ("llama", {"attn_implementation": "eager"}),
    ("mistral", WINDOW),
    ("mistral", {**WINDOW, "attn_implementation": "eager"}),
    ("qwen2", {**WINDOW, "use_sliding_window": True, "layer_types": KINDS}),
    ("gemma2", {**WINDOW, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 2.0}),
]


def label(value) -> str:
    settings = value.items() if isinstance(value, dict) else [("", value)]
    return ",".join(f"{name}={setting}".strip("=") for name, setting in settings)


@pytest.fixture(autouse=True)
def _small_trees(monkeypatch):
    small_trees(monkeypatch)


@pytest.mark.parametrize(("architecture", "settings"), CASES, ids=label)
def test_shared_tokens_give_the_likelihoods_of_plain_rows(architecture, settings):
    module = build(architecture, **settings)
    model = bound(module)
    assert model.engine.shares
    requests = asked("loglikelihood", questions())
    found = model.loglikelihood(requests)
    assert_same(found, bound(module, "reference").loglikelihood(requests))
    assert model.loglikelihood(requests) == found
    rolled = asked("loglikelihood_rolling", [(words(60, 1),), (words(120, 1),), ("",)])
    expected = bound(module, "reference").loglikelihood_rolling(rolled)
    assert model.loglikelihood_rolling(rolled) == pytest.approx(expected, abs=1e-3)


def test_the_deadline_is_looked_at_before_every_pass():
    times = iter(range(100))
    model = bound(build("llama"), deadline=Deadline(3.5, clock=lambda: next(times)))
    with pytest.raises(TrialTimeoutError, match=r"took longer than 3\.5 seconds"):
        model.loglikelihood(asked("loglikelihood", questions()))
    assert next(times) == 5


def test_changed_weights_change_the_scores_of_a_kept_layout():
    module = build("llama")
    model = bound(module)
    requests = asked("loglikelihood", questions())
    before = model.loglikelihood(requests)
    with torch.no_grad():
        module.get_input_embeddings().weight.mul_(-2.0)
    model.bind(module)
    after = model.loglikelihood(requests)
    assert before != after
    assert_same(after, bound(module, "reference").loglikelihood(requests))


def assert_same_texts(module, settings):
    requests = asked("generate_until", [(prompt, settings) for prompt in prompts()])
    found = bound(module).generate_until(requests)
    assert found == bound(module, "reference").generate_until(requests)
    assert found == bound(module, batch_size=3).generate_until(requests)
    assert len(set(found)) > 3
    return requests, found


# Tied heads and attention that is computed otherwise change no text that likelihoods do not show.
@pytest.mark.parametrize(
    ("architecture", "settings"), thinned(CASES, of=15, kept=(0, 1, 5, 13)), ids=label
)
def test_greedy_texts_are_those_of_plain_rows(architecture, settings, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the texts are decoded without transformers' generate")

    module = build(architecture, **settings)
    requests, found = assert_same_texts(module, {"until": ["e", "ju"], "max_gen_toks": 14})
    monkeypatch.setattr(type(module), "generate", refuse)
    assert bound(module).generate_until(requests) == found


def test_every_end_token_of_the_model_ends_a_text():
    module = build("llama")
    module.generation_config.eos_token_id = [2, *range(10, 40)]
    assert_same_texts(module, {"until": ["e"], "max_gen_toks": 14})


@pytest.mark.parametrize(
    "settings", [{"repetition_penalty": 1.5}, {"num_beams": 2}, {"do_sample": True}]
)
def test_other_ways_to_generate_are_left_to_transformers(settings):
    module = build("llama")
    given = {"until": ["e"], "max_gen_toks": 6, **settings}
    requests = asked("generate_until", [(prompt, given) for prompt in prompts()])
    texts = []
    for engine in ("fast", "reference"):
        torch.manual_seed(0)
        texts.append(bound(module, engine).generate_until(requests))
    assert texts[0] == texts[1]


def test_a_penalty_of_the_models_own_is_heeded():
    module = build("llama")
    plain = bound(module).generate_until(
        requests := asked(
            "generate_until",
            [(prompt, {"until": ["e"], "max_gen_toks": 14}) for prompt in prompts()],
        )
    )
    module.generation_config.repetition_penalty = 3.0
    found = bound(module).generate_until(requests)
    assert found == bound(module, "reference").generate_until(requests) != plain


def rows_in(count: int, prefix: int, own: int) -> list[tuple[int, ...]]:
    draw = random.Random(0)
    shared = tuple(draw.randrange(90) for _ in range(prefix))
    return [(*shared, *(draw.randrange(90) for _ in range(own))) for _ in range(count)]


def restored(stem, tree):
    """The last tokens of each row, read through the tree."""
    for row, places in tree.places.items():
        index = places[-1]
        above = [k for k in range(index + 1) if k <= index < tree.ends[k]]
        assert [tree.positions[k] for k in above] == list(range(len(stem), len(row)))
        assert (*stem, *(tree.tokens[k] for k in above)) == row
        yield row


@pytest.mark.parametrize("alone", [3, 10, math.inf])
def test_every_row_is_found_in_one_tree(alone):
    rows = [*rows_in(30, 20, 12), *rows_in(3, 5, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5)]
    n_read = {row: 1 + index % 2 for index, row in enumerate(rows)}
    laid_out = lay_out(n_read, alone=alone)
    found = [row for stem, part in laid_out for tree in part for row in restored(stem, tree)]
    assert sorted(found) == sorted(rows)


def test_a_prompt_shared_by_many_rows_is_a_stem_and_counted_once():
    rows = rows_in(30, 20, 12)
    n_read = dict.fromkeys(rows, 1)
    ((stem, part),) = lay_out(n_read)
    assert len(stem) == 20
    assert sum(map(len, part)) == len({row[:end] for row in rows for end in range(21, 33)})
    ((_, apart),) = lay_out_apart(n_read)
    assert sum(map(len, apart)) == 30 * 32


def test_a_long_prompt_of_few_rows_is_read_alone_where_that_is_faster():
    lengths = (40, 60, 80)
    n_read = {(length, *row): 2 for length in lengths for row in rows_in(4, length - 1, 3)}
    (packed,) = lay_out(n_read, alone=100)
    assert (packed.stem, len(packed.trees)) == ((), 3)
    apart = lay_out(n_read, alone=60)
    assert sorted(len(stem) for stem, _ in apart) == [0, 60, 80]
    assert [len(tree.places) for _, part in apart for tree in part] == [4, 4, 4]


def test_what_is_read_is_never_in_a_stem():
    rows = rows_in(30, 20, 12)
    (stem,) = cut(dict.fromkeys(rows, 15))
    assert len(stem) == 17


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (AutoConfig.for_model("gpt2", vocab_size=96, n_embd=32, n_layer=1, n_head=4), "'gpt2'"),
        (
            AutoConfig.for_model(
                "mamba", vocab_size=96, hidden_size=32, num_hidden_layers=1, state_size=4
            ),
            "'mamba'",
        ),
        (
            tiny_config(
                "llama",
                rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
            ),
            "'dynamic'",
        ),
    ],
    ids=["gpt2", "mamba", "dynamic-rope"],
)
def test_other_models_are_scored_row_by_row_and_that_is_said_once(config, why, caplog):
    sharing._tell.cache_clear()
    module = AutoModelForCausalLM.from_config(config).eval()
    with caplog.at_level(logging.WARNING, sharing.__name__):
        model, again = bound(module), bound(module)
    assert not model.engine.shares
    assert not again.engine.shares
    (record,) = [record for record in caplog.records if record.name == sharing.__name__]
    assert why in record.getMessage()
    requests = asked("loglikelihood", questions()[:8])
    assert model.loglikelihood(requests) == bound(module, "reference").loglikelihood(requests)
