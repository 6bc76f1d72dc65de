"""Texts of a file, scored by how well a model foretells them."""

from __future__ import annotations

import copy
import json
import math
import os
from dataclasses import replace

import pytest
import torch

from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.perplexity import PerplexitySettings, texts_of
from evomerge.foundations.errors import EvaluationError, GenomeError
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES

TEXTS = ["the quick brown fox", "jumps over the lazy dög", "pack my box with five dozen jugs"]


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """An evaluator of one task over rows of TEXTS, in their folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))

    def made(task, seed=0):
        tasks = [Task.model_validate(task)]
        return evaluator_for(tasks, EvaluationBlock(), ENGINES["transformers"], seed=seed)

    return made


def test_values_are_those_of_the_definition(judge, live_model):
    evaluation = judge({"perplexity": "rows.jsonl"}).evaluate(live_model)
    tokenizer, bits, words = live_model.tokenizer, [], []
    prefix = tokenizer.bos_token_id
    prefix = tokenizer.eos_token_id if prefix is None else prefix
    for text in TEXTS:
        ids = torch.tensor([[prefix, *tokenizer.encode(text, add_special_tokens=False)]])
        with torch.no_grad():
            logits = live_model.module(ids).logits.log_softmax(-1)[0, :-1]
        likelihood = float(logits.gather(1, ids[0, 1:, None]).sum())
        bits.append(-likelihood / math.log(2) / len(text.encode()))
        words.append(math.exp(-likelihood / len(text.split())))
    own, other = evaluation.metrics
    assert (str(own.key), own.higher_is_better, own.n) == (
        "rows.jsonl/bits_per_byte,none",
        False,
        3,
    )
    assert own.value == pytest.approx(sum(bits) / 3, rel=1e-4)
    spread = torch.tensor(bits).std() / math.sqrt(3)
    assert own.stderr == pytest.approx(float(spread), rel=1e-3)
    assert other.value == pytest.approx(sum(words) / 3, rel=1e-4)
    found = [one.values["bits_per_byte,none"] for one in evaluation.documents]
    assert found == pytest.approx(bits, rel=1e-4)


def test_runs_that_began_with_an_earlier_evomerge_go_on(judge, live_model, tmp_path):
    """Digests and values as they were before kinds of judges had a layer in common."""
    rows = [*TEXTS, " ".join(TEXTS * 9)]  # the last one is read in windows
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in rows))
    evaluator = judge({"perplexity": "rows.jsonl"})
    digest = "e58f93b82a64cb27f215be388f72a7639d86fc267770af7d5cc3d14ec89f4ae1"
    assert evaluator.identity() == {"rows.jsonl": digest}
    with torch.no_grad():
        for one in live_model.module.parameters():
            wave = torch.arange(one.numel(), dtype=torch.float64).mul(0.7).sin().mul(0.3)
            one.copy_(wave.reshape(one.shape))
    live_model.module.config.max_position_embeddings = 32
    found = evaluator.evaluate(live_model).documents
    bits = [3.1458475599643463, 3.340474320130584, 3.914779877264237, 3.4021652007500442]
    words = [31493.705883878014, 67111.70254582335, 243934.88760267833, 96746.99336415798]
    assert [one.values["bits_per_byte,none"] for one in found] == pytest.approx(bits, rel=1e-5)
    assert [one.values["word_perplexity,none"] for one in found] == pytest.approx(words, rel=1e-4)


def test_samples_are_drawn_by_the_seed_or_listed(judge, live_model):
    listed = judge({"perplexity": "rows.jsonl", "samples": [2, 0]}).evaluate(live_model)
    assert [one.doc_id for one in listed.documents] == [0, 2]
    task = {"perplexity": "rows.jsonl", "samples": 2}
    drawn = {judge(task, seed).contents()[0].documents for seed in range(8)}
    assert len(drawn) > 1
    with pytest.raises(GenomeError, match=r"tasks\[0\].samples: 3 is outside \[0, 2\]"):
        judge({"perplexity": "rows.jsonl", "samples": [3]}).prepare()


def test_scores_stand_on_what_the_file_holds_and_not_on_its_name(judge, tmp_path):
    rows, task = tmp_path / "rows.jsonl", {"perplexity": {"file": "rows.jsonl", "name": "x"}}
    before = judge(task).identity()
    rows.rename(tmp_path / "other.jsonl")
    assert judge({"perplexity": {"file": "other.jsonl", "name": "x"}}).identity() == before
    rows.write_text('{"text": "another"}\n')
    assert judge(task).identity() != before


def test_paragraphs_are_joined_while_there_is_room(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\nthree\r\n \r\nfour, far too long\n\nfive\n")
    settings = PerplexitySettings(file=str(tmp_path / "a.txt"), chunk_bytes=14)
    assert texts_of(settings) == ["one\ntwo\n\nthree", "four, far too long", "five\n"]
    (tmp_path / "a.txt").write_text("one\ntwö\n\nthree")  # a byte more
    assert texts_of(settings) == ["one\ntwö", "three"]


def test_documents_longer_than_the_context_are_told_and_scored(judge, live_model, tmp_path):
    text = " ".join(TEXTS * 400)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": text}) + "\n")
    evaluator = judge({"perplexity": "rows.jsonl"})
    (told,) = evaluator.warnings(live_model.tokenizer, live_model.module.config)
    assert "1 of the first 1 documents of task 'rows.jsonl' do not fit the " in told
    assert math.isfinite(evaluator.evaluate(live_model).metrics[0].value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"", "'a.txt' holds no text"),
        ("a.txt", b" \n\n ", "'a.txt' holds no text"),
        ("a.txt", b"one\ntw\xff\nthree\n", "line 2 of 'a.txt' is no text in UTF-8"),
        ("a.txt", b"one\n\ntwo\0", "line 3 of 'a.txt' holds zero bytes, no text"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": ', "line 3 of 'a.jsonl' is no JSON"),
        ("a.jsonl", b'{"txt": "a"}\n', "line 1 of 'a.jsonl' has no text under 'text'"),
        ("a.jsonl", b'["a"]\n', "line 1 of 'a.jsonl' has no text under 'text'"),
        ("a.jsonl", b'{"text": " "}\n', "line 1 of 'a.jsonl' has no text under 'text'"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "line 1 of 'a.jsonl' holds half of a character"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(judge, tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GenomeError) as raised:
        judge({"perplexity": name}).prepare()
    assert str(raised.value).startswith(f"tasks[0].perplexity: {sentence}")


def test_what_is_no_regular_file_is_refused(judge, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe", "absent"):
        with pytest.raises(GenomeError, match=rf"tasks\[0\].perplexity: .*'{name}'"):
            judge({"perplexity": name}).prepare()


def test_a_model_with_another_tokenizer_is_read_by_that_one(judge, live_model):
    evaluator = judge({"perplexity": "rows.jsonl"})
    before = evaluator.evaluate(live_model)
    other = replace(live_model, tokenizer=copy.deepcopy(live_model.tokenizer))
    other.tokenizer.bos_token = None
    after = evaluator.evaluate(other)
    assert after == judge({"perplexity": "rows.jsonl"}).evaluate(other) != before


def test_a_perplexity_beyond_all_numbers_fails_where_it_is_read_and_is_left_out_elsewhere(
    judge, live_model, tmp_path
):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "qzx" * 900}) + "\n")
    found = judge({"perplexity": "rows.jsonl"}).evaluate(live_model)
    assert [metric.key.metric for metric in found.metrics] == ["bits_per_byte"]
    assert [list(one.values) for one in found.documents] == [["bits_per_byte,none"]]
    with pytest.raises(EvaluationError, match="is inf, expected a finite number"):
        judge({"perplexity": "rows.jsonl", "metric": "word_perplexity"}).evaluate(live_model)


def test_a_broken_model_fails_as_a_candidate(judge, live_model):
    with torch.no_grad():
        next(live_model.module.parameters()).fill_(math.nan)
    with pytest.raises(EvaluationError, match="is nan, expected a finite number"):
        judge({"perplexity": "rows.jsonl"}).evaluate(live_model)
