from __future__ import annotations

import gzip
import json
import math
import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.errors import LedgerError, LostFileError
from evomerge.foundations.lock import RunLock
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.lines import KnownOutcome, Turn
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.ledger.run_folder import RunFolder

HEADER = {
    "models": {},
    "tasks": {},
    "evomerge": "0.1.0",
    "genome": "genome.yml",
    "genome_digest": "0",
    "seed": 3,
    "merge_seed": 3,
    "threads": 1,
    "device": "cpu",
    "versions": {"mergekit": "0.1.5"},
    "optimizer": "random",
    "objective": "weighted_sum",
    "space": [],
}


def metric(value, stderr=0.1):
    return Metric(MetricKey("math", "acc"), value, stderr, 10, True)


def trial(trial_id, value=0.5, *, genotype=(0.25, 1 / 3), documents=()):
    return Trial(
        Candidate(
            trial_id,
            origin_in("optimizer" if genotype else "model a"),
            Recipe({"merge_method": "linear", "n": trial_id}),
            np.array(genotype) if genotype else None,
            {"weight": 0.3, "kind": "é", "on": True} if genotype else {},
        ),
        Outcome(
            TrialState.COMPLETE, Evaluation((metric(value),), documents), seconds={"merge": 0.25}
        ),
    )


def failed(trial_id):
    candidate = Candidate(
        trial_id, origin_in("optimizer"), Recipe({"n": trial_id}), np.array([0.5, 0.5])
    )
    return Trial(candidate, Outcome(TrialState.FAILED, failure="merge: line 1\nline 2"))


def create(path):
    return Ledger.create(RunFolder(path), HEADER, "genome: {}\n")


def recorded(path):
    ledger = create(path)
    ledger.record_trial(trial(0, genotype=None))
    ledger.record_trial(trial(1, math.inf))
    ledger.record_turn(Turn("told", (0, 1)))
    ledger.record_trial(failed(2))
    ledger.record_final(1, "holdout", Outcome(TrialState.COMPLETE, Evaluation((metric(0.25),))))
    ledger.close()
    return ledger


def reopened(ledger):
    """What another process reads right now."""
    return Ledger.open(ledger.folder, read_only=True)


def state(ledger):
    """What a ledger holds, comparable."""
    trials = {
        i: (t.candidate.origin, t.candidate.recipe.digest, dict(t.candidate.point), t.outcome)
        for i, t in ledger.trials.items()
    }
    genotypes = {
        i: None if t.candidate.genotype is None else t.candidate.genotype.tolist()
        for i, t in ledger.trials.items()
    }
    return trials, genotypes, ledger.finals, ledger.told


