from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.evaluators.lm_eval import LmEval
from evomerge.evaluators.lm_eval.requests import Requests
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from evomerge.merging.live_model import LiveModel
from evomerge.training import losses
from evomerge.training.passes import Pass, Text
from tests.evaluators.tiny_tasks import write_tasks
from tests.rounding import rounding
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    (folder / "tasks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        yield write_tasks(folder / "tasks"), tiny_model(folder / "model", drift=0.2)


@pytest.fixture
def model(place) -> LiveModel:
    module = AutoModelForCausalLM.from_pretrained(place[1]).eval()
    return LiveModel(module, AutoTokenizer.from_pretrained(place[1]))


def evaluator_of(place, *names: str, engine: str = "fast", **fields) -> LmEval:
    tasks = [Task(name=name, **fields) for name in names]
    return LmEval(
        tasks, EvaluationBlock(engine=engine), ENGINES["transformers"], search_path=[str(place[0])]
    )


def rows(place: tuple[Path, Path]) -> list[dict]:
    return [json.loads(line) for line in (place[0] / "test.jsonl").read_text().splitlines()]


def likelihood_of(model, answers):
    """Of each answer as a trainer reads it."""
    texts = [Text((*one.context, *one.tokens), len(one.context)) for one in answers]
    batch = Pass.of(texts, torch.device("cpu"))
    with torch.no_grad():
        logits = batch.logits(model.module)
    return losses.likelihoods(logits, batch.wanted, [text.n_read for text in texts])


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_options_are_compared_as_lm_eval_compares_them(place, model, metric):
    evaluator = evaluator_of(place, "tiny_choice", metric=metric)
    evaluation = evaluator.evaluate(model)
    questions = evaluator.questions(model)
    credits, right = [], [row["answer"] for row in rows(place)]
    for question in questions:
        scores = likelihood_of(model, question.answers) / torch.tensor(question.lengths)
        credits.append(float(int(scores.argmax()) in question.right))
    assert [one.right for one in questions] == [(index,) for index in right]
    assert credits == [one.values[f"{metric},none"] for one in evaluation.documents]
    places = [(one.task, one.doc_id) for one in evaluation.documents]
    assert [one.document for one in questions] == places
    assert {one.metric for one in questions} == {f"{metric},none"}


def test_the_likelihood_of_a_scored_text_is_lm_evals(place, model):
    evaluator = evaluator_of(place, "tiny_likelihood")
    found = likelihood_of(model, [one.answers[0] for one in evaluator.questions(model)])
    leaf = evaluator.loaded()[0].leaves[0]
    responses = Requests([leaf]).ask(evaluator.language_model_for(model))[leaf.task]
    assert found.tolist() == pytest.approx([one[0] for one in responses], abs=1e-4)


def test_a_written_answer_has_its_target_in_every_form_the_tasks_own_first(place, model):
    evaluator = evaluator_of(place, "tiny_text", metric="exact_match,whole")
    questions = evaluator.questions(model)
    targets = [question.target for question in questions]
    forms = [[target.form(index) for index in range(target.n_forms)] for target in targets]
    read = [[model.tokenizer.decode(one.tokens) for one in own] for own in forms]
    assert all(
        one.context == q.prompt for q, own in zip(questions, forms, strict=True) for one in own
    )
    stops = evaluator.loaded()[0].leaves[0].task.config.generation_kwargs["until"]
    assert len(read[0]) >= 3 * len(stops)
    for row, own in zip(rows(place), read, strict=True):
        assert own[0].strip() == f"{row['target']}{stops[0]}"
    prompts = [model.tokenizer.decode(one.prompt) for one in questions]
    assert all(prompt.endswith("then") for prompt in prompts)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_what_was_written_is_kept_as_tokens_with_what_ended_it(place, model, engine):
    """Read again, every token is the likeliest one: the model itself wrote it."""
    evaluator = evaluator_of(place, "tiny_text", metric="exact_match,first-letter", engine=engine)
    documents = evaluator.evaluate(model).documents
    questions = evaluator.questions(model)
    for document, question in zip(documents, questions, strict=True):
        tokens = (*question.prompt, *document.written)
        with torch.no_grad():
            logits = model.module(torch.tensor([tokens])).logits[0]
        likeliest = logits.argmax(-1)[len(question.prompt) - 1 : -1]
        assert likeliest.tolist() == list(document.written)
    ended = [one for one in documents if len(one.written) < 12]
    texts = [model.tokenizer.decode(one.written) for one in ended]
    assert ended
    assert all("e" in text or text.endswith(model.tokenizer.eos_token) for text in texts)


def test_a_text_that_is_scored_whole_is_its_own_answer(place, model):
    evaluator = evaluator_of(place, "tiny_rolling", metric="bits_per_byte", limit=3)
    for one in evaluator.questions(model):
        assert len(one.answers[0].context) == 1
        assert "jump over the lazy dog" in model.tokenizer.decode(one.answers[0].tokens)


def test_padding_changes_no_logits(place, model):
    texts = [Text(tuple(range(5, 5 + n)), 1) for n in (3, 9, 6)]
    together = Pass.of(texts, torch.device("cpu")).logits(model.module)
    alone = [Pass.of([text], torch.device("cpu")).logits(model.module) for text in texts]
    width = model.module.config.intermediate_size * model.module.config.num_hidden_layers
    order = rounding(together.detach().numpy(), width)
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=order)


@pytest.mark.parametrize("filter_", ["whole", "first-letter"])
def test_a_target_that_the_task_itself_would_not_score_is_none(place, model, filter_):
    """As a placeholder, or a program's tests, in the place of a target."""
    evaluator = evaluator_of(place, "tiny_text", metric=f"exact_match,{filter_}")
    (task,) = (leaf.task for entry in evaluator.loaded() for leaf in entry.leaves)
    assert not any(question.target.is_judged for question in evaluator.questions(model))
    task.process_results = lambda doc, results: {"exact_match": 0.0}
    questions = evaluator.questions(model)
    assert all(question.target.is_judged for question in questions)
    assert not any(question.target.is_right() for question in questions)
    task.process_results = lambda doc, results: {"exact_match": float(len(results[0]) == 1)}
    targets = [row["target"] for row in rows(place)]
    kept = [question.target.is_right() for question in evaluator.questions(model)]
    assert kept == [filter_ == "first-letter" or len(target) == 1 for target in targets]
