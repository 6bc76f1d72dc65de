"""Real evaluations are compared by their documents: groups and perplexities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evomerge.evaluators.task_contents import members_of
from evomerge.foundations.seeding import stream
from evomerge.nouns.comparison import compare
from evomerge.nouns.objective import Objective
from tests.evaluators.tiny_tasks import N_DOCUMENTS


@pytest.fixture
def compared(make, live_model):
    """The comparison of a model with another one on a task."""

    def comparison(task):
        evaluator = make(task)
        first = evaluator.evaluate(live_model)
        with torch.no_grad():
            for parameter in live_model.module.parameters():
                parameter.mul_(1.5)
        second = evaluator.evaluate(live_model)
        rule = Objective("weighted_sum", evaluator.tasks, evaluator.prepare())
        members = members_of(evaluator.contents())
        (found,) = compare(rule, first, second, stream(0, "test"), members)
        return found, first, second

    return comparison


def per_document(evaluation, metric):
    return np.array([d.values[metric] for d in evaluation.documents if metric in d.values])


def test_a_group_is_compared_over_the_documents_of_its_members(compared, make):
    assert members_of(make("tiny_group").contents()) == {
        "tiny_group": ["tiny_choice", "tiny_other_choice"]
    }
    found, first, second = compared("tiny_group")
    differences = per_document(first, "acc,none") - per_document(second, "acc,none")
    halves = differences.reshape(2, N_DOCUMENTS)
    error = np.hypot(*(half.std(ddof=1) / np.sqrt(N_DOCUMENTS) for half in halves)) / 2
    assert found.n == 2 * N_DOCUMENTS
    assert found.difference == pytest.approx(differences.mean())
    assert found.stderr == pytest.approx(error)


def test_a_perplexity_of_lm_eval_is_made_of_its_documents(compared):
    found, first, second = compared({"name": "tiny_likelihood", "metric": "perplexity"})
    assert found.difference == second.metrics[0].value - first.metrics[0].value
    assert found.stderr > 0


def test_the_contents_are_the_documents_that_are_scored(make):
    evaluator = make(
        {"name": "tiny_choice", "limit": 5, "num_fewshot": 2},
        {"name": "tiny_likelihood", "metric": "acc"},
    )
    some, every = evaluator.contents()
    assert (len(some.documents), len(every.documents)) == (5, N_DOCUMENTS)
    assert [row for _, row in some.documents] == [row for _, row in every.documents[:5]]
    assert (len(some.examples), len(every.examples)) == (16, 0)