def test_a_run_that_cannot_begin_leaves_its_folder_to_others(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))  # as a disk that takes no more
    try:
        with pytest.raises(LostFileError, match=r"genome.yml: cannot be written \(File too large"):
            create(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not (tmp_path / ".lock-owner").exists()
    RunLock(tmp_path).release()


def test_a_ledger_reads_back_as_it_was_written(tmp_path):
    written = recorded(tmp_path / "run")
    read = reopened(written)
    assert state(read) == state(written)
    assert read.header["seed"] == 3
    assert written.folder.genome.read_text() == "genome: {}\n"


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_a_metric_that_is_infinite_survives(tmp_path, value):
    ledger = create(tmp_path)
    ledger.record_trial(trial(0, value))
    (found,) = reopened(ledger).trials[0].outcome.evaluation.metrics
    assert found.value == value


def test_a_metric_that_is_nan_survives(tmp_path):
    ledger = create(tmp_path)
    ledger.record_trial(trial(0, math.nan))
    (found,) = reopened(ledger).trials[0].outcome.evaluation.metrics
    assert math.isnan(found.value)


def test_documents_of_each_trial_and_split_read_back(tmp_path):
    documents = (
        Document("math", 0, {"acc,none": 1.0}, 2),
        Document("math", 3, {"acc,none": 0.0}, "a\nb ü", (7, 0, 2)),
    )
    ledger = create(tmp_path)
    ledger.record_trial(trial(4, documents=documents))
    ledger.record_final(
        4, "holdout", Outcome(TrialState.COMPLETE, Evaluation((metric(1.0),), documents[:1]))
    )
    ledger.record_trial(failed(5))
    read = reopened(ledger)
    assert read.documents(4) == documents
    assert read.documents(4, "holdout") == documents[:1]
    assert read.documents(5) == ()


def test_documents_stay_in_their_files_and_not_in_memory(tmp_path):
    documents = (Document("math", 0, {"acc,none": 1.0}, 2),)
    outcome = Outcome(TrialState.COMPLETE, Evaluation((metric(1.0),), documents))
    ledger = create(tmp_path)
    ledger.record_trial(trial(4, documents=documents))
    ledger.record_final(4, "holdout", outcome)
    for kept in (ledger.trials[4].outcome, ledger.finals["holdout", 4]):
        assert kept.evaluation.documents == ()
        assert kept.evaluation.metrics
    assert ledger.documents(4) == ledger.documents(4, "holdout") == documents


def test_each_document_is_a_line_of_canonical_json(tmp_path):
    shared = {"f1,none": 0.5, "acc,none": 1.0}
    documents = (
        Document("math", 0, shared, 2),
        Document("sort", 1, shared, None),
        Document("math", 2, {"acc,none": 0.0}, 'a\n"b" ü'),
        Document("math", 3, shared, True),
        Document("sort", 4, shared, "12", (7, 0, 2)),
    )
    ledger = create(tmp_path)
    ledger.record_trial(trial(4, documents=documents))
    text = gzip.decompress(ledger.folder.documents(4, "tasks").read_bytes()).decode()
    told = [document._asdict() for document in documents]
    for line in told[:4]:  # that nothing was written is not
        del line["written"]
    expected = [canonical_json(line) for line in told]
    assert text.split("\n") == expected


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    ledger = recorded(tmp_path_factory.mktemp("whole"))
    return ledger.folder.ledger.read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cut_at_any_byte_at_most_the_last_line_is_lost(whole, data):
    n_header = whole.index(b"\n") + 1
    cut = data.draw(st.integers(n_header, len(whole)))
    complete_lines = whole[:cut].count(b"\n")
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        folder.ledger.write_bytes(whole[:cut])
        Ledger.open(folder, read_only=True)
        assert folder.ledger.read_bytes() == whole[:cut]
        ledger = Ledger.open(folder)
        mended = folder.ledger.read_bytes()
        assert mended == b"".join(whole.splitlines(keepends=True)[:complete_lines])
        ledger.record_trial(trial(9))
        assert state(reopened(ledger)) == state(ledger)
        ledger.close()


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_cut_within_the_header_the_error_says_so(whole, data):
    cut = data.draw(st.integers(0, whole.index(b"\n")))
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        folder.ledger.write_bytes(whole[:cut])
        with pytest.raises(LedgerError, match="line 1 is not a header"):
            Ledger.open(folder)


def test_a_header_is_on_disk_whole_or_not_at_all(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("killed")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(LostFileError, match="cannot be written"):
        create(tmp_path)
    monkeypatch.undo()
    assert not RunFolder(tmp_path).ledger.exists()
    ledger = create(tmp_path)
    assert reopened(ledger).trials == {}


def replace_line(folder, number, line):
    lines = folder.ledger.read_text().splitlines()
    lines[number - 1] = line
    folder.ledger.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"kind": "tri', r"ledger.jsonl: line 3 of 6 is not an event, and it is not the last"),
        ("[1]", r"ledger.jsonl: line 3 of 6 is not an event, and it is not the last"),
        ('{"kind": "trial", "id": 1}', r"line 3 is not an event of a ledger \(state: Field"),
        ('{"no": "kind"}', r"line 3 is not an event of a ledger \(kind None"),
        ('{"kind": "told"}', r"line 3 is not an event of a ledger \(ids: Field required"),
        ('{"ids": [], "kind": "told"}', r"line 3 is not an event of a ledger \(ids: List should"),
        ('{"ids": [], "kind": "asked"}', r"line 3 is not an event of a ledger \(ids: List should"),
    ],
)
def test_a_broken_line_in_the_middle_is_named(tmp_path, line, message):
    folder = recorded(tmp_path).folder
    replace_line(folder, 3, line)
    with pytest.raises(LedgerError, match=message):
        Ledger.open(folder)


def test_a_trial_that_stands_twice_is_noticed(tmp_path):
    folder = recorded(tmp_path).folder
    replace_line(folder, 3, folder.ledger.read_text().splitlines()[1])
    with pytest.raises(LedgerError, match=r"line 3 is not an event .*trial 0 stands twice"):
        Ledger.open(folder)


def test_a_recipe_that_was_changed_by_hand_is_noticed(tmp_path):
    folder = recorded(tmp_path).folder
    lines = folder.ledger.read_text().splitlines()
    event = json.loads(lines[1])
    event["recipe"]["merge_method"] = "ties"
    replace_line(folder, 2, json.dumps(event))
    with pytest.raises(LedgerError, match=r"line 2 .*does not have the digest beside it"):
        Ledger.open(folder)


def test_a_folder_without_a_ledger_is_no_run(tmp_path):
    with pytest.raises(LedgerError, match=r"no ledger.jsonl in this folder.* Name the folder"):
        Ledger.open(RunFolder(tmp_path))


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LostFileError, match=r"run: cannot be written .*same command again"):
        create(tmp_path / "file" / "run")


# Opening to write


def test_a_torn_last_line_is_cut_off_with_a_word(tmp_path):
    folder = recorded(tmp_path).folder
    whole = folder.ledger.read_bytes()
    folder.ledger.write_bytes(whole + b'{"kind": "trial", "id')
    ledger = Ledger.open(folder)
    assert ledger.repairs == [
        "the last line of the ledger was cut short and is removed; its work is done again"
    ]
    assert folder.ledger.read_bytes() == whole


