"""What each command prints, and how it ends."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from evomerge.cli.main import COMMANDS, entry_point, main
from evomerge.compiler.adapter_scores import plan_for_adapter
from evomerge.evaluators import EVALUATORS
from evomerge.foundations.errors import GenomeError, Problem, RunError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces import MERGE_SPACES
from evomerge.report.exporting import exports
from evomerge.run.chosen import winners_of
from tests.recorded_runs import record_run

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "mergekit", "lm_eval", "optuna", "numpy", "rich", "pydantic")


@pytest.fixture
def evomerge(capsys, monkeypatch):
    """Runs the command line; gives exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit, match=r"^\d+$") as ended:
            entry_point([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return call


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished run; the working directory is the one it was started in."""
    monkeypatch.chdir(tmp_path)
    record_run(Path("runs/skills"))
    return Path("runs/skills")


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from evomerge.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"heavy = set({HEAVY}) & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["", *sorted(COMMANDS)])
def test_help(evomerge, is_golden, name):
    code, out, _ = evomerge(*name.split(), "--help")
    assert code == 0
    is_golden(f"cli/help{'_' if name else ''}{name}.txt", out)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_help_text_ends_with_an_example_that_parses(name):
    command = main.get_command(None, name)
    example = re.fullmatch(rf"Example: evomerge {name} (.+)", command.epilog or "")
    assert example
    command.make_context(name, example.group(1).split())


def test_show(evomerge, folder, is_golden):
    code, out, err = evomerge("show", folder)
    assert (code, err) == (0, "")
    is_golden("cli/show.txt", out)


def test_show_of_a_front(evomerge, tmp_path, is_golden):
    record_run(tmp_path / "run", objective="per_task", optimizer="nsga2")
    is_golden("cli/show_front.txt", evomerge("show", tmp_path / "run")[1])


def test_show_the_last_trials(evomerge, folder):
    out = evomerge("show", folder, "--last", 3)[1]
    assert re.findall(r"^ +(\d+) .* 0\.50", out.partition("last 3 trials")[2], re.M) == [
        "13",
        "14",
        "15",
    ]


def test_show_the_failed_trials_and_why(evomerge, folder):
    out = evomerge("show", folder, "--failed")[1]
    assert "merge: weights <sum> to nothing" in out.partition("1 failed trial")[2]


def test_show_of_no_failed_trials_says_so(evomerge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record_run(Path("run"), n_trials=2)
    out = evomerge("show", "run", "--failed")[1]
    assert out.endswith("\nno trial failed\n")
    assert "seconds" not in out


def test_show_of_a_run_before_its_first_trial_says_so(evomerge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record_run(Path("run"))
    ledger = Path("run/ledger.jsonl")
    ledger.write_text(ledger.read_text().splitlines(keepends=True)[0])
    assert evomerge("show", "run")[1].endswith("\nno trial yet\n")


def test_show_for_programs(evomerge, folder):
    content = json.loads(evomerge("show", folder, "--json")[1])
    assert len(content["trials"]) == content["n_trials"] == 16
    assert content["trials"][7]["state"] == "failed"


def test_show_of_a_run_that_has_just_begun(evomerge, tmp_path):
    record_run(tmp_path / "run", n_trials=0, has_finals=False)
    code, out, _ = evomerge("show", tmp_path / "run")
    assert code == 0
    assert "0/12 trials" in out


def test_show_of_a_narrow_terminal_breaks_the_table_not_the_numbers(evomerge, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "45")
    out = evomerge("show", folder)[1]
    assert "search tasks, continued" in out
    table = out.partition("convergence")[0]
    assert max(map(len, table.splitlines()[1:])) <= 45
    assert "…" not in table


@pytest.mark.parametrize(
    "kind", ["optimizers", "methods", "spaces", "evaluators", "executors", "objectives"]
)
def test_list_has_a_line_with_a_summary_for_every_name(evomerge, kind):
    rows = json.loads(evomerge("list", kind, "--json")[1])
    out = evomerge("list", kind)[1]
    assert rows
    for row in rows:
        assert row["name"] in out
        assert row.get("what it is", "-")


def test_show_answers_of_a_trial_document_by_document(evomerge, folder):
    code, out, _ = evomerge("show", folder, "--answers", "2", "--json")
    told = json.loads(out)
    assert (code, told["trial"]) == (0, 2)
    first = told["documents"][0]
    assert (first["split"], first["task"], first["document"]) == ("search", "sort_search", 0)
    assert set(first["values"]) == {"acc,none"}
    out = evomerge("show", folder, "--answers", "2")[1]
    assert "what trial 2 answered" in out
    assert out.count("twice_search") == 100
    assert evomerge("show", folder, "--answers", "99")[0] == 1


@pytest.mark.parametrize("kind", ["spaces", "evaluators"])
def test_list_full_has_a_line_for_every_setting_and_metric(evomerge, kind):
    table = {"spaces": MERGE_SPACES, "evaluators": EVALUATORS}[kind]
    rows = json.loads(evomerge("list", kind, "--full", "--json")[1])
    told = {(row["name"], row["key"]) for row in rows}
    for name in table:
        assert {(name, key) for key in ("", *table[name].Settings.model_fields)} <= told
    assert kind == "spaces" or ("perplexity", "metric bits_per_byte") in told
    assert evomerge("list", "methods", "--full")[0] == 2


def test_list_methods(evomerge, is_golden):
    is_golden("cli/list_methods.txt", evomerge("list", "methods")[1])


def test_schema_is_printed_or_written(evomerge, tmp_path):
    printed = evomerge("schema")[1]
    code, out, err = evomerge("schema", "-o", tmp_path / "a" / "schema.json")
    assert (code, out) == (0, "")
    assert "wrote" in err
    assert (tmp_path / "a" / "schema.json").read_text() == printed


def test_export_prints_a_recipe(evomerge, folder):
    code, out, err = evomerge("export", folder)
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["merge_method"] == "task_arithmetic"
    assert evomerge("export", folder / "best.yml")[1] == out


def test_export_names_the_file_it_writes_in_the_command(evomerge, folder):
    evomerge("export", folder, "-o", "out/best.yml")
    assert "mergekit-yaml out/best.yml merged" in Path("out/best.yml").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "{}/config.json", "--force"),
        ("--build", "{}/new"),
        ("--adapter", "{}/new", "--force"),
    ],
)
def test_export_writes_nothing_into_a_model_of_the_recipe(evomerge, folder, options):
    (source, *_) = (Path(path) for path in sorted(map(str, exports(winners_of(folder))[0].sources)))
    source.mkdir(parents=True)
    (source / "config.json").write_text("its own")
    code, _, err = evomerge("export", folder, *(option.format(source) for option in options))
    assert (code, "which is a model of the recipe" in err) == (2, True)
    assert [path.read_text() for path in source.iterdir()] == ["its own"]


def test_force_is_heard_by_the_export_of_an_adapter(evomerge, folder):
    """What stands against it next is that the run merges no adapters."""
    made = Path("made")
    made.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "fit.json"):
        (made / name).write_text("old")
    refused = evomerge("export", folder, "--adapter", made)[2]
    assert "add --force" in " ".join(refused.split())
    forced = evomerge("export", folder, "--adapter", made, "--force")[2]
    assert "of no LoRA adapters" in " ".join(forced.split())
    (made / "mine.docx").write_text("mine")
    assert "mine.docx among them" in evomerge("export", folder, "--adapter", made, "--force")[2]


def test_the_wish_for_an_adapter_is_of_the_run_that_searched(evomerge, folder):
    """A genome.yml that happens to lie beside a best.yml says nothing; a stage's own does."""
    wish = (folder / "genome.yml").read_text() + "output: adapter\n"
    apart, staged = Path("apart"), Path("staged")
    apart.mkdir()
    shutil.copy(folder / "best.yml", apart)
    (apart / "genome.yml").write_text(wish)
    assert evomerge("export", apart / "best.yml", "-o", "recipe.yml")[0] == 0
    (alone,) = winners_of(apart / "best.yml")
    with pytest.raises(RunError, match="lies in no run folder"):
        plan_for_adapter(alone, ModelName(path="base"), Path("lora"), Permissions())
    (folder / "genome.yml").write_text(wish)
    shutil.copytree(folder, staged / "stages" / "only")
    (staged / "genome.yml").write_text("stages: [{name: only}]\noutput: adapter\n")
    for run in (folder, folder / "best.yml", staged, staged / "stages" / "only" / "best.yml"):
        code, _, err = evomerge("export", run, "-o", "lora")
        assert (code, "of no LoRA adapters" in " ".join(err.split())) == (1, True), run
    assert not Path("lora").exists()


def test_export_of_one_trial(evomerge, folder):
    assert "trial 9 of genomes/skills.yml" in evomerge("export", folder, "--trial", 9)[1]


def test_export_of_the_top_fills_a_folder(evomerge, folder):
    code, _, err = evomerge("export", folder, "--top", 3, "-o", "top")
    assert code == 0
    assert err.count("wrote") == len(list(Path("top").iterdir())) == 3


def test_export_of_a_front_fills_a_folder(evomerge, tmp_path):
    run = record_run(tmp_path / "run", objective="per_task", optimizer="nsga2")
    evomerge("export", tmp_path / "run", "-o", tmp_path / "front")
    assert len(list((tmp_path / "front").iterdir())) == len(run.winners) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top", "2"], "2 recipes need a folder; name it with -o"),
        (["--top", "2", "--trial", "1"], "--trial and --top choose different trials"),
        (["--trial", "-1"], "-1 is not in the range x>=0"),
    ],
)
def test_export_options_that_contradict_are_a_usage_error(evomerge, folder, arguments, message):
    code, _, err = evomerge("export", folder, *arguments)
    assert code == 2
    assert message in err


