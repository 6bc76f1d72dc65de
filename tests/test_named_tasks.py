"""What ``--tasks`` takes: names, files, folders, other kinds, and what it says of mistakes."""

from __future__ import annotations

import pytest

from evomerge.compiler.named_tasks import named_tasks


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "own"
    (place / "deep").mkdir(parents=True)
    (place / "_template_yaml").write_text("task: hidden\n")
    (place / "one.yaml").write_text(
        "include: _template_yaml\ntask: one  # the first\nf: !function a.b\n"
    )
    (place / "deep" / "two.yml").write_text('"task": x\ntask: "two"\n')
    (place / "all.yaml").write_text("group: both\ntask:\n- one\n- two\n")
    return place


def found(*names, **settings):
    return named_tasks(names, settings)


def test_names_of_lm_eval_stand_for_themselves():
    named = found("arc_easy,hellaswag", " mmlu ", limit=7, num_fewshot=None)
    assert [task.name for task in named.tasks] == ["arc_easy", "hellaswag", "mmlu"]
    assert {task.limit for task in named.tasks} == {7}
    assert (named.search_path, named.problems) == ((), ())


def test_a_file_is_the_task_or_group_in_it(folder):
    named = found(str(folder / "one.yaml"), str(folder / "all.yaml"))
    assert [task.name for task in named.tasks] == ["one", "both"]
    assert named.search_path == (str(folder),)


def test_a_folder_is_every_task_in_it(folder):
    named = found(str(folder))
    assert [task.name for task in named.tasks] == ["two", "one"]
    assert named.search_path == (str(folder),)


def test_settings_of_a_kind_stand_in_braces():
    named = found("choice={file: a.json, split: test},arc_easy,exact=b.json", limit=3)
    assert [task.kind for task in named.tasks] == ["choice", "name", "exact"]
    assert named.tasks[0].given == {"file": "a.json", "split": "test"}
    assert found("choice={file: [}").problems


def test_a_setting_that_no_kind_has_is_told_as_in_a_genome():
    (problem,) = found("exact={file: a.json, max_token: 3},arc_easy").problems
    assert str(problem).startswith(
        "--tasks exact.max_token: unknown key 'max_token'; did you mean 'max_tokens'?"
    )


def test_other_kinds_stand_with_their_key(tmp_path):
    (task,) = found(f"perplexity={tmp_path}/text.txt", num_fewshot=5, limit=3).tasks
    assert (task.kind, task.given) == ("perplexity", f"{tmp_path}/text.txt")
    assert (task.num_fewshot, task.limit) == (None, 3)  # worked examples it does not read


@pytest.mark.parametrize("name", ["", ",", " , "])
def test_no_task_is_a_mistake(name):
    (problem,) = found(name).problems
    assert str(problem) == "--tasks: names no task. Name one, e.g. arc_easy."


def test_every_mistake_is_told_with_its_name(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.yaml").write_text("a: 1\n")
    named = found(
        "perplexty=x",
        str(tmp_path / "empty"),
        str(tmp_path / "none.yaml"),
        str(tmp_path / "gone.yaml"),
        "mmlu,mmlu",
    )
    told = [str(problem) for problem in named.problems]
    assert len(told) == 5
    assert "did you mean 'perplexity'?" in told[0]
    assert "no YAML in this folder defines a task" in told[1]
    assert "defines no task or group" in told[2]
    assert "there is no such file" in told[3]
    assert told[4] == "--tasks mmlu: stands there twice. Keep one."
