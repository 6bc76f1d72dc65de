"""What tasks that ask teach a search by gradient, and what such a search makes of it."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.evaluators.asking import language_gate
from evomerge.evaluators.composite import evaluator_for
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from evomerge.merging.live_model import LiveModel
from evomerge.nouns.events import TrialFinished
from evomerge.optimizers.gradient.training_section import training_of
from evomerge.run.recorded_run import load_run
from evomerge.training import losses
from evomerge.training.passes import Pass, TaughtTokens, Text
from tests.end_to_end.conftest import WORDS
from tests.tiny_models import tiny_family, tiny_reward_model

TEXTS = [" ".join((WORDS * 2)[i : i + 9]) for i in range(8)]
OPTIONS = {"a": "dog", "b": "fox", "c": "jugs"}
TASKS = {
    "perplexity": {"perplexity": "texts.jsonl"},
    "divergence": {"divergence": {"teachers": {"models/model_1": "texts.jsonl"}, "device": "cpu"}},
    "exact": {"exact": {"file": "answers.json", "max_tokens": 6}},
    "choice": {"choice": {"file": "options.json", "max_tokens": 3}},
    "abstain": {"abstain": {"file": "options.json", "max_tokens": 3}},
    "reward": {"reward": {"file": "prompts.json", "model": "reward", "max_tokens": 4}},
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """Models and files of every kind; tests are run there."""
    path = tmp_path_factory.mktemp("lessons")
    tiny_family(path / "models")
    tiny_reward_model(path / "reward")
    rows = {
        "answers": [{"question": text, "answer": WORDS[i]} for i, text in enumerate(TEXTS)],
        "options": [
            {"question": text, "choices": OPTIONS, "answer": "abc"[i % 3]}
            for i, text in enumerate(TEXTS)
        ],
        "prompts": [{"prompt": text} for text in TEXTS],
    }
    for name, own in rows.items():
        (path / f"{name}.json").write_text(json.dumps({"dev": own}))
    (path / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    (path / "letters.py").write_text("def count(model, documents):\n    return 1.0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


@pytest.fixture
def model(folder) -> LiveModel:
    module = AutoModelForCausalLM.from_pretrained(folder / "models/model_2").eval()
    return LiveModel(module, AutoTokenizer.from_pretrained(folder / "models/model_2"))


def made(kind, **more):
    task = Task.model_validate({**TASKS[kind], **more})
    return evaluator_for([task], EvaluationBlock(), ENGINES["transformers"])


def test_a_text_is_learned_as_it_is_scored(model):
    evaluator = made("perplexity")
    documents = evaluator.evaluate(model).documents
    for document, question, text in zip(documents, evaluator.questions(model), TEXTS, strict=True):
        (answer,) = question.answers
        read = Text((*answer.context, *answer.tokens), len(answer.context))
        batch = Pass.of([read], torch.device("cpu"))
        with torch.no_grad():
            found = losses.likelihoods(batch.logits(model.module), batch.wanted, [read.n_read])
        bits = -float(found) / math.log(2) / len(text.encode())
        assert bits == pytest.approx(document.values["bits_per_byte,none"], rel=1e-4)
        assert question.document == (document.task, document.doc_id)


def test_a_teacher_is_learned_as_it_is_scored(model):
    evaluator = made("divergence")
    documents = evaluator.evaluate(model).documents
    for document, question in zip(documents, evaluator.questions(model), strict=True):
        own = question.taught
        exercise = TaughtTokens.of(own.tokens, own.said(own.tokens), own.temperature, 1.0)
        batch = Pass.of(exercise.texts, torch.device("cpu"))
        with torch.no_grad():
            logits = batch.logits(model.module)
        student = logits.gather(1, exercise.tokens.long())
        found = losses.divergence(student, exercise.logits, own.temperature) / len(logits)
        assert float(found) == pytest.approx(document.values["divergence,none"], rel=1e-3)


@pytest.mark.parametrize(("kind", "reply"), [("exact", WORDS), ("choice", "abcabcab")])
def test_a_right_reply_is_one_that_the_kind_itself_finds_right(kind, reply, model):
    evaluator = made(kind)
    evaluator.prepare()
    for question, right in zip(evaluator.questions(model), reply, strict=False):
        target = question.target
        texts = [model.tokenizer.decode(target.form(i).tokens) for i in range(target.n_forms)]
        bare = [re.sub("<unk>|</s>", "", text).strip() for text in texts]  # it knows no newline
        assert {*bare} == {right}
        assert target.is_right()
        assert question.prompt == target.form(0).context
        assert question.max_tokens == TASKS[kind][kind]["max_tokens"]


def test_a_right_reply_goes_through_the_gate_of_its_task(model, monkeypatch):
    given = {"exact": {**TASKS["exact"]["exact"], "language": "ja"}}
    evaluator = evaluator_for(
        [Task.model_validate(given)], EvaluationBlock(), ENGINES["transformers"]
    )
    targets = [one.target for one in evaluator.questions(model)]
    assert all(one.is_right() for one in targets)  # a word is in any language
    monkeypatch.setattr(language_gate, "other_language", lambda text, wanted: "en")
    assert not any(one.is_right() for one in targets)


def test_an_option_is_learned_where_a_second_reply_decides(model):
    question = made("abstain").questions(model)[1]
    texts = [model.tokenizer.decode(one.tokens) for one in question.answers]
    assert [text.strip() for text in texts] == [*OPTIONS]
    assert (question.right, question.prompt) == ((1,), None)


def test_of_what_only_its_value_tells_the_best_reply_is_learned(model):
    evaluator = made("reward")
    documents = evaluator.evaluate(model).documents
    for question, document in zip(evaluator.questions(model), documents, strict=True):
        assert (question.target, question.answers) == (None, ())
        assert document.written
        assert question.metric in document.values


def run(folder, name, task, *, start="average"):
    genome = {
        "genome": {
            "models": ["models/model_1", "models/model_2"],
            "base_model": "models/base",
            "merge_method": "task_arithmetic",
        },
        "tasks": [task],
        "optimizer": {
            "name": "gradient",
            "epochs": 4,
            "batch_size": 4,
            "learning_rate": 0.1,
            "start": start,
        },
        "baselines": ["models", "average"],
    }
    file = folder / f"{name}.yml"
    file.write_text(yaml.safe_dump(genome))
    loaded, source = load_genome(file, ())
    compiled = compile_genome(loaded, source, Permissions(code=True), folder / f"run_{name}")
    events = list(search_for(compiled, folder / f"run_{name}").run())
    return [event for event in events if isinstance(event, TrialFinished)]


@pytest.mark.slow  # a run of each
@pytest.mark.parametrize("kind", sorted(TASKS))
def test_gradient_learns_what_is_scored_and_ends_no_worse_than_it_began(kind, folder):
    trials = run(folder, kind, TASKS[kind])
    scores = {str(one.candidate.origin): one.scores[0].value for one in trials}
    began = next(score for origin, score in scores.items() if "average" in origin)
    trained = [score for origin, score in scores.items() if "epoch" in origin]
    epochs = training_of(load_run(folder / f"run_{kind}"))
    told = [epoch.lesson.losses["nll"] for epoch in epochs]
    assert max(trained) >= began
    if kind in ("perplexity", "divergence"):  # of the others one word is right, or none
        assert max(trained) > began
    if kind != "reward":  # whose lessons change with what was answered
        assert min(told) < told[0]
