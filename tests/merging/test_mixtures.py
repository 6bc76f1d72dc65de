"""A live mixture gives the mean of its members' next-token distributions, whatever asks it."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from evomerge.foundations.errors import MergeError
from evomerge.inference import ENGINES
from evomerge.inference.base import Continuation, GenerationRequest, Prompt
from evomerge.inference.transformers import member_table
from evomerge.merging.likeness import mark_of
from evomerge.merging.mergers import Mergers
from evomerge.merging.mixed_model import MixedModel
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.evaluators.tiny_requests import (
    WINDOW,
    asked,
    assert_same,
    bound,
    build,
    prompts,
    questions,
    small_trees,
)
from tests.thinned import ZIGZAG, thinned
from tests.tiny_models import tiny_family, tiny_model, tiny_tokenizer

WEIGHTS = (0.6, 0.3, 0.1)
MEANS = ("arithmetic", "geometric")


def plainly(mean, weights, rows):
    """Log-probabilities by the formula, in float64; rows of logits, one per member."""
    each = [torch.log_softmax(row.double(), -1) for row in rows]
    if mean == "arithmetic":
        return sum(w * log.exp() for w, log in zip(weights, each, strict=True)).log()
    return torch.log_softmax(sum(w * log for w, log in zip(weights, each, strict=True)), -1)


def members(*architectures):
    found = [build(architecture) for architecture in architectures]
    for number, module in enumerate(found):
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return found


@torch.no_grad()
@pytest.mark.parametrize("mean", MEANS)
def test_logits_are_the_log_probabilities_of_the_mean(mean):
    own = members("llama", "qwen2", "gpt_neox")
    tokens = torch.arange(4, 24).reshape(2, 10)
    found = MixedModel(own).mix(WEIGHTS, mean)(tokens).logits
    expected = plainly(mean, WEIGHTS, [module(tokens).logits for module in own])
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert torch.allclose(found.exp().sum(-1), torch.ones(2, 10), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("mean", MEANS)
def test_one_member_with_all_the_weight_is_that_member(mean):
    own = members("llama", "qwen2")
    tokens = torch.arange(4, 24)[None]
    mixed = MixedModel(own).mix((0, 1), mean)
    expected = torch.log_softmax(own[1](tokens).logits.float(), -1)
    assert torch.allclose(mixed(tokens).logits, expected, atol=1e-6)
    own[0].forward = pytest.fail  # it is not run
    mixed(tokens)


@torch.no_grad()
def greedily(mixed, prompt, count):
    """Without a cache."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(mixed(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


SAME = ("llama", "llama", "llama")
MANY = ("llama", "gemma2", "gpt_neox")


@pytest.mark.parametrize(
    ("mean", "architectures"), thinned(itertools.product(MEANS, (MANY, SAME)), **ZIGZAG)
)
def test_texts_are_written_with_the_caches_of_all_members(mean, architectures, monkeypatch):
    small_trees(monkeypatch)
    mixed = MixedModel(members(*architectures)).mix(WEIGHTS, mean)
    engine = ENGINES["transformers"](tiny_tokenizer())
    engine.bind(mixed)
    assert engine.shares == (architectures is SAME)
    given = [(3, 5, 8), (7,), (3, 5, 8, 9, 11, 2), (3, 5, 8, 9, 12, 13, 14, 15, 20)]
    found = engine.generate([Prompt(one, GenerationRequest(6)) for one in given])
    for prompt, text in zip(given, found, strict=True):
        expected = greedily(mixed, prompt, 6)
        assert list(text.tokens) == expected[: len(text.tokens)]


DTYPES = [
    (torch.bfloat16, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.float16),
]


@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
def test_members_have_dtypes_of_their_own(dtypes, monkeypatch):
    small_trees(monkeypatch)
    own = [one.to(dtype) for one, dtype in zip(members("llama", "llama"), dtypes, strict=True)]
    mixed = MixedModel(own).mix((0.4, 0.6), "arithmetic")
    given = asked("loglikelihood", questions())
    values = [
        [value for value, _ in bound(mixed, *how).loglikelihood(given)]
        for how in (("fast",), ("reference", 4))
    ]
    assert values[0] == pytest.approx(values[1], rel=0.02)  # of 16 bits, in other batches
    engine = ENGINES["transformers"](tiny_tokenizer())
    engine.bind(mixed)
    [text] = engine.generate([Prompt((3, 5, 8, 9), GenerationRequest(4))])
    assert list(text.tokens) == greedily(mixed, (3, 5, 8, 9), 4)[: len(text.tokens)]


