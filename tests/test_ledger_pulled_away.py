"""A run whose files are pulled away while it writes them stops, loses nothing, and goes on."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from evomerge.evaluators import KEEPS
from evomerge.foundations.errors import LostFileError
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.events import TrialStarted
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.ledger.run_folder import RunFolder
from tests.test_ledger import HEADER
from tests.test_search import final, history, search
from tests.thinned import thinned

AT = 8  # the trial during which it happens


def replaced(path):
    """Another file of the same content, as editors save."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def appended(path):
    with path.open("a") as file:
        file.write('{"kind": "trial"}\n')


def changed(path):
    """Another byte in the place of one, and the same time of the last change as before."""
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"#")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


PULLS = {
    "the ledger is deleted": lambda run: run.ledger.unlink(),
    "the ledger is moved": lambda run: run.ledger.rename(run.path / "old.jsonl"),
    "the ledger is replaced": lambda run: replaced(run.ledger),
    "the ledger is cut": lambda run: cut(run.ledger),
    "the ledger is emptied": lambda run: run.ledger.write_bytes(b""),
    "the ledger is appended to": lambda run: appended(run.ledger),
    "the ledger is changed in place": lambda run: changed(run.ledger),
    "the ledger becomes a folder": lambda run: (run.ledger.unlink(), run.ledger.mkdir()),
    "the run folder is deleted": lambda run: shutil.rmtree(run.path),
    "the run folder is moved": lambda run: run.path.rename(run.path.with_name("moved")),
    "the folder above is deleted": lambda run: shutil.rmtree(run.path.parent),
    "the run folder becomes a file": lambda run: (shutil.rmtree(run.path), run.path.touch()),
    "the run folder is another's": lambda run: (
        run.path.rename(run.path.with_name("moved")),
        shutil.copytree(run.path.with_name("moved"), run.path),
    ),
    "documents are deleted": lambda run: shutil.rmtree(run.path / "documents"),
    "documents are moved": lambda run: (run.path / "documents").rename(run.path / "docs"),
    "documents are replaced": lambda run: (
        shutil.rmtree(run.path / "documents"),
        (run.path / "documents").mkdir(),
    ),
    "documents become a file": lambda run: (
        shutil.rmtree(run.path / "documents"),
        (run.path / "documents").touch(),
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = search(tmp_path_factory.mktemp("whole"), finals=final("worst"))
    list(run.run())
    return history(run.ledger)


def pulled_away(path, pull):
    """A run from under which something is pulled; the error it stops with."""
    run = search(path, finals=final("worst"))
    with pytest.raises(LostFileError) as caught:  # noqa: PT012  # wherever in the run
        for event in run.run():
            if isinstance(event, TrialStarted) and event.candidate.trial_id == AT:
                pull(run.ledger.folder)
    assert run.executor.is_closed
    return caught.value


def folder_in(fix):
    """The folder that an error says to continue in."""
    return Path(fix.partition("--run-dir ")[2].partition(" to continue")[0])


@pytest.mark.parametrize("pull", thinned(PULLS.values()), ids=PULLS)
def test_what_was_found_is_in_a_new_folder_where_the_run_goes_on(tmp_path, whole, pull):
    error = pulled_away(tmp_path / "above" / "run", pull)
    assert "pulled away while the run was writing" in str(error)
    folder = folder_in(error.problems[0].fix)
    assert sorted(Ledger.open(RunFolder(folder), read_only=True).trials) == list(range(AT + 1))
    assert RunFolder(folder).genome.read_text() == "genome: {}\n"
    again = search(folder, finals=final("worst"), resume=True)
    list(again.run())
    assert history(again.ledger) == whole
    assert min(n for n, split in again.executor.jobs if split == "tasks") == AT + 1


def test_the_new_folder_may_be_put_in_the_place_of_the_old_one(tmp_path, whole):
    path = tmp_path / "run"
    error = pulled_away(path, PULLS["the ledger is deleted"])
    shutil.rmtree(path)
    folder_in(error.problems[0].fix).rename(path)
    again = search(path, finals=final("worst"), resume=True)
    list(again.run())
    assert history(again.ledger) == whole


def test_a_second_loss_is_rescued_beside_the_first(tmp_path):
    first = folder_in(pulled_away(tmp_path / "run", PULLS["the ledger is deleted"]).problems[0].fix)
    shutil.rmtree(tmp_path / "run")
    again = pulled_away(tmp_path / "run", PULLS["the ledger is deleted"])
    second = folder_in(again.problems[0].fix)
    assert {first.name, second.name} == {"run-rescued", "run-rescued-2"}


def scored(trial_id):
    metric = Metric(MetricKey("near", "acc"), 0.5, 0.1, 10, True)
    documents = (Document("near", 0, {"acc": 1.0}, trial_id),)
    evaluation = Evaluation((metric,), documents)
    candidate = Candidate(
        trial_id, origin_in("optimizer"), Recipe({"n": trial_id}), np.array([0.5])
    )
    return Trial(candidate, Outcome(TrialState.COMPLETE, evaluation))


@pytest.mark.parametrize(
    ("pull", "left"),
    [
        ("the ledger is deleted", {0, 1, 2}),
        ("the ledger is cut", {0, 1, 2}),
        ("the ledger is changed in place", {0, 1, 2}),
        ("the run folder is another's", {0, 1, 2}),
        ("the run folder is moved", {0, 1, 2}),
        ("documents are moved", {0, 1, 2}),
        ("documents are deleted", {2}),
        ("documents are replaced", {2}),
        ("the run folder is deleted", {2}),
    ],
)
def test_documents_go_along_and_those_of_the_last_trial_are_never_lost(tmp_path, pull, left):
    ledger = Ledger.create(RunFolder(tmp_path / "run"), HEADER, "genome: {}\n")
    ledger.record_trial(scored(0))
    (ledger.folder.optimizer / "deep").mkdir(parents=True)
    (ledger.folder.optimizer / "deep" / "reply.json").write_text("{}")
    kept = [folder / "deep" / "said" for folder in ledger.folder.paid]
    for file in kept:
        file.parent.mkdir(parents=True)
        file.write_text("paid for")
    ledger.record_trial(scored(1))
    PULLS[pull](ledger.folder)
    with pytest.raises(LostFileError) as caught:
        ledger.record_trial(scored(2))
    ledger.close()
    found = Ledger.open(RunFolder(folder_in(caught.value.problems[0].fix)))
    assert set(found.trials) == {0, 1, 2}
    assert {i for i in range(3) if found.documents(i)} == left
    assert found.documents(2) == scored(2).outcome.evaluation.documents
    is_kept = (found.folder.optimizer / "deep" / "reply.json").is_file()
    assert is_kept == (pull != "the run folder is deleted")
    places = [found.folder.path / file.relative_to(ledger.folder.path) for file in kept]
    assert [file.is_file() for file in places] == [is_kept] * len(KEEPS)
    found.close()
    said = str(caught.value)
    assert ("; nothing is lost" in said) == (left == {0, 1, 2})
    named = "; the documents of trial-00000-tasks, trial-00001-tasks"
    assert (named in said) == (left == {2})
    assert ("and what the optimizer kept and what tasks of 'divergence' kept" in said) == (
        not is_kept
    )


@pytest.mark.parametrize(
    "touch",
    [
        lambda path: os.utime(path),
        lambda path: path.chmod(0o600),
        lambda path: os.link(path, path.with_name("backup")),
    ],
)
def test_a_ledger_that_was_touched_and_says_the_same_is_written_on(tmp_path, touch):
    ledger = Ledger.create(RunFolder(tmp_path), HEADER, "genome: {}\n")
    ledger.record_trial(scored(0))
    touch(ledger.folder.ledger)
    ledger.record_trial(scored(1))
    ledger.close()
    assert set(Ledger.open(RunFolder(tmp_path), read_only=True).trials) == {0, 1}


def test_a_rescue_that_fails_leaves_no_part_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    ledger = Ledger.create(RunFolder(tmp_path / "run"), HEADER, "genome: {}\n")
    ledger.record_trial(scored(0))
    ledger.folder.ledger.unlink()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))  # as a disk that takes no more
    try:
        with pytest.raises(LostFileError) as caught:
            ledger.record_trial(scored(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    ledger.close()
    assert "ledger.jsonl is gone (No such file or directory)" in str(caught.value)
    assert "-rescued cannot be written (File too large)" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if "rescued" in path.name] == []


def test_a_rescued_run_shares_no_file_that_is_written_in_place(tmp_path):
    ledger = Ledger.create(RunFolder(tmp_path / "run"), HEADER, "genome: {}\n")
    ledger.record_trial(scored(0))
    replaced(ledger.folder.ledger)
    with pytest.raises(LostFileError) as caught:
        ledger.record_trial(scored(1))
    ledger.close()
    before = ledger.folder.ledger.read_bytes()
    again = Ledger.open(RunFolder(folder_in(caught.value.problems[0].fix)))
    again.record_trial(scored(2))
    again.close()
    assert ledger.folder.ledger.read_bytes() == before


def test_where_nothing_can_be_written_beside_it_the_system_has_a_place(tmp_path, monkeypatch):
    other = tmp_path / "temporary"
    other.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(other))
    made = Path.mkdir

    def refuse(self, *args, **kwargs):
        if self.name.startswith("run-rescued") and self.parent != other:
            raise PermissionError(13, "Permission denied")
        made(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    error = pulled_away(tmp_path / "run", PULLS["the ledger is deleted"])
    assert folder_in(error.problems[0].fix) == other / "run-rescued"


def test_a_ledger_that_was_opened_to_be_read_is_not_written(tmp_path):
    Ledger.create(RunFolder(tmp_path), HEADER, "genome: {}\n").close()
    read = Ledger.open(RunFolder(tmp_path), read_only=True)
    with pytest.raises(RuntimeError, match="opened to be read"):
        read.record_end("timeout")
