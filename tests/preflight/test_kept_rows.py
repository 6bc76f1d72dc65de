"""A geometric mixture that has to run its models in every trial is told before the run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from evomerge.checks.context import CheckContext
from evomerge.checks.kept_rows import kept_rows
from evomerge.checks.rules import RULES
from evomerge.evaluators.task_facts import PartFacts, TaskFacts
from evomerge.genome.schema import Genome
from evomerge.models.facts import ModelFacts
from evomerge.nouns.evaluation import MetricKey
from tests.contract.merge_space_cases import build

MODELS = ["org/one", "org/other"]


def found(n_documents, mean="geometric", max_new_tokens=0):
    block = {"models": MODELS, "space": {"name": "mixture", "mean": mean}}
    genome = Genome.model_validate({"genome": block, "tasks": ["any"]})
    part = PartFacts("any", n_documents, n_documents, 4.0, 0, False, max_new_tokens)
    facts = TaskFacts(MetricKey("any", "acc", "none"), True, (part,))
    evaluator = SimpleNamespace(facts=lambda: (facts,))
    models = [ModelFacts(name=name, config={"vocab_size": 32_000}) for name in MODELS]
    space = build(genome.genome)
    context = CheckContext(
        genome, models=models, merge_space=space, evaluators={"tasks": evaluator}
    )
    return [str(one) for one in kept_rows(context)]


def test_as_soon_as_the_rows_are_more_than_is_kept():
    assert kept_rows in RULES
    (told,) = found(1100)  # 1100 * 4 rows * 2 models * 32,000 tokens * 4 bytes
    assert told.startswith("genome.space.mean: a geometric mean takes the whole vocabulary")
    assert "1.1 GB are kept: every trial runs all 2 models" in told


@pytest.mark.parametrize(
    ("n_documents", "more"),
    [(1000, {}), (9000, {"mean": "arithmetic"}), (9000, {"max_new_tokens": 8})],
)
def test_where_there_is_room_or_nothing_is_kept_anyway_nothing_is_told(n_documents, more):
    assert found(n_documents, **more) == []
