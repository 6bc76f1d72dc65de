"""Models scored one after the other: each is gone before the next one is there."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch

from evomerge.compiler.entrants import NamedRecipe
from evomerge.compiler.eval_plan import TasksGiven, eval_plan, plan_of
from evomerge.executors.worker import Worker
from evomerge.foundations.errors import MergeError, OutOfMemoryError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.merging.live_model import LiveModel
from evomerge.recipe.plain import Recipe
from evomerge.run.side_by_side import Entrant, side_by_side
from tests.evaluators.formula import Formula, with_formula
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


class Counted:
    """Makes the same tiny module of every recipe but one, which cannot be merged."""

    def __init__(self):
        self.merged = []

    def merge(self, recipe, deadline=None):
        self.merged.append(recipe.config["models"][0]["model"])
        if self.merged[-1] == "broken":
            raise MergeError("shapes do not fit")
        return LiveModel(torch.nn.Linear(2, 2), None)

    def forget_structures(self, coming=None):
        """It keeps none."""


class Narrow(Formula):
    """Has room for no more than half a batch, and remembers what it was asked with."""

    asked = []  # noqa: RUF012  # of all of them

    def evaluate(self, model, deadline=None, batch_divisor=1):
        self.asked.append((self.tasks[0].name, batch_divisor))
        if batch_divisor < 2:
            raise OutOfMemoryError("no room")
        return super().evaluate(model, deadline, batch_divisor)


def test_each_is_merged_once_and_what_memory_one_task_took_the_next_one_knows(monkeypatch):
    merger, names = Counted(), ("one", "two")
    monkeypatch.setattr(Narrow, "asked", [])
    with with_formula():
        given = [{"formula": {"name": name, "curve": "wave"}} for name in names]
        tasks = [Task.model_validate(one) for one in given]
        evaluators = {task.name: Narrow([task], EvaluationBlock(), None) for task in tasks}
    entrants = [
        Entrant(
            name,
            Recipe({"merge_method": "linear", "models": [{"model": name}]}),
            lambda evaluators: Worker(merger, evaluators),
        )
        for name in ("m0", "broken", "m1")
    ]
    first, broken, last = side_by_side(entrants, evaluators, lambda what, share: None)
    assert merger.merged == ["m0", "broken", "m1"]
    assert Narrow.asked == [("one", 1), ("one", 2), ("two", 2)] * 2
    assert (first.failures, last.failures) == ([], [])
    assert broken.failures == ["merge: shapes do not fit"]
    assert [one.batch_divisor for one in first.outcomes.values()] == [2, 2]


def test_a_limit_that_is_given_takes_the_place_of_drawn_documents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jsonl").write_text('{"text": "a"}\n' * 9)
    genome = "genome: {models: [m0, m1], merge_method: linear}\ntasks: [x]\n"
    (tmp_path / "g.yml").write_text(
        f"{genome}holdout: [{{perplexity: text.jsonl, samples: [8, 7, 6]}}]\n"
    )
    for settings, n_documents in (({}, 3), ({"limit": 5}, 5)):
        given = TasksGiven(genome=Path("g.yml"), settings=settings)
        (facts,) = eval_plan([], given, Permissions(), print).facts
        assert facts.n_documents == n_documents


def test_a_winner_is_merged_by_the_seed_of_its_run(tmp_path, monkeypatch):
    recipe = Recipe({"merge_method": "linear", "models": [{"model": "m0"}], "dtype": "float32"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a text\n")
    given = TasksGiven(("perplexity=text.txt",), seed=3)
    named = [NamedRecipe("m0", recipe, "float32"), NamedRecipe("won", recipe, "float32", 7, 2)]
    found = plan_of(named, given, Permissions()).entrants
    assert [one.make_worker.seed for one in found] == [3, 7]
    assert found[1].make_worker.threads == 2


def test_of_a_genome_with_stages_the_tasks_of_the_last_are_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a text\n")
    (tmp_path / "stages.yml").write_text(STAGES)
    plan = eval_plan([], TasksGiven(genome=Path("stages.yml")), Permissions(), print)
    assert list(plan.evaluators) == ["last_text"]
