"""Shared tokens give the likelihoods and texts of lm-eval's own backend, row by row."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from evomerge.foundations.errors import GenomeError
from evomerge.inference.transformers.sharing import SHARED
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
from tests.tiny_models import tiny_tokenizer

# Windows are shorter than the prompts; capping is strong enough to be seen.
SETTINGS = {
    "gemma2": {**WINDOW, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 2.0},
    "gpt_neox": {},
    "llama": {},
    "mistral": WINDOW,
    "qwen2": {**WINDOW, "use_sliding_window": True, "layer_types": KINDS},
}
GENERATION = {"until": ["e", "ju"], "max_gen_toks": 14}


@pytest.fixture(autouse=True)
def _small_trees(monkeypatch):
    small_trees(monkeypatch)


def lm_eval(module) -> HFLM:
    """With its logits cache, lm-eval misreads two splits of one text."""
    return HFLM(module, tokenizer=tiny_tokenizer(), batch_size=1, logits_cache=False)


def assert_equal(module, kind: str, arguments, **how):
    """Our answers, which are those of lm-eval."""
    requests = asked(kind, arguments)
    found = getattr(bound(module, **how), kind)(requests)
    # lm-eval adds EOS to the stop texts of the requests themselves.
    expected = getattr(lm_eval(module), kind)(copy.deepcopy(requests), disable_tqdm=True)
    if kind == "loglikelihood":
        assert_same(found, expected)
    elif kind == "loglikelihood_rolling":
        assert found == pytest.approx(expected, abs=1e-3)
    else:
        assert found == expected
    return found


def test_every_architecture_that_shares_is_compared():
    assert SETTINGS.keys() == SHARED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "tied"), [(name, index % 2 > 0) for index, name in enumerate(sorted(SHARED))]
)
def test_likelihoods_and_texts_are_those_of_lm_eval(architecture, tied):
    module = build(architecture, tie_word_embeddings=tied, **SETTINGS[architecture])
    head, embedding = module.get_output_embeddings(), module.get_input_embeddings()
    assert (head.weight is embedding.weight) == tied
    assert_equal(module, "loglikelihood", questions())
    # lm-eval's backend cannot continue an empty prompt.
    texts = [(prompt, GENERATION) for prompt in prompts() if prompt]
    assert len(set(assert_equal(module, "generate_until", texts))) > 3


def piece(draw: random.Random, most: int) -> str:
    """Some letters of a text, cut anywhere."""
    text = f"{words(40, 5)}. the other animals (1 + 2 = 3), "
    start = draw.randrange(len(text))
    return text[start : start + draw.randrange(most + 1)]


def odd_pairs(draw: random.Random, max_length: int) -> list[tuple[str, str]]:
    """Contexts and continuations as lm-eval takes them: no side is without a token."""
    stems = ["", piece(draw, 200), piece(draw, 60), piece(draw, 300)]
    pairs: list[tuple[str, str]] = []
    for _ in range(30):
        context = draw.choice(stems) + draw.choice(["", piece(draw, 20), f" {piece(draw, 9)}"])
        option = draw.choice([piece(draw, 12), f" {piece(draw, 15)}", " fox", "a", "."])
        again = draw.random() < 0.1 and pairs
        pairs.append(draw.choice(pairs) if again else (context, option))
    encode = tiny_tokenizer().encode

    def is_taken(context: str, option: str) -> bool:
        n_own = len(encode(context + option)) - len(encode(context.rstrip()))
        return 0 < n_own <= max_length and bool(not context or encode(context.rstrip()))

    return [pair for pair in pairs if is_taken(*pair)]


def odd_prompts(draw: random.Random) -> list[tuple[str, dict]]:
    """Prompts with stop texts of several tokens, of parts of one, of blanks; or of none."""
    stops = [
        ["e"],
        [" the"],
        ["the l", "jump"],
        ["e "],
        ["ox j", ". "],
        [],
        ["  "],
        ["</s>"],
        "d q",
    ]
    settings = [
        {"until": draw.choice(stops), "max_gen_toks": draw.choice([1, 2, 5, 12])} for _ in range(4)
    ]
    stems = ["the", piece(draw, 60), piece(draw, 300)]
    asks = [
        (
            f"{draw.choice(stems)} {draw.choice(['a', 'fox'])} {piece(draw, 9)}",
            draw.choice(settings),
        )
        for _ in range(15)
    ]
    return [*asks, asks[0]]


def compare_odd_requests(seed: int) -> None:
    draw = random.Random(seed)
    architecture = sorted(SHARED)[seed % len(SHARED)]
    reads = draw.choice([16, 40, 256])
    module = build(
        architecture,
        max_position_embeddings=reads,
        tie_word_embeddings=draw.random() < 0.5,
        **SETTINGS[architecture],
    )
    how = {"batch_size": draw.choice(["auto", 1, 3, 8]), "batch_divisor": draw.choice([1, 8, 64])}
    assert_equal(module, "loglikelihood", odd_pairs(draw, reads), **how)
    texts = [(piece(draw, length),) for length in (0, 3, 30, 150, 400)]
    assert_equal(module, "loglikelihood_rolling", texts, **how)
    assert_equal(module, "generate_until", odd_prompts(draw), **how)


@pytest.mark.parametrize("seed", thinned(range(5), of=5, kept=(0, 1)))
def test_odd_requests_are_answered_as_by_lm_eval(seed):
    compare_odd_requests(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5, 30))
def test_many_odd_requests_are_answered_as_by_lm_eval(seed):
    compare_odd_requests(seed)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_blank_context_without_a_token_is_an_empty_one(engine):
    """Here lm-eval's own backend stops with an assertion."""
    module = build("llama")
    pairs = [(" ", "fox jumps"), ("", "fox jumps"), ("", " fox jumps")]
    blank, empty, same = bound(module, engine).loglikelihood(asked("loglikelihood", pairs))
    assert blank == empty == same


