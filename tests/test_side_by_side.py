"""Models scored one after the other: each is gone before the next one is there."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from evomerge.compiler.eval_plan import TasksGiven, eval_plan
from evomerge.foundations.permissions import Permissions
from evomerge.run.side_by_side import side_by_side
from tests.evaluators.tiny_tasks import write_tasks
from tests.tiny_models import tiny_model

TASKS = {"lm_eval": "tiny_choice", "perplexity": "perplexity=text.txt"}
STAGES = """
tasks: [{perplexity: text.txt}]
stages:
  - name: first
    genome: {models: [m0, m1], merge_method: linear}
  - name: last
    genome: {models: [{stage: first}, m1], merge_method: linear}
    holdout: [{perplexity: {name: last_text, file: text.txt}}]
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_a_model_that_was_scored_is_let_go(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a text\n")
    (tmp_path / "tasks").mkdir()
    write_tasks(tmp_path / "tasks")
    for index in range(2):
        tiny_model(tmp_path / f"m{index}", seed=index)
    given = TasksGiven((TASKS[kind],), ("tasks",), settings={"limit": 2})
    plan = eval_plan(["m0", "m1"], given, Permissions(), lambda finding: None)
    (evaluator,) = plan.evaluators.values()
    scored, evaluate = [], evaluator.evaluate

    def watched(model, *rest):
        gc.collect()
        assert all(module() is None for module in scored)  # the one before has made room
        scored.append(weakref.ref(model.module))
        return evaluate(model, *rest)

    monkeypatch.setattr(evaluator, "evaluate", watched)
    for found in side_by_side(plan.entrants, plan.evaluators, lambda what, share: None):
        assert found.failures == []
    assert len(scored) == 2


def test_of_a_genome_with_stages_the_tasks_of_the_last_are_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a text\n")
    (tmp_path / "stages.yml").write_text(STAGES)
    plan = eval_plan([], TasksGiven(genome=Path("stages.yml")), Permissions(), print)
    assert list(plan.evaluators) == ["last_text"]
