"""What every inference engine of the table must show."""

from __future__ import annotations

import itertools

import pytest
import torch
from lm_eval.models.utils import resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, TrialTimeoutError
from evomerge.inference import ENGINES
from evomerge.inference.base import Continuation, CutText, GenerationRequest, Prompt, context_length
from evomerge.inference.windows import windows_of
from tests.evaluators.tiny_requests import build
from tests.tiny_models import tiny_tokenizer

CONTEXTS = [[3, 5, 8], [3, 5, 8, 9, 11], [7]]
ASKED = [Continuation(c, t) for c in CONTEXTS for t in ([4], [4, 6], [12, 3, 5])]
PROMPTS = [(3, 5, 8), (7,), (3, 5, 8, 9, 11, 2), (3, 5, 8)]


@pytest.fixture(scope="module")
def modules():
    return build("llama"), build("qwen2")


@pytest.fixture(params=sorted(ENGINES))
def make(request):
    def made(module, batch_size="auto", exactness="fast", **bound):
        engine = ENGINES[request.param](tiny_tokenizer(), batch_size, exactness)
        engine.bind(module, **bound)
        return engine

    return made


@torch.no_grad()
def logits_after(module, tokens):
    """As a plain forward pass of one row gives them."""
    return torch.log_softmax(module(torch.tensor([tokens])).logits[0].float(), dim=-1)


def plainly(module, one):
    logits = logits_after(module, [*one.context, *one.tokens])
    places = range(len(one.context) - 1, len(one.context) + len(one.tokens) - 1)
    rows = logits[list(places)]
    value = sum(rows[i, token].item() for i, token in enumerate(one.tokens))
    return value, rows.argmax(-1).tolist() == list(one.tokens)


@pytest.mark.parametrize(
    ("batch_size", "exactness"), [("auto", "fast"), (1, "reference"), (4, "fast")]
)
def test_log_likelihoods_are_those_of_plain_rows(make, modules, batch_size, exactness):
    for module in modules:  # the second model is not answered for with the first one's weights
        engine = make(module, batch_size, exactness)
        found = engine.log_likelihoods(ASKED)
        expected = [plainly(module, one) for one in ASKED]
        assert [value for value, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-4)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_a_list_that_comes_again_is_answered_by_the_model_that_is_bound(make, modules):
    engine = make(modules[0])
    first = engine.log_likelihoods(ASKED)
    texts = engine.generate(prompts := [Prompt(p, GenerationRequest(6)) for p in PROMPTS])
    engine.bind(modules[1])
    assert engine.log_likelihoods(ASKED) == make(modules[1]).log_likelihoods(ASKED) != first
    assert len(engine.log_likelihoods(ASKED[:4])) == 4  # it begins as the one before, and is none
    assert engine.generate(prompts) == make(modules[1]).generate(prompts) != texts


def test_a_whole_text_is_the_sum_of_its_windows(make, modules):
    engine = make(modules[0])
    texts = [[3, 5, 8], [9], list(range(3, 20)), []]
    for length in (7, 5):  # the next model reads less
        engine.max_length = length
        found = engine.text_log_likelihoods(texts)
        for text, value in zip(texts, found, strict=True):
            windows = [Continuation(*w) for w in windows_of(text, engine.prefix_token_id, length)]
            assert value == pytest.approx(sum(plainly(modules[0], w)[0] for w in windows), abs=1e-3)


def test_windows_are_those_of_lm_eval():
    for length, most in itertools.product(range(24), (1, 2, 7, 30)):
        tokens = list(range(100, 100 + length))
        expected = map(make_disjoint_window, get_rolling_token_windows(tokens, 1, most, 1))
        assert list(windows_of(tokens, 1, most)) == list(expected)


def test_a_text_has_to_begin_with_something(make, modules):
    engine = make(modules[0])
    assert engine.prefix_token_id == engine.tokenizer.bos_token_id
    engine.tokenizer.bos_token = None
    assert engine.prefix_token_id == engine.eot_token_id == engine.tokenizer.eos_token_id
    engine.tokenizer.eos_token = None
    with pytest.raises(EvaluationError, match="neither BOS nor EOS"):
        engine.text_log_likelihoods([[3, 4]])


def test_context_lengths_are_those_of_lm_eval(modules):
    tokenizer = tiny_tokenizer()
    config = modules[0].config
    assert context_length(config, tokenizer) == resolve_max_length(config, tokenizer)
    silent = type("Config", (), {})()
    assert context_length(silent, tokenizer) == resolve_max_length(silent, tokenizer)
    tokenizer.model_max_length = 77
    assert context_length(silent, tokenizer) == resolve_max_length(silent, tokenizer) == 77
    inner = type("Config", (), {"text_config": config, "n_ctx": 5})()
    assert context_length(inner, tokenizer) == resolve_max_length(inner, tokenizer)


