"""Where a run goes, and what becomes of the noise of libraries."""

import logging
import warnings
from pathlib import Path

import pytest

from evomerge.cli.main import entry_point
from evomerge.cli.run import default_run_dir, draw_result
from evomerge.foundations.library_log import kept_log, log_to
from evomerge.genome.load import load_genome
from tests.recorded_runs import record_run


@pytest.fixture
def genome(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yml").write_text("genome: {models: [a], merge_method: linear}\ntasks: [t]\n")
    return Path("mine.yml")


def test_a_run_goes_by_the_name_of_its_genome(genome):
    assert default_run_dir(genome, load_genome(genome)[0]) == Path("runs/mine")


def test_the_genome_may_name_the_folder(genome):
    definition, _ = load_genome(genome, ["run_dir=elsewhere"])
    assert default_run_dir(genome, definition) == Path("elsewhere")


def test_the_genome_in_a_run_folder_continues_that_run(tmp_path):
    run = record_run(tmp_path / "run")
    file = run.ledger.folder.genome
    assert default_run_dir(file, run.genome) == tmp_path / "run"


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["--set", "run_dir=mine.yml"], "--set: run_dir: "),
        (["--set", f"run_dir={'x' * 5000}"], "--set: run_dir: "),
        (["--run-dir", "mine.yml/below"], "--run-dir: "),
        (["--fork", "mine.yml/below"], "--fork: "),
    ],
)
def test_a_folder_that_cannot_be_ends_a_run_before_anything_is_loaded(
    genome, arguments, where, monkeypatch, capsys
):
    monkeypatch.setattr("evomerge.compiler.examine.compile_genome", None)  # reads models and tasks
    with pytest.raises(SystemExit, match="2"):
        entry_point(["run", str(genome), *arguments])
    assert where in capsys.readouterr().err


def test_what_no_run_writes_over_ends_it_before_anything_is_loaded(genome, monkeypatch, capsys):
    monkeypatch.setattr("evomerge.compiler.examine.compile_genome", None)
    Path("mine").mkdir()
    Path("mine/link").symlink_to("nowhere")
    with pytest.raises(SystemExit, match="1"):
        entry_point(["run", str(genome), "--run-dir", "mine"])
    assert "mine/link: is a symbolic link" in capsys.readouterr().err


def test_the_result_ends_with_the_next_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw_result(record_run(Path("runs/skills")))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "winner  runs/skills/best.yml",
        "report  runs/skills/report.html",
        "next    evomerge export runs/skills -o recipe.yml",
    ]


def test_what_libraries_say_goes_into_the_log_also_from_before_the_folder(tmp_path, capsys):
    file = tmp_path / "log.txt"
    with warnings.catch_warnings(), kept_log():
        warnings.simplefilter("always")
        logging.getLogger("library").warning("early")
        log_to(file)
        logging.getLogger("library").warning("late")
        warnings.warn("deprecated", UserWarning, stacklevel=1)
    logging.getLogger("library").warning("after")
    text = file.read_text()
    assert [word for word in ("early", "late", "deprecated", "after") if word in text] == [
        "early",
        "late",
        "deprecated",
    ]
    assert "late" not in capsys.readouterr().err


def test_a_run_that_never_began_leaves_no_log(tmp_path):
    with kept_log():
        logging.getLogger("library").warning("early")
    assert list(tmp_path.iterdir()) == []