def test_a_whole_ledger_needs_no_repair(tmp_path):
    folder = recorded(tmp_path).folder
    assert Ledger.open(folder).repairs == []


def test_two_writers_of_one_folder_are_refused_with_the_process_named(tmp_path):
    ledger = create(tmp_path)
    with pytest.raises(LedgerError, match=rf"process {os.getpid()} is writing this run right now"):
        Ledger.open(ledger.folder)
    ledger.close()
    Ledger.open(ledger.folder).close()


def test_a_writer_that_has_only_just_begun_has_no_number_yet(tmp_path):
    ledger = create(tmp_path)
    (ledger.folder.path / ".lock-owner").unlink()
    told = "another process, begun at this moment, is writing this run right now"
    with pytest.raises(LedgerError, match=told):
        Ledger.open(ledger.folder)


def test_a_run_that_is_being_written_can_be_read(tmp_path):
    ledger = create(tmp_path)
    ledger.record_trial(trial(0))
    assert state(reopened(ledger)) == state(ledger)


def test_a_broken_ledger_frees_its_lock(tmp_path):
    folder = recorded(tmp_path).folder
    text = folder.ledger.read_text()
    replace_line(folder, 3, "{")
    with pytest.raises(LedgerError, match="line 3") as error:
        Ledger.open(folder)
    folder.ledger.write_text(text)
    Ledger.open(folder).close()
    assert error.tb is not None  # it holds what was not freed


def test_salvage_reads_what_can_be_read(tmp_path):
    ledger = recorded(tmp_path)
    replace_line(ledger.folder, 3, '{"kind": "tri')
    replace_line(ledger.folder, 5, "[1]")
    found = Ledger.open(ledger.folder, read_only=True, salvage=True)
    assert sorted(found.trials) == [0]
    assert (found.told, found.finals) == ([], {})  # they speak of the trial that is lost


# What another run found


def test_known_outcomes_read_back_with_their_documents(tmp_path):
    documents = (Document("math", 0, {"acc,none": 1.0}, 2),)
    outcome = Outcome(TrialState.COMPLETE, Evaluation((metric(0.5),), documents))
    ledger = Ledger.create(
        RunFolder(tmp_path), HEADER, "genome: {}\n", [KnownOutcome("tasks", "d1" * 32, outcome)]
    )
    read = reopened(ledger)
    assert read.known_outcome("tasks", "d1" * 32) == outcome
    assert read.known_outcome("holdout", "d1" * 32) is None
    assert read.trials == {}


@pytest.mark.parametrize(
    "name", ["genome.yml", "best.yml", "report.html", "study.journal", "log.txt"]
)
def test_a_run_does_not_begin_over_the_files_of_somebody(tmp_path, name):
    refuse_to_begin_over(tmp_path, name)


def test_a_run_does_not_begin_over_what_its_trackers_will_write(tmp_path):
    (tmp_path / "other.txt").write_text("mine")
    Ledger.create(RunFolder(tmp_path), HEADER, "genome: {}\n").close()
    refuse_to_begin_over(tmp_path / "run", "table.txt", mirrors=["table.txt"])


def refuse_to_begin_over(tmp_path, name, **settings):
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(LedgerError, match=f"holds {name} and no run; .* --run-dir"):
        Ledger.create(RunFolder(tmp_path), HEADER, "genome: {}\n", **settings)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["optimizer/epoch-1.npz", "front/trial-1.yml", "documents/trial-00000-tasks.jsonl.gz"]
)
def test_a_run_does_not_begin_with_what_another_kept(tmp_path, name):
    (tmp_path / "run" / name).parent.mkdir(parents=True)
    (tmp_path / "run" / name).write_bytes(b"theirs")
    with pytest.raises(LedgerError, match=f"holds {name} and no run"):
        Ledger.create(RunFolder(tmp_path / "run"), HEADER, "genome")
    assert (tmp_path / "run" / name).read_bytes() == b"theirs"


def test_a_run_begins_again_where_it_was_killed_as_it_began(tmp_path):
    (tmp_path / "genome.yml").write_text("genome: {}\n")
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "known-abc-tasks.jsonl.gz").write_bytes(b"what a fork takes over")
    Ledger.create(RunFolder(tmp_path), HEADER, "genome: {}\n").close()


def test_a_run_that_is_killed_while_it_takes_things_over_begins_again(tmp_path):
    def killed():
        (tmp_path / "judgments").mkdir()
        raise KeyboardInterrupt

    folder = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Ledger.create(folder, HEADER, "genome: {}\n", carry=killed)
    assert not folder.ledger.exists()
    Ledger.create(folder, HEADER, "genome: {}\n").close()
    assert folder.ledger.exists()