@torch.no_grad()
def greedy_after(module, prompt, count):
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(module(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def test_greedy_texts_are_the_likeliest_tokens_up_to_their_limit(make, modules):
    module = modules[0]
    found = make(module).generate([Prompt(p, GenerationRequest(5)) for p in PROMPTS])
    for prompt, text in zip(PROMPTS, found, strict=True):
        expected = greedy_after(module, prompt, 5)
        assert list(text.tokens) == expected[: len(text.tokens)]
        assert len(text.tokens) == 5 or text.tokens[-1] == module.generation_config.eos_token_id
        assert isinstance(text, CutText) == (len(text.tokens) == 5)


def test_a_text_ends_before_its_stop_text(make, modules):
    engine = make(modules[0])
    [whole] = engine.generate([Prompt((3, 5, 8), GenerationRequest(8))])
    stop = whole.split()[1]
    [text] = engine.generate([Prompt((3, 5, 8), GenerationRequest(8, (stop,)))])
    assert text == whole.partition(stop)[0]
    assert not isinstance(text, CutText)


def test_end_tokens_of_a_request_end_its_own_texts_and_no_others(make, modules):
    expected = greedy_after(modules[0], PROMPTS[0], 8)
    end = expected[2]
    ended, own = expected[: expected.index(end) + 1], {"eos_token_id": end}
    several = [GenerationRequest(8), GenerationRequest(6, (), own), GenerationRequest(12, (), own)]
    found = make(modules[0]).generate([Prompt(PROMPTS[0], one) for one in several])
    assert [list(text.tokens) for text in found] == [expected, ended, ended]
    assert not any(isinstance(text, CutText) for text in found[1:])


@pytest.mark.parametrize("own", [{"forced_eos_token_id": 9}, {"num_beams": 3}])
def test_where_a_model_has_a_say_no_text_is_the_beginning_of_another(make, own):
    module = build("llama")
    module.generation_config.update(**own)
    short, long = ([Prompt(one, GenerationRequest(n)) for one in PROMPTS] for n in (3, 8))
    alone = [make(module).generate(several) for several in (short, long)]
    assert make(module).generate([*short, *long]) == [*alone[0], *alone[1]]
    cut = [text.tokens[:3] for text in alone[1]]
    assert [text.tokens for text in alone[0]] != cut


def test_beams_that_the_model_asks_for_are_ended_by_stop_texts_as_those_of_a_request(make):
    plain, own = build("llama"), build("llama")
    own.generation_config.update(num_beams=3)
    stops = [
        (text[3:5] or "s",)
        for text in make(plain).generate([Prompt(p, GenerationRequest(8)) for p in PROMPTS])
    ]

    def written(module, sampling):
        several = [GenerationRequest(8, stop, sampling) for stop in stops]
        return make(module).generate([*map(Prompt, PROMPTS, several)])

    assert written(own, {}) == written(plain, {"num_beams": 3})


def test_a_seed_is_of_one_request_and_disturbs_no_other(make, modules):
    sampling = {"do_sample": True, "temperature": 5.0, "top_k": 0}

    def written(prompts, batch_size="auto"):
        engine = make(modules[0], batch_size)
        return [
            tuple(one.tokens)
            for one in engine.generate(
                [Prompt(p, GenerationRequest(6, (), sampling, seed)) for p, seed in prompts]
            )
        ]

    alone = written([(PROMPTS[0], 1)]) + written([(PROMPTS[1], 2)])
    torch.manual_seed(9)
    state = torch.random.get_rng_state()
    assert written([(PROMPTS[0], 1), (PROMPTS[1], 2), (PROMPTS[0], 3)], 4)[:2] == alone
    assert torch.equal(torch.random.get_rng_state(), state)
    assert written([(PROMPTS[0], 3)]) != written([(PROMPTS[0], 1)])


def test_next_tokens_have_the_probabilities_of_plain_rows(make, modules):
    found = make(modules[0], 2).next_token_log_probabilities(PROMPTS)
    expected = torch.stack([logits_after(modules[0], list(p))[-1] for p in PROMPTS])
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-4)


def test_every_place_of_a_row_has_the_probabilities_of_plain_rows(make, modules):
    rows = [(p, first) for p in PROMPTS for first in (1, len(p))]
    found = dict(make(modules[0], 2).log_probabilities_along(rows))
    assert sorted(found) == list(range(len(rows)))
    for index, (tokens, first) in enumerate(rows):
        expected = logits_after(modules[0], list(tokens))[first - 1 :]
        assert found[index].dtype == torch.float32
        assert torch.allclose(found[index], expected, atol=1e-4)


@pytest.mark.parametrize("what", ["log_likelihoods", "generate", "next_token_log_probabilities"])
def test_the_deadline_is_looked_at_before_a_pass(make, modules, what):
    asked = {
        "log_likelihoods": ASKED,
        "generate": [Prompt(p, GenerationRequest(6)) for p in PROMPTS],
        "next_token_log_probabilities": PROMPTS,
    }
    engine = make(modules[0], deadline=Deadline(1.0, clock=itertools.count(0.0, 2.0).__next__))
    with pytest.raises(TrialTimeoutError):
        getattr(engine, what)(asked[what])


def test_a_smaller_batch_changes_no_answer(make, modules):
    some = make(modules[0], batch_divisor=4096).log_likelihoods(ASKED)
    assert [v for v, _ in some] == pytest.approx(
        [v for v, _ in make(modules[0]).log_likelihoods(ASKED)], abs=1e-4
    )