def test_windows_of_attention_are_those_of_each_member(monkeypatch):
    small_trees(monkeypatch)
    sliding = build("mistral", **WINDOW)
    mixed = MixedModel([sliding, build("llama")]).mix((0.5, 0.5), "arithmetic")
    engine = ENGINES["transformers"](tiny_tokenizer())
    engine.bind(mixed)
    prompt = tuple(range(4, 34))
    [text] = engine.generate([Prompt(prompt, GenerationRequest(6))])
    assert list(text.tokens) == greedily(mixed, prompt, 6)[: len(text.tokens)]


@pytest.mark.parametrize(("architecture", "settings"), [("qwen2", {}), ("gemma2", WINDOW)])
def test_shared_tokens_change_no_answer(architecture, settings, monkeypatch):
    small_trees(monkeypatch)
    own = [build(architecture, **settings) for _ in range(2)]
    with torch.no_grad():
        for parameter in own[1].parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    mixed = MixedModel(own).mix((0.4, 0.6), "arithmetic")
    given = asked("loglikelihood", questions())
    assert_same(
        bound(mixed).loglikelihood(given), bound(mixed, "reference", 4).loglikelihood(given)
    )
    texts = asked("generate_until", [(p, {"until": ["e"], "max_gen_toks": 9}) for p in prompts()])
    assert bound(mixed).generate_until(texts) == bound(mixed, "reference", 4).generate_until(texts)


def mixture(models, weights, mean="arithmetic", **more):
    pairs = zip(models, weights, strict=True)
    members = [{"model": str(model), "weight": weight} for model, weight in pairs]
    return Recipe({"mixture": members, "mean": mean, **more})


@torch.no_grad()
def test_a_recipe_comes_to_life_and_other_weights_take_no_merge(tmp_path):
    family = tiny_family(tmp_path / "family")
    mergers = Mergers(partial(ResidentMerger, merge_seed=3, tokenizers={}))
    live = mergers.merge(mixture(family, WEIGHTS, tasks={"sums": [0, 0, 1]}))
    tokens = torch.arange(4, 24)[None]
    alone = [mergers.make().merge(Recipe(document)).module for document in documents(family)]
    rows = [module(tokens).logits for module in alone]
    found = live.module(tokens).logits.double()
    assert torch.allclose(found, plainly("arithmetic", WEIGHTS, rows), atol=1e-5)
    [own] = live.of_tasks.values()
    assert torch.allclose(own(tokens).logits.double(), rows[2].double().log_softmax(-1), atol=1e-5)
    assert [(m is own, places) for m, places in live.shared_out(["x", "sums", "y"])] == [
        (False, [0, 2]),
        (True, [1]),
    ]
    assert mergers.merge(Recipe(documents(family)[1])).tokenizer is live.tokenizer
    other = mergers.merge(mixture(family, (0, 0.5, 0.5), "geometric"))
    assert other.module is live.module
    assert other.tokenizer is live.tokenizer
    assert other.of_tasks == {}
    found = other.module(tokens).logits.double()
    assert torch.allclose(found, plainly("geometric", (0, 0.5, 0.5), rows), atol=1e-5)


def documents(family):
    return [{"merge_method": "passthrough", "models": [{"model": str(one)}]} for one in family]


def test_mixtures_are_told_apart_without_a_look_at_their_tensors(tmp_path):
    family = tiny_family(tmp_path / "family")
    mergers = Mergers(ResidentMerger)
    marks = {mark_of(mergers.merge(mixture(family, w))) for w in (WEIGHTS, (1, 0, 0), WEIGHTS)}
    assert len(marks) == 2


