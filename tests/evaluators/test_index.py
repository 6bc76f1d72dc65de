"""Of lm-eval's own task files only those are read that a name needs; what is found is the same."""

from __future__ import annotations

import random

import pytest

from evomerge.evaluators.lm_eval import index
from evomerge.evaluators.lm_eval.index import TaskIndex

NAMED = ("arc_easy", "gsm8k", "mmlu", "leaderboard", "bbh")


def described(manager, name, seen=()):
    """A name and all that it stands for."""
    entry = manager.task_index.get(name)
    if entry is None or name in seen:
        return name
    below = index._names_in((entry.cfg or {}).get("task")) if entry.kind.name == "GROUP" else []
    if entry.kind.name == "TAG":
        below = sorted(entry.tags)
    parts = [described(manager, one, (*seen, name)) for one in below]
    return entry.kind.name, entry.yaml_path, entry.cfg, sorted(entry.tags), parts


@pytest.fixture
def never_full(monkeypatch):
    def refuse(folders):
        raise AssertionError("every task file is read")

    monkeypatch.setattr(index, "_full_manager", refuse)


@pytest.mark.usefixtures("never_full")
@pytest.mark.parametrize("name", ["arc_easy", pytest.param("gsm8k", marks=pytest.mark.slow)])
def test_a_task_of_lm_eval_is_found_without_reading_all_of_them(name):
    entry = TaskIndex([]).manager_for(name).task_index[name]
    assert (entry.cfg["task"], entry.kind.name) == (name, "TASK")


@pytest.mark.usefixtures("never_full")
def test_the_users_own_task_wins_over_one_of_the_same_name(tmp_path):
    (tmp_path / "own.yaml").write_text("task: arc_easy\ndataset_path: mine\n")
    found = TaskIndex([str(tmp_path)])
    found.manager_for("arc_challenge")  # beside lm-eval's arc_easy
    assert found.manager_for("arc_easy").task_index["arc_easy"].cfg["dataset_path"] == "mine"


@pytest.mark.usefixtures("never_full")
def test_the_members_of_a_users_group_are_looked_for(tmp_path):
    (tmp_path / "group.yaml").write_text("group: both\ntask: [arc_easy, gsm8k]\n")
    manager = TaskIndex([str(tmp_path)]).manager_for("both")
    assert {"both", "arc_easy", "gsm8k"} <= set(manager.task_index)


@pytest.mark.slow
def test_names_stand_for_what_they_do_when_everything_is_read():
    full = index._full_manager(())
    draw = random.Random(0)
    rare = [name for name in full.all_tasks if full.task_index[name].kind.name != "TASK"]
    names = [*NAMED, *draw.sample(rare, 60), *draw.sample(full.all_subtasks, 60)]
    for name in names:
        assert described(TaskIndex([]).manager_for(name), name) == described(full, name)