def test_a_wrong_genome_exits_with_2_and_one_line_per_mistake(evomerge, tmp_path):
    file = tmp_path / "wrong.yml"
    file.write_text("genome:\n  models: [a]\n  merge_method: tiess\ntasks: []\nbudget: 3\n")
    code, out, err = evomerge("run", file)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 3
    assert all(line.startswith(f"{file}:") for line in err.splitlines())


def test_an_override_is_checked_like_the_file(evomerge, tmp_path):
    file = tmp_path / "genome.yml"
    file.write_text("genome: {models: [a], merge_method: linear}\ntasks: [t]\n")
    code, _, err = evomerge("check", file, "--set", "optimizer.budget=0")
    assert code == 2
    assert "optimizer.budget: got 0" in err


def test_a_folder_that_is_no_run_exits_with_2(evomerge, tmp_path):
    code, _, err = evomerge("show", tmp_path)
    assert code == 2
    assert err == f"{tmp_path}: no ledger.jsonl in this folder. Name the folder of a run.\n"


def test_an_interrupt_exits_with_130(evomerge, monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main.get_command(None, "schema"), "callback", interrupted)
    code, _, err = evomerge("schema")
    assert code == 130
    assert err.strip() == "Stopped."


def test_an_unexpected_error_keeps_its_traceback(monkeypatch):
    def broken(**_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(main.get_command(None, "schema"), "callback", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        entry_point(["schema"])


def test_every_problem_of_an_error_is_a_line(evomerge, monkeypatch):
    problems = [Problem("is missing", "g.yml:1: a", "Add it."), Problem("got 1, expected 2")]

    def wrong(**_):
        raise GenomeError.of(problems)

    monkeypatch.setattr(main.get_command(None, "schema"), "callback", wrong)
    code, _, err = evomerge("schema")
    assert code == 2
    assert err == "g.yml:1: a: is missing. Add it.\ngot 1, expected 2.\n"


def test_a_wrong_option_shows_the_usage(evomerge):
    code, _, err = evomerge("run")
    assert code == 2
    assert "Missing argument 'GENOME'" in err


def test_commands_are_click_commands():
    commands = [main.get_command(None, name) for name in COMMANDS]
    assert all(isinstance(command, click.Command) for command in commands)
