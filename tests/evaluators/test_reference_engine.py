"""Tasks scored row by row have the scores that the fast engine gives them."""

import pytest

from evomerge.evaluators.lm_eval.evaluator import LmEval
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES

TASKS = ("tiny_choice", "tiny_text", "tiny_likelihood", "tiny_rolling")
METRICS = {"tiny_text": "exact_match,whole", "tiny_rolling": "word_perplexity"}


@pytest.fixture(scope="module")
def scored(task_folder, model_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evomerge.merging.live_model import LiveModel

    def by(backend):
        module = AutoModelForCausalLM.from_pretrained(model_folder).eval()
        evaluator = LmEval(
            [Task(name=name, metric=METRICS.get(name)) for name in TASKS],
            EvaluationBlock(backend=backend),
            ENGINES[backend],
            search_path=[str(task_folder)],
        )
        return evaluator.evaluate(LiveModel(module, AutoTokenizer.from_pretrained(model_folder)))

    return by("reference"), by("transformers")


def test_every_document_is_answered_alike(scored):
    own, fast = scored
    assert {document.task for document in own.documents} == {*TASKS}
    for one, other in zip(own.documents, fast.documents, strict=True):
        assert (one.task, one.doc_id, one.answer) == (other.task, other.doc_id, other.answer)
        assert one.values == pytest.approx(other.values, rel=1e-4)


def test_every_metric_is_alike(scored):
    own, fast = scored
    for one, other in zip(own.metrics, fast.metrics, strict=True):
        assert (one.key, one.n) == (other.key, other.n)
        assert one.value == pytest.approx(other.value, rel=1e-4)