def test_members_stay_until_others_come(tmp_path):
    family = tiny_family(tmp_path / "family")
    mergers = Mergers(ResidentMerger)
    first = mergers.merge(mixture(family, WEIGHTS)).module
    mergers.forget_structures(mixture(family, (1, 0, 0)))
    assert mergers.merge(mixture(family, WEIGHTS)).module is first
    mergers.forget_structures(Recipe(documents(family)[0]))
    assert mergers.merge(mixture(family, WEIGHTS)).module is not first


def test_members_with_different_tokens_are_refused(tmp_path):
    one = tiny_model(tmp_path / "one", "llama")
    other = tiny_model(tmp_path / "other", "llama", extra_tokens=["<think>"])
    with pytest.raises(MergeError, match=r"members 1 and 2 differ: 1 token .* first '<think>'"):
        Mergers(ResidentMerger).merge(mixture([one, other], (0.5, 0.5)))


def test_next_tokens_have_the_mixtures_probabilities():
    own = members("llama", "qwen2")
    engine = ENGINES["transformers"](tiny_tokenizer())
    engine.bind(MixedModel(own).mix((0.5, 0.5), "arithmetic"))
    [found] = engine.next_token_log_probabilities([(3, 5, 8)])
    with torch.no_grad():
        rows = [module(torch.tensor([[3, 5, 8]])).logits[0, -1] for module in own]
    assert torch.allclose(found.double(), plainly("arithmetic", (0.5, 0.5), rows), atol=1e-5)
    [(value, _)] = engine.log_likelihoods([Continuation([3, 5, 8], [9])])
    assert value == pytest.approx(found[9].item(), abs=1e-5)


# What the members say, read once


@pytest.mark.parametrize(
    ("mean", "architectures"), thinned(itertools.product(MEANS, (SAME, MANY)), **ZIGZAG)
)
def test_a_table_answers_as_passes_do_for_any_weights(mean, architectures, monkeypatch):
    small_trees(monkeypatch)
    mixed = MixedModel(members(*architectures))
    given = asked("loglikelihood", questions())
    table, passes = bound(mixed), bound(mixed, "reference", 8)
    for weights in (WEIGHTS, (1, 0, 0), (0, 0.5, 0.5)):
        mixed.mix(weights, mean)
        assert_same(table.loglikelihood(given), passes.loglikelihood(given))


@pytest.mark.parametrize("mean", MEANS)
def test_greedy_is_exact_where_the_likeliest_token_depends_on_the_weights(mean):
    own = members("llama", "llama", "llama")
    mixed, prompts = MixedModel(own), [[3, 5, 8], [7], [20, 30, 40, 50]]
    engine = ENGINES["transformers"](tiny_tokenizer())
    engine.bind(mixed)
    every = [Continuation(prompt, [token]) for prompt in prompts for token in range(96)]
    likeliest = set()
    for weights in torch.distributions.Dirichlet(torch.ones(3)).sample((40,)).tolist():
        mixed.mix(weights, mean)
        greedy = [is_greedy for _, is_greedy in engine.log_likelihoods(every)]
        with torch.no_grad():
            rows = [mixed(torch.tensor([prompt])).logits[0, -1] for prompt in prompts]
        best = [96 * place + int(row.argmax()) for place, row in enumerate(rows)]
        assert [place for place, one in enumerate(greedy) if one] == best
        likeliest |= set(best)
    assert len(likeliest) > len(prompts)  # else nothing was shown


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("is_silent_one_broken", [False, True])
def test_of_tokens_that_tie_the_first_is_greedy(mean, is_silent_one_broken):
    own = members("llama", "llama")
    for module in own:
        module.get_output_embeddings().register_forward_hook(lambda _, __, out: out.round())
    if is_silent_one_broken:
        with torch.no_grad():
            own[1].get_input_embeddings().weight.fill_(torch.nan)
    prompts = [[one, 5, 8] for one in range(20, 40)]
    every = [Continuation(prompt, [token]) for prompt in prompts for token in range(96)]
    with torch.no_grad():
        rows = own[0](torch.tensor(prompts)).logits[:, -1]
    n_tied = (rows == rows.max(-1, keepdim=True).values).sum(-1)
    assert (n_tied > 1).any()  # else nothing is shown

    def greedy(module, exactness="fast"):
        engine = ENGINES["transformers"](tiny_tokenizer(), "auto", exactness)
        engine.bind(module)
        return [is_greedy for _, is_greedy in engine.log_likelihoods(every)]

    mixed = MixedModel(own).mix((1, 0), mean)
    assert greedy(mixed) == greedy(own[0], "reference")
    if not is_silent_one_broken:
        for weights in ((0, 1), (0.37, 0.63)):
            mixed.mix(weights, mean)
            assert greedy(mixed) == greedy(mixed, "reference")


