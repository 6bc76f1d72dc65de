from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.evaluators.lm_eval import LmEval
from evomerge.evaluators.lm_eval.answers import answers_of
from evomerge.evaluators.lm_eval.requests import Requests
from evomerge.genome.tasks import Evaluation, Task
from evomerge.merging.live_model import LiveModel
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


def evaluator_of(place, *names: str, **fields) -> LmEval:
    tasks = [Task(name=name, **fields) for name in names]
    return LmEval(tasks, Evaluation(), search_path=[str(place[0])])


def rows(place: tuple[Path, Path]) -> list[dict]:
    return [json.loads(line) for line in (place[0] / "test.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["tiny_choice", "tiny_likelihood"])
def test_the_likelihood_of_a_right_answer_is_what_lm_eval_scores(place, model, name):
    evaluator = evaluator_of(place, name)
    evaluation = evaluator.evaluate(model)
    answers = answers_of(evaluator, model)
    texts = [Text((*one.context, *one.answer), len(one.context)) for one in answers]
    batch = Pass.of(texts, torch.device("cpu"))
    with torch.no_grad():
        each = batch.logits(model.module).log_softmax(-1)
    each = each.gather(1, batch.wanted[:, None])[:, 0]
    found = [float(part.sum()) for part in each.split([text.n_read for text in texts])]
    leaf = evaluator.loaded()[0].leaves[0]
    requests = leaf.task.instances
    responses = Requests([leaf]).ask(evaluator.language_model_for(model))[leaf.task]
    likelihoods = {id(r): found[0] for r, found in zip(requests, responses, strict=True)}
    if name == "tiny_choice":
        gold = [row["answer"] for row in rows(place)]
        requests = [r for r in requests if r.idx == gold[r.doc_id]]
    assert found == pytest.approx([likelihoods[id(r)] for r in requests], abs=1e-4)
    assert len(evaluation.metrics) >= 1


def test_a_generated_answer_is_the_target_behind_a_blank(place, model):
    evaluator = evaluator_of(place, "tiny_text", metric="exact_match,whole")
    answers = answers_of(evaluator, model)
    targets = [row["target"] for row in rows(place)]
    read = [model.tokenizer.decode(one.answer).strip() for one in answers]
    assert read == [target.strip() for target in targets]
    prompts = [model.tokenizer.decode(one.context) for one in answers]
    assert all(prompt.endswith("then") for prompt in prompts)


def test_a_text_that_is_scored_whole_is_its_own_answer(place, model):
    for one in answers_of(
        evaluator_of(place, "tiny_rolling", metric="bits_per_byte", limit=3), model
    ):
        assert len(one.context) == 1
        assert "jump over the lazy dog" in model.tokenizer.decode(one.answer)


def test_padding_changes_no_logits(place, model):
    texts = [Text(tuple(range(5, 5 + n)), 1) for n in (3, 9, 6)]
    together = Pass.of(texts, torch.device("cpu")).logits(model.module)
    alone = [Pass.of([text], torch.device("cpu")).logits(model.module) for text in texts]
    width = model.module.config.intermediate_size * model.module.config.num_hidden_layers
    order = rounding(together.detach().numpy(), width)
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=order)


def test_each_text_counts_by_its_share_whatever_its_length():
    texts = [Text((1, 2, 3, 4, 5), 1, 2.0), Text((1, 2), 1, 1.0)]
    shares = Pass.of(texts, torch.device("cpu")).shares
    assert shares.tolist() == [0.5, 0.5, 0.5, 0.5, 1.0]
