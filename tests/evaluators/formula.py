"""A judge for tests: scores that a formula computes from the weights, with no token read.

It stands in the table beside the others where :func:`with_formula` is entered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import pytest

from evomerge.evaluators import EVALUATORS
from evomerge.evaluators.base import Evaluator
from evomerge.evaluators.kind_of_task import TaskSettings
from evomerge.evaluators.task_contents import TaskContents
from evomerge.evaluators.task_facts import PartFacts, TaskFacts
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey

N_DOCUMENTS = 12
_LABEL = "value,none"


@contextmanager
def with_formula() -> Iterator[None]:
    """Has the table of evaluators hold this one, under ``formula:``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EVALUATORS._targets, "formula", "tests.evaluators.formula:Formula")
        yield


class FormulaSettings(TaskSettings):
    curve: Literal["wave", "bowl"]  # higher is better of a wave, lower of a bowl
    phase: float = 0.0


class Formula(Evaluator):
    """``formula: wave`` or ``formula: bowl``; documents are steps along the curve."""

    Settings = FormulaSettings
    reads = frozenset({"limit"})

    def prepare(self):
        self.own = [FormulaSettings.model_validate(task.given) for task in self.tasks]
        return tuple(MetricKey(task.name, "value", "none") for task in self.tasks)

    def evaluate(self, model, deadline=None, batch_divisor=1):
        found, documents = [], []
        for facts, values in zip(self.facts(), self._values(model), strict=True):
            n, values = facts.n_documents, values[: facts.n_documents]
            documents += (Document(facts.key.task, i, {_LABEL: v}) for i, v in enumerate(values))
            error = float(np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else None
            mean = float(np.mean(values))
            found.append(Metric(facts.key, mean, error, n, facts.higher_is_better))
        return Evaluation(tuple(found), tuple(documents))

    def first_documents(self, model, deadline=None):
        return self.evaluate(model, deadline).metrics

    def let_go(self):
        """It keeps none."""

    def identity(self):
        return {task.name: repr((task.given, task.limit)) for task in self.tasks}

    def facts(self):
        def part(task):
            n = min(task.limit or N_DOCUMENTS, N_DOCUMENTS)
            return PartFacts(task.name, N_DOCUMENTS, n, 1.0, 0, False, 0)

        keys, curves = self.prepare(), [own.curve for own in self.own]
        return tuple(
            TaskFacts(key, curve == "wave", (part(task),))
            for task, key, curve in zip(self.tasks, keys, curves, strict=True)
        )

    def tokens_per_pass(self, device, longest):
        return 0

    def contents(self):
        return tuple(TaskContents(f.key.task, f.key.task, ()) for f in self.facts())

    def _values(self, model):
        weights = model.module.state_dict().values()
        sum_ = sum(float(one.double().abs().mean()) for one in weights if one.is_floating_point())
        for own in self.own:
            steps = [sum_ * (1 + step) + own.phase for step in range(N_DOCUMENTS)]
            yield [math.cos(x) if own.curve == "wave" else x * x for x in steps]
