"""``evomerge init``: options, piped answers, refusals; every genome it writes is checked."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from evomerge.cli.main import main
from evomerge.compiler.examine import compile_genome
from evomerge.compiler.starter import Answers, start
from evomerge.foundations.errors import OccupiedError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from tests.evaluators.tiny_tasks import write_tasks
from tests.tiny_models import tiny_family, tiny_model

MODELS = ("--model", "models/model_1", "--model", "models/model_2")
BASE = ("--base", "models/base")
TASK = ("--task", "tiny_choice", "--task-search-path", "tasks")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("init")
    tiny_family(folder / "models", num_hidden_layers=12)
    base = folder / "models" / "base"
    tiny_model(folder / "models" / "wordy", base=base, extra_tokens=["<x>"], num_hidden_layers=12)
    (folder / "tasks").mkdir()
    write_tasks(folder / "tasks")
    _more_tasks(folder / "tasks")
    return folder


def _more_tasks(folder):
    """A text task with documents of its own, and a choice task with many."""
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    for name, like, n_rows in (("apart", "text", 5), ("long", "choice", 250)):
        numbered = [{**rows[i % len(rows)], "a": f"{name} {i}"} for i in range(n_rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, numbered)))
        text = (folder / f"{like}.yaml").read_text()
        text = text.replace(f"task: tiny_{like}", f"task: {name}")
        (folder / f"{name}.yaml").write_text(text.replace("test.jsonl", f"{name}.jsonl"))


@pytest.fixture
def place(template, tmp_path, monkeypatch):
    for name in ("models", "tasks"):
        (tmp_path / name).symlink_to(template / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(place):
    """Runs the command; gives the result."""

    def call(*arguments, answers=None):
        return CliRunner().invoke(main, ["init", *map(str, arguments)], input=answers)

    return call


def compiled(file):
    definition, source = load_genome(file)
    return compile_genome(definition, source)


def test_options_alone_write_a_genome_that_passes_a_check(run, place):
    holdout = ("--holdout", "apart/exact_match,whole")
    done = run("my.yml", *MODELS, *BASE, *TASK, *holdout, "--budget", 60, "--yes")
    assert done.exit_code == 0, done.output
    assert "next    evomerge run my.yml" in done.output
    genome = compiled(place / "my.yml")
    assert genome.genome.genome.merge_method == "task_arithmetic"
    assert genome.genome.optimizer.name == "auto"
    assert genome.genome.optimizer.title == "gp"  # nobody can judge what is trained
    assert genome.genome.optimizer.budget == 60
    assert [task.metric for task in genome.genome.holdout] == ["exact_match,whole"]
    assert genome.merge_space.space.n_dims == 12  # 3 groups of 4 layers and 3 others, 2 models
    assert genome.merge_space.space.n_dims <= 60 / 5
    assert "#" in (place / "my.yml").read_text()


def test_more_budget_varies_the_layers_more_finely(run, place):
    sizes = []
    for budget in (20, 60, 200):
        run("my.yml", *MODELS, *BASE, *TASK, "--budget", budget, "--yes", "--force")
        sizes.append(compiled(place / "my.yml").merge_space.space.n_dims)
    assert sizes == [2, 12, 30]


def test_a_long_search_task_is_cut_to_its_first_documents(run, place):
    tasks = ("--task", "long", "--task", "tiny_likelihood/acc")
    done = run("my.yml", *MODELS, *BASE, *tasks, "--task-search-path", "tasks", "--yes")
    assert done.exit_code == 0, done.output
    limits = [task.limit for task in compiled(place / "my.yml").genome.tasks]
    assert limits == [200, None]


def test_without_a_base_models_are_averaged(run, place):
    assert run("my.yml", *MODELS, *TASK, "--yes").exit_code == 0
    assert compiled(place / "my.yml").genome.genome.merge_method == "linear"


def test_questions_are_answered_through_a_pipe(run, place):
    answers = ("models/model_1", "models/model_2", "", "models/base", "tiny_choice", "", "", "40")
    done = run("--task-search-path", "tasks", answers="\n".join(answers) + "\n")
    assert done.exit_code == 0, done.output
    genome = compiled(place / "genome.yml").genome
    assert [source.model.text for source in genome.genome.models] == list(answers[:2])
    assert genome.optimizer.budget == 40


def test_a_wrong_answer_is_told_and_asked_again(run, place):
    answers = (
        "models/modle_1",
        "models/model_1",
        "models/model_2",
        "",
        "",
        "tiny_text/exact_mtch",
        "tiny_text",
        "tiny_text/exact_match,whole",
        "",
        "",
        "no number",
        "20",
    )
    done = run("--task-search-path", "tasks", answers="\n".join(answers) + "\n")
    assert done.exit_code == 0, done.output
    assert "models/modle_1: no such folder in models; did you mean 'model_1'?" in done.output
    assert "has no metric 'exact_mtch'; did you mean 'exact_match" in done.output
    assert "no metric given and 'tiny_text' has several: exact_match,whole" in done.output
    (task,) = compiled(place / "genome.yml").genome.tasks
    assert (task.name, task.metric) == ("tiny_text", "exact_match,whole")


@pytest.mark.slow  # the nearest name is looked for among all of lm-eval's tasks
def test_an_unknown_task_is_answered_with_the_nearest_name(run):
    answers = "tiny_choise\ntiny_choice\n\n\n"
    options = (*MODELS, *BASE, "--task-search-path", "tasks", "--budget", 20)
    done = run("my.yml", *options, answers=answers)
    assert done.exit_code == 0, done.output
    assert "unknown task 'tiny_choise'; did you mean 'tiny_choice'?" in done.output


def test_own_code_is_taken_with_permission_and_told_without(run, place):
    answers, options = "command: [sh, -c, 'echo 1']\n\n\n", (*MODELS, *BASE, "--budget", 20)
    refused = run("my.yml", *options, answers=answers)
    assert "Add --allow-code if you trust it" in refused.output
    done = run("my.yml", *options, "--allow-code", answers=answers)
    assert done.exit_code == 0, done.output
    assert "next    evomerge run my.yml --allow-code\n" in done.output
    assert done.output.count("allow-code") == 1
    (task,) = yaml.safe_load((place / "my.yml").read_text())["tasks"]
    assert task["command"] == ["sh", "-c", "echo 1"]


def test_a_file_is_kept_unless_forced(run, place):
    (place / "my.yml").write_text("mine")
    done = run("my.yml", *MODELS, *TASK, "--yes")
    assert isinstance(done.exception, OccupiedError)
    assert "my.yml: exists, and holds something else. Choose" in str(done.exception)
    assert (place / "my.yml").read_text() == "mine"
    assert run("my.yml", *MODELS, *TASK, "--yes", "--force").exit_code == 0


def test_what_a_check_refuses_is_told_and_not_written(run, place):
    done = run("my.yml", "--model", "org/none@main", "--model", "models/model_2", *TASK, "--yes")
    assert done.exit_code == 2
    assert "error: my.yml: genome.models[0]" in done.output
    assert "genome.models[0]" in done.output
    assert "my.yml is not written: a run could not begin." in done.output
    assert not (place / "my.yml").exists()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("exat:some/exact.jsonl", "unknown evaluator 'exat'; did you mean 'exact'"),
        ("judge:some/q.jsonl", "tasks[0].judge.prompts: is missing. Add it."),
    ],
)
def test_a_mistake_in_a_kind_of_task_names_the_kind_and_the_key(run, task, message):
    done = run("my.yml", *MODELS, "--task", task, "--yes")
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TASK, "--yes asks nothing; add --model."),
        ((), "--yes asks nothing; add --model and --task."),
    ],
)
def test_yes_without_models_or_tasks_is_refused(run, options, message):
    done = run("my.yml", *options, "--yes")
    assert done.exit_code == 2
    assert message in done.output


def test_answers_that_end_too_early_are_told(run):
    done = run("my.yml", answers="models/model_1\n")
    assert done.exit_code == 2
    assert "the answers end too early; add options or --yes." in done.output


def test_an_unknown_method_is_refused(run):
    done = run("my.yml", *MODELS, *BASE, *TASK, "--method", "task_arithmetics", "--yes")
    assert "did you mean 'task_arithmetic'" in str(done.exception)


def test_differing_vocabularies_are_chosen_for_the_user(place):
    answers = Answers(
        ("models/model_1", "models/wordy"),
        ("tiny_choice",),
        base="models/base",
        search_path=("tasks",),
    )
    starter = start(answers, "my.yml", Permissions())
    assert starter.examination.compiled is not None
    assert "  tokenizer_source: base  # they differ" in starter.text


def test_awkward_names_come_back_as_they_were(place, template):
    awkward = place / "a+b: [c]"
    awkward.symlink_to(template / "models" / "model_1")
    answers = Answers(
        ("a+b: [c]", "models/model_2"), ("tiny_choice",), search_path=("tasks",), budget=15
    )
    starter = start(answers, "my.yml", Permissions())
    assert starter.examination.compiled is not None, starter.examination.findings
    models = yaml.safe_load(starter.text)["genome"]["models"]
    assert models[0] == {"model": {"path": "a+b: [c]"}}