def test_several_tokens_are_greedy_where_each_of_them_is():
    mixed, prompt = MixedModel(members("llama", "llama", "llama")), [3, 5, 8]
    every = [(1, 0, 0), (0, 1, 0), (0, 0, 1), WEIGHTS]
    texts = [greedily(mixed.mix(weights, "arithmetic"), prompt, 3) for weights in every]
    asked_for = [Continuation(prompt, text) for text in (*texts, [*texts[0][:2], 4])]
    engine = ENGINES["transformers"](tiny_tokenizer())
    engine.bind(mixed)
    for weights, text in zip(every, texts, strict=True):
        mixed.mix(weights, "arithmetic")
        found = [is_greedy for _, is_greedy in engine.log_likelihoods(asked_for)]
        assert found == [one.tokens == text for one in asked_for]


def test_other_weights_take_no_pass_and_other_members_do(monkeypatch):
    own = members("llama", "qwen2")
    mixed, given = MixedModel(own), asked("loglikelihood", questions())
    model = bound(mixed)
    first = model.loglikelihood(given)
    with monkeypatch.context() as patched:
        patched.setattr(MixedModel, "forward", pytest.fail)
        mixed.mix((0.9, 0.1), "arithmetic")
        assert model.loglikelihood(given) != first
    model.bind(MixedModel(own[::-1]).mix((0.5, 0.5), "arithmetic"))
    assert_same(model.loglikelihood(given), first)


def test_a_geometric_mean_without_room_for_its_rows_runs_the_models(monkeypatch):
    given = asked("loglikelihood", questions())
    mixed = MixedModel(members("llama", "qwen2")).mix((0.3, 0.7), "geometric")
    expected = bound(mixed).loglikelihood(given)
    monkeypatch.setattr(member_table, "ROWS_BYTES", 1000)
    assert_same(bound(mixed).loglikelihood(given), expected)


def test_a_member_of_nan_gives_nan_and_a_weight_of_0_silences_it():
    own = members("llama", "llama")
    with torch.no_grad():
        own[1].get_input_embeddings().weight.fill_(torch.nan)
    mixed, given = MixedModel(own), [Continuation([3, 5], [4])]
    engine = ENGINES["transformers"](tiny_tokenizer())
    engine.bind(mixed)
    [(value, greedy)] = engine.log_likelihoods(given)
    assert math.isnan(value)
    assert not greedy
    mixed.mix((1, 0), "arithmetic")
    [(value, _)] = engine.log_likelihoods(given)
    alone = ENGINES["transformers"](tiny_tokenizer())
    alone.bind(own[0])
    assert value == pytest.approx(alone.log_likelihoods(given)[0][0], abs=1e-5)


def test_whole_texts_are_the_sums_of_their_tokens():
    own = members("llama", "qwen2")
    mixed = MixedModel(own).mix((0.3, 0.7), "arithmetic")
    table, passes = (
        ENGINES["transformers"](tiny_tokenizer(), "auto", e) for e in ("fast", "reference")
    )
    texts = [[3, 5, 8], list(range(4, 90)), []]
    for engine in (table, passes):
        engine.bind(mixed)
    found, expected = table.text_log_likelihoods(texts), passes.text_log_likelihoods(texts)
    assert found == pytest.approx(expected, abs=1e-3)


def test_sums_of_probabilities_too_small_for_a_number_have_their_logarithm():
    logs = np.array([[-1.0, -800.0, -750.0, -np.inf], [-2.0, -900.0, -751.0, -np.inf]])
    weights = (0.25, 0.75)
    totals = member_table._weighted(weights, np.exp(logs))
    found = member_table._log_of(totals, weights, logs)
    expected = np.logaddexp(np.log(0.25) + logs[0], np.log(0.75) + logs[1])
    assert found == pytest.approx(expected, rel=1e-14)
