"""What stays in the slots of a decoding changes no text."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evomerge.inference.transformers import greedy
from evomerge.inference.transformers.greedy import SlotMemory
from evomerge.inference.transformers.stops import StopTexts
from tests.evaluators.tiny_requests import asked, bound, build, prompts, small_trees, words
from tests.tiny_models import tiny_tokenizer

GENERATION = {"until": ["e", "ju"], "max_gen_toks": 14}


@pytest.fixture(autouse=True)
def _small_trees(monkeypatch):
    small_trees(monkeypatch)


def texts_of(model, contexts) -> list[str]:
    return model.generate_until(asked("generate_until", [(text, GENERATION) for text in contexts]))


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2"])
def test_a_model_of_nan_leaves_nothing_behind(architecture):
    module, broken = build(architecture), build(architecture)
    with torch.no_grad():
        broken.get_input_embeddings().weight.fill_(torch.nan)
    model = bound(broken)
    texts_of(model, prompts())
    model.bind(module)
    assert texts_of(model, prompts()) == texts_of(bound(module), prompts())


def test_a_row_of_nan_does_not_spoil_the_row_that_gets_its_slot():
    module = build("llama")
    token = tiny_tokenizer().encode("+")[-1]
    good = [words(3 + n, 30 + n) for n in range(9)]
    expected = texts_of(bound(module, "reference"), good)
    with torch.no_grad():
        module.get_input_embeddings().weight[token] = torch.nan
    bad = [f"+ {words(12 + n, 60 + n)}" for n in range(4)]
    assert texts_of(bound(module, batch_size=4), [*bad, *good])[len(bad) :] == expected


def test_prompts_of_one_length_are_decoded_without_a_mask(monkeypatch):
    module = build("llama")
    by_length = defaultdict(list)
    for seed in range(40):
        text = words(5, seed)
        by_length[len(tiny_tokenizer().encode(text))].append(text)
    contexts = max(by_length.values(), key=len)
    expected = texts_of(bound(module, "reference"), contexts)
    monkeypatch.setattr(greedy, "attention_masks", pytest.fail)
    model = bound(module, batch_size=len(contexts))  # all begin at once
    assert len(set(texts_of(model, contexts))) > 3
    assert texts_of(model, contexts) == expected


def test_few_tokens_of_prompts_in_a_pass_give_the_same_texts(monkeypatch):
    module = build("llama")
    expected = texts_of(bound(module), prompts())
    read: list[int] = []
    begin = greedy.GreedyDecoder._begin

    def in_small_passes(decoder, most):
        decoder._prompt_tokens = 7
        slots = begin(decoder, most)
        read.append(len(slots))
        return slots

    monkeypatch.setattr(greedy.GreedyDecoder, "_begin", in_small_passes)
    assert texts_of(bound(module), prompts()) == expected
    assert len(read) > 10


def test_a_buffer_is_taken_again_where_it_is_large_enough():
    memory = SlotMemory()
    like = torch.zeros(1)
    first = memory.take("keys", (4, 5), like)
    assert memory.take("keys", (3, 2), like).data_ptr() == first.data_ptr()
    assert memory.take("values", (4, 5), like).data_ptr() != first.data_ptr()
    assert memory.take("keys", (4, 6), like).shape == (4, 6)
    assert memory.take("keys", (4, 5), like.half()).dtype == torch.float16


def test_buffers_are_kept_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(greedy, "MOST_KEPT", 100)
    memory = SlotMemory()
    like = torch.zeros(1)
    kept = memory.take("keys", (4, 5), like)
    lost = memory.take("values", (4, 5), like)
    assert memory.take("keys", (4, 5), like).data_ptr() == kept.data_ptr()
    assert memory.take("values", (4, 5), like).data_ptr() != lost.data_ptr()


def test_prompts_of_like_length_are_read_together():
    assert greedy._evenly([9] * 250) == 250
    assert greedy._evenly([90] * 20 + [80] * 20 + [9] * 20) == 43
    assert greedy._evenly([90, *[9] * 40]) == 16
    assert greedy._evenly([5, 1]) == 2


@pytest.fixture(scope="module")
def bytes_alone():
    """A tokenizer of bytes, and of "ab"."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*alphabet, "ab"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_a_stop_text_is_found_in_other_pieces_than_its_own(bytes_alone):
    x, a, b = (bytes_alone.encode(text)[0] for text in "xab")
    assert len(bytes_alone.encode("ab")) == 1
    found = StopTexts(bytes_alone, ["ab"]).are_in([[x, a, b], [x, a], [x, b, a]])
    assert found == [True, False, False]


def test_a_stop_text_may_end_in_a_part_of_a_letter(bytes_alone):
    row = bytes_alone.encode("bé")
    assert len(row) == 3
    assert StopTexts(bytes_alone, ["é"]).are_in([row, row[:2]]) == [True, False]
