"""A damaged run folder or best.yml is shown and exported, or refused in sentences."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evomerge.cli.main import entry_point, main
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.text_safety import offender
from evomerge.genome.load import load_genome
from evomerge.genome.source import parse_yaml
from evomerge.report.page import report_html
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.kept_documents import read_documents
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.recorded_run import load_run
from tests.fuzz.endings import drawing, ends_well, examples
from tests.fuzz.mangling import mangled_bytes, mangled_gzip, mangled_lines, mangled_yaml
from tests.recorded_runs import record_run

FILES = ("ledger.jsonl", "genome.yml", "best.yml")
DOCUMENTS = "".join(
    json.dumps({"task": "sort", "doc_id": i, "values": {"acc,none": i % 2}, "answer": "a"}) + "\n"
    for i in range(20)
).encode()


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """A finished run, a run with a Pareto front, and one that has just begun."""
    parent = tmp_path_factory.mktemp("runs")
    record_run(parent / "done", n_trials=6)
    record_run(parent / "front", n_trials=6, objective="per_task", optimizer="nsga2")
    record_run(parent / "begun", n_trials=1, objective="normalized", has_finals=False)
    return [parent / "done", parent / "front", parent / "begun"]


@pytest.fixture
def run(folders, tmp_path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(folders[0], tmp_path / "run"))


def printed(*arguments: object) -> str:
    """What a command prints; harmless to a terminal."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main.main([str(argument) for argument in arguments], standalone_mode=False)
    text = out.getvalue()
    assert not offender(text), ascii(text)
    return text


def show_data(folder: Path) -> None:
    json.loads(printed("show", folder, "--json"))


def write_page(folder: Path) -> None:
    report_html(load_run(folder)).encode()


def export_two(folder: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        printed("export", folder, "--top", "2", "-o", folder / "top")
    for file in (folder / "top").iterdir():
        yaml.safe_load(file.read_text(encoding="utf-8"))


def resume(folder: Path) -> None:
    """What a run that goes on reads."""
    ledger = Ledger.open(RunFolder(folder))
    try:
        for trial_id in ledger.trials:
            ledger.documents(trial_id)
    finally:
        ledger.close()


# Everything that is read of a run folder without its models.
READERS = (partial(printed, "show"), show_data, write_page, export_two, resume)


@pytest.mark.slow
@examples(60, 2800)
def test_a_mangled_ledger_ends_in_sentences(n_examples, folders, run):
    seeds = [(folder / "ledger.jsonl").read_bytes() for folder in folders]
    readers = cycle(READERS)

    @drawing(n_examples)
    @given(mangled_lines(seeds))
    def each(content):
        (run / "ledger.jsonl").write_bytes(content)
        ends_well(lambda: next(readers)(run))

    each()


@examples(20, 500)
def test_a_mangled_genome_in_a_run_folder_ends_in_sentences(n_examples, run):
    seed = (run / "genome.yml").read_text(encoding="utf-8")
    readers = cycle(READERS)

    @drawing(n_examples)
    @given(mangled_yaml([seed]))
    def each(content):
        (run / "genome.yml").write_bytes(content)
        ends_well(lambda: next(readers)(run))

    each()


@examples(30, 800)
def test_mangled_documents_end_in_sentences(n_examples, tmp_path):
    file = tmp_path / "trial-00000-tasks.jsonl.gz"

    @drawing(n_examples)
    @given(mangled_gzip([DOCUMENTS]))
    def each(content):
        file.write_bytes(content)
        ends_well(lambda: read_documents(file))

    each()


@examples(60, 2200)
def test_a_mangled_best_file_is_exported_or_refused_in_sentences(n_examples, folders, tmp_path):
    seeds = [(folder / "best.yml").read_text(encoding="utf-8") for folder in folders]
    best = tmp_path / "best.yml"

    def read_back() -> None:
        text = printed("export", best)
        recorded = parse_yaml(best.read_text(encoding="utf-8"), "best.yml").data["recipe"]
        assert yaml.safe_load(text) == recorded  # 1e3, to PyYAML a text, is a number to both

    @drawing(n_examples)
    @given(mangled_yaml(seeds))
    def each(content):
        best.write_bytes(content)
        ends_well(read_back)

    each()


@pytest.mark.slow
@examples(20, 150)
def test_the_command_line_ends_with_an_exit_code_and_sentences(n_examples, folders, run, capsys):
    seeds = [(folder / name).read_bytes() for folder in folders for name in FILES]

    @drawing(n_examples)
    @given(st.sampled_from(FILES), mangled_bytes(seeds))
    def each(name, content):
        before = (run / name).read_bytes()
        (run / name).write_bytes(content)
        for arguments in (["show", run], ["export", run], ["export", run / "best.yml"]):
            check_ending(arguments, capsys)
        with contextlib.suppress(EvomergeError):
            load_genome(run / "genome.yml")
            (run / name).write_bytes(before)
            return
        check_ending(["check", run / "genome.yml"], capsys)
        (run / name).write_bytes(before)

    each()


def check_ending(arguments, capsys) -> None:
    with pytest.raises(SystemExit, match=r"^[012]$") as ended:
        entry_point([str(argument) for argument in arguments])
    err = capsys.readouterr().err
    assert bool(err) == (ended.value.code != 0)
    assert "Traceback" not in err


@pytest.mark.parametrize("read", READERS)
def test_the_seeds_themselves_end_well(folders, read):
    for folder in folders:
        assert ends_well(lambda folder=folder: read(folder))
        assert ends_well(lambda folder=folder: printed("export", folder / "best.yml"))