def test_a_continuation_without_a_token_is_refused():
    with pytest.raises(GenomeError, match="has 0 tokens of its own, expected 1 to 256"):
        bound(build("llama")).loglikelihood(asked("loglikelihood", [("the fox", "")]))


def test_one_request_of_each_kind_is_answered_as_by_lm_eval():
    module = build("llama")
    assert_equal(module, "loglikelihood", [("the quick", " fox")])
    assert_equal(module, "loglikelihood_rolling", [("the quick fox",)])
    for length in (1, 2):
        texts = [("the quick", {"until": [], "max_gen_toks": length})]
        (text,) = assert_equal(module, "generate_until", texts)
        assert text


def test_no_request_has_no_answer():
    model = bound(build("llama"))
    assert model.loglikelihood([]) == model.loglikelihood_rolling([]) == []
    assert model.generate_until([]) == []


@pytest.mark.parametrize(
    "settings", [{"num_beams": 2}, {"num_beams": 3, "until": [" "]}, {"max_length": 40}], ids=str
)
def test_settings_in_which_padding_has_a_say_give_the_texts_of_lm_eval(settings):
    contexts = [text for text in prompts() if 0 < len(tiny_tokenizer().encode(text)) < 40]
    texts = [(text, {**GENERATION, **settings}) for text in contexts]
    assert len(set(assert_equal(build("llama"), "generate_until", texts))) > 3


def test_an_answer_without_a_token_is_refused():
    asks = [("the quick", {"until": ["e"], "max_gen_toks": 0})]
    with pytest.raises(GenomeError, match="max_gen_toks 0 leaves no room for an answer"):
        bound(build("llama")).generate_until(asked("generate_until", asks))


def test_nothing_shared_costs_no_more_tokens_than_plain_rows():
    module = build("llama")
    pairs = [(f"{letter}{words(9, seed)}", " fox") for seed, letter in enumerate("abcdefgh")]
    counts: list[int] = []
    module.get_input_embeddings().register_forward_hook(
        lambda _module, given, _found: counts.append(torch.numel(given[0]))
    )
    assert_equal(module, "loglikelihood", pairs, batch_size=1)
    n_own, n_theirs = sum(counts[: -len(pairs)]), sum(counts[-len(pairs) :])
    assert n_own <= n_theirs
