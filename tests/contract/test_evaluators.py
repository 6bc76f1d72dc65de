"""What every evaluator of the table must show."""

from __future__ import annotations

import math

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.evaluators import EVALUATORS
from evomerge.foundations.errors import GenomeError
from evomerge.genome.task_blocks import Evaluation, Task
from evomerge.inference import ENGINES
from evomerge.merging.live_model import LiveModel
from tests.evaluators.tiny_tasks import N_DOCUMENTS, write_tasks
from tests.tiny_models import tiny_model

TASKS = [
    Task(name="tiny_choice"),
    Task(name="tiny_text", metric="exact_match,whole"),
    Task(name="tiny_likelihood", metric="perplexity"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("contract_tasks"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tiny_model(tmp_path_factory.mktemp("contract_model") / "tiny", drift=0.2)
    module = AutoModelForCausalLM.from_pretrained(path).eval()
    return LiveModel(module, AutoTokenizer.from_pretrained(path))


@pytest.fixture(params=sorted(EVALUATORS))  # sorted: xdist sees one order
def make(request, folder):
    def build(tasks=tuple(TASKS), seed=0):
        kind, place = EVALUATORS[request.param], [str(folder)]
        return kind(tasks, Evaluation(), ENGINES["transformers"], search_path=place, seed=seed)

    return build


def test_prepare_gives_one_key_per_task_in_order(make):
    assert [key.task for key in make().prepare()] == [task.name for task in TASKS]


def test_metrics_are_numbers_with_direction_and_count(make, model):
    evaluator = make()
    evaluation = evaluator.evaluate(model)
    assert tuple(metric.key for metric in evaluation.metrics[: len(TASKS)]) == evaluator.prepare()
    for metric in evaluation.metrics:
        assert type(metric.value) is float
        assert math.isfinite(metric.value)
        assert metric.stderr is None or (type(metric.stderr) is float and metric.stderr >= 0)
        assert type(metric.higher_is_better) is bool
        assert metric.n == N_DOCUMENTS
    assert [metric.higher_is_better for metric in evaluation.metrics[:3]] == [True, True, False]


def test_every_document_is_reported_with_its_values(make, model):
    evaluation = make().evaluate(model)
    names = [(document.task, document.doc_id) for document in evaluation.documents]
    assert sorted(names) == sorted((task.name, i) for task in TASKS for i in range(N_DOCUMENTS))
    for document in evaluation.documents:
        assert document.values
        assert all(type(value) is float for value in document.values.values())


def test_the_same_model_twice_gives_the_same_evaluation(make, model):
    evaluator = make()
    assert evaluator.evaluate(model) == evaluator.evaluate(model) == make().evaluate(model)


def test_the_model_is_left_as_it_was(make, model):
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    vocabulary = model.tokenizer.get_vocab()
    make().evaluate(model)
    assert all(before[name].equal(tensor) for name, tensor in model.module.state_dict().items())
    assert model.tokenizer.get_vocab() == vocabulary


def test_an_unknown_metric_is_refused_with_the_nearest(make):
    evaluator = make([Task(name="tiny_choice", metric="acc_nrom")])
    with pytest.raises(GenomeError, match=r"tasks\[0\].metric: .*did you mean 'acc_norm"):
        evaluator.prepare()


@pytest.mark.slow  # the nearest name is sought among all tasks there are
def test_an_unknown_task_is_refused_with_the_nearest(make):
    with pytest.raises(GenomeError, match=r"tasks\[0\].name: .*did you mean 'tiny_choice'"):
        make([Task(name="tiny_chioce")]).prepare()
