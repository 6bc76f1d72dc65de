"""Of files full of what a terminal obeys, every byte that is shown or written is harmless."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from evomerge.cli.event_lines import LineView
from evomerge.cli.progress import Progress
from evomerge.foundations.library_log import kept_log, log_to
from evomerge.foundations.text_safety import argument, escaped, harmless, one_name
from evomerge.nouns.events import Notice, Proposing, RunStarted
from evomerge.optimizers.gradient.lessons import to_bytes
from evomerge.optimizers.search_context import Lesson
from tests.hostile.things import OBEYED, command
from tests.recorded_runs import record_run

EVIL = "a\x1b[2J\x1b]0;x\x07\x1b]8;;http://x\x1b\\\x08\x0b\x0c\r\x7f\x85\x9b31m\u2028\u2029\u202e\u2066b"
FOLDER = "run \x1b[31m \x07 \u202e \x9b2J [bold]"


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run in a folder of such a name, with such texts wherever a ledger may hold any."""
    monkeypatch.chdir(tmp_path)
    record_run(tmp_path / "plain", optimizer="gradient")
    run = Path(shutil.move(tmp_path / "plain", tmp_path / FOLDER))
    changed = []
    for line in run.joinpath("ledger.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event.get("failure"):
            event["failure"] = EVIL
        if event["kind"] == "trial":
            event["samples"] = [
                {"task": "sort_search", "doc_id": 0, "prompt": EVIL, "answer": EVIL}
            ]
        changed.append(json.dumps(event))
    run.joinpath("ledger.jsonl").write_text("\n".join(changed) + "\n")
    (run / "optimizer").mkdir()
    lesson = Lesson(np.full(4, 0.5), b"state", {EVIL: 1.0, "[bold]": 2.0})
    (run / "optimizer" / "epoch-1.npz").write_bytes(to_bytes(lesson))
    return run


def assert_harmless(text: str) -> None:
    found = OBEYED.search(text.replace("\n", ""))
    assert not found, ascii(text[max(found.start() - 40, 0) : found.end() + 40])


COMMANDS = (
    *(("show",), ("show", "--failed"), ("show", "--last", "20"), ("show", "--json")),
    *(
        ("export",),
        ("export", "--trial", "5"),
        ("export", "--trial", "7"),
        ("export", "--top", "3"),
    ),
    *(("verify",), ("check",), ("run",)),
)


@pytest.mark.parametrize(
    "arguments",
    [pytest.param(a, marks=[pytest.mark.slow] if a == ("verify",) else []) for a in COMMANDS],
    ids=" ".join,
)
def test_what_a_command_shows_of_such_a_run_is_harmless(run, arguments):
    done = command(*arguments, run)
    assert done.out + done.err
    assert_harmless(done.out + done.err)


def test_json_means_the_same(run):
    shown = json.loads(command("show", "--json", run).out)
    assert shown["training"]["epochs"][0]["losses"] == {EVIL: 1.0, "[bold]": 2.0}


def test_what_is_written_of_such_a_run_is_harmless(run):
    from evomerge.report.page import write_report
    from evomerge.run.recorded_run import load_run

    assert command("export", run, "-o", "recipe.yml").code == 0
    assert command("export", run, "--top", "3", "-o", "top").code == 0
    write_report(load_run(run))
    texts = [Path("recipe.yml"), *Path("top").iterdir(), run / "report.html", run / "best.yml"]
    for path in texts:
        assert_harmless(path.read_text())


@pytest.mark.parametrize(
    "where",
    [
        {"origin": EVIL},
        {"point": {"mode": EVIL}},
        {"recipe": {"merge_method": "linear", "models": [{"model": EVIL}]}},
        {"recipe": {"merge_method": "linear", EVIL: 1}},
        {"metrics": [{"task": EVIL}]},
    ],
)
def test_names_in_a_ledger_with_such_characters_are_refused(run, where):
    lines = run.joinpath("ledger.jsonl").read_text().splitlines()
    lines[3] = json.dumps({**json.loads(lines[3]), **where})
    run.joinpath("ledger.jsonl").write_text("\n".join(lines) + "\n")
    done = command("show", run)
    assert done.code == 1
    assert "line 4 is not an event" in done.err
    assert_harmless(done.out + done.err)


@pytest.mark.parametrize("key", ["genome.merge_method", "tasks", "run_dir", "nothing", "seed"])
def test_a_setting_with_such_characters_is_told_harmlessly(run, key):
    done = command("check", run / "genome.yml", "--set", f"{key}={EVIL}")
    assert done.code == 2
    assert_harmless(done.out + done.err)


@pytest.mark.parametrize(
    "arguments", [(EVIL,), ("show", EVIL), ("check", f"--{EVIL}"), ("list", EVIL)]
)
def test_an_argument_with_such_characters_is_told_harmlessly(arguments):
    done = command(*arguments)
    assert done.code == 2
    assert_harmless(done.out + done.err)


def test_a_running_search_shows_such_texts_harmlessly(capsys):
    view = LineView(Progress(("score",)))
    view.show(RunStarted(EVIL, 1, 2, 0, (EVIL,), (EVIL,)))
    view.show(Notice(EVIL))
    view.show(Proposing(EVIL, 0.0))
    assert_harmless("".join(capsys.readouterr()))


def test_what_libraries_say_is_logged_harmlessly(tmp_path):
    with kept_log():
        log_to(tmp_path / "log.txt")
        logging.getLogger("library").warning("%s", EVIL)
    assert "a␛[2J" in (tmp_path / "log.txt").read_text()
    assert_harmless((tmp_path / "log.txt").read_text())


def test_a_name_stays_on_its_line_and_keeps_its_letters():
    assert one_name("a\nb\tc  d ü 模") == "a␊b␉c  d ü 模"
    assert harmless("a\nb") == "a\nb"
    assert json.loads(escaped(json.dumps(EVIL, ensure_ascii=False))) == EVIL


def test_a_shell_takes_a_name_in_a_printed_command_as_it_is():
    names = ["runs/plain", "mine's [x] {y} #1", '"q" é $HOME % ', "a;b", "*"]
    assert shlex.split(" ".join(map(argument, names))) == names
    assert argument("runs/plain") == "runs/plain"
    assert argument("a\x1b[31m\nb") == "'a␛[31m␊b'"
