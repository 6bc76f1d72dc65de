"""What makes a run another one: told line by line, the space among it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from evomerge.compiler.identity import other_run, what_changed
from evomerge.compiler.recorded_genome import genome_changes, genome_digest, workers_of
from evomerge.foundations.canonical import digest
from evomerge.genome.difference import differences
from evomerge.genome.source import read_yaml
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from tests.recorded_runs import record_run


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A ledger, and the genome of its run."""
    folder = tmp_path_factory.mktemp("run") / "out"
    record_run(folder)
    ledger, genome = (
        Ledger.open(RunFolder(folder), read_only=True),
        read_yaml(folder / "genome.yml"),
    )
    ledger.header = {**ledger.header, "genome_digest": genome_digest(genome.data)}
    return ledger, genome.data


def of_today(genome):
    """A compiled genome, as far as it is read here."""
    return SimpleNamespace(source=SimpleNamespace(data=genome), context=None)


def changes(begun, space, **header):
    ledger, genome = begun
    return what_changed(ledger, {**ledger.header, **header, "space": space}, of_today(genome))


def numbered(space, n):
    return [{**space[0], "name": f"weight_{index}"} for index in range(n)]


VERSION = "another version of evomerge began it"


def test_the_same_space_is_no_change(begun):
    space = begun[0].header["space"]
    assert changes(begun, [dict(one) for one in space]) == []


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (-1, f"weights of models that were not here then are here now, or {VERSION}"),
        (0, VERSION),
        (1, f"weights of models that were here then are not here now, or {VERSION}"),
    ],
)
def test_another_space_is_told_with_its_reason(begun, more, why):
    space = begun[0].header["space"]
    n_then, n_now = len(space), len(space) + more
    then = f"{n_then} parameter{'s' if n_then > 1 else ''}"
    line = f"the space: {then} then, {n_now} now: "
    assert changes(begun, numbered(space, n_now)) == [line + why]
    versions = {**begun[0].header["versions"], "evomerge": "99"}
    assert changes(begun, numbered(space, n_now), versions=versions)[0] == line + VERSION


def test_of_another_genome_the_space_is_no_further_change(begun):
    ledger, genome = begun
    now = {**ledger.header, "space": numbered(ledger.header["space"], 7)}
    (line,) = what_changed(ledger, now, of_today({**genome, "seed": 99}))
    assert line.startswith("genome seed")


def test_models_and_tasks_of_another_genome_are_no_files_that_changed(begun):
    ledger, genome = begun
    ledger.header = {
        **ledger.header,
        "models": {"a": "1", "b": "2"},
        "tasks": {"tasks": {"x": "1"}},
    }
    now = {**ledger.header, "models": {"a": "3", "c": "2"}, "tasks": {"holdout": {"y": "1"}}}
    seed, *lines = what_changed(ledger, now, of_today({**genome, "seed": 99}))
    assert seed.startswith("genome seed")
    assert lines == ["model a: its files are others than when the run began"]
    assert what_changed(ledger, now, of_today(genome)) == [
        "model a: its files are others than when the run began",
        "model b: is not there now",
        "model c: the run began without it",
        "tasks task x: is not there now",
        "holdout task y: the run began without it",
    ]


def test_of_lists_and_long_texts_what_differs_is_shown():
    names = [f"a-rather-long-name-of-a-model/{i}" for i in range(9)]
    assert [*differences({"models": names[:-1]}, {"models": names})] == [
        f"models[8]: was absent, now {names[8]!r}"
    ]
    (line,) = differences({"text": "same " * 99 + "old"}, {"text": "same " * 99 + "new"})
    assert line.startswith("text: was ...")
    assert "same old', now ..." in line
    assert line.endswith("same new'")


def test_a_ledger_that_says_no_space_is_compared_without(begun):
    ledger, genome = begun
    now = dict(ledger.header)
    for unreadable in ([{"kind": "real", "depth": 3}], None):
        assert what_changed(ledger, {**now, "space": unreadable}, of_today(genome)) == []


def test_a_model_inside_a_source_that_changed_is_told_and_older_ledgers_go_on(begun):
    ledger, genome = begun
    now = {**ledger.header, "inside": {"models/a": "2", "models/b": "2"}}
    assert what_changed(ledger, now, of_today(genome)) == []
    then = {**ledger.header, "inside": {"models/a": "1", "models/b": "2"}}
    ledger = replace(ledger, header=then)
    line = "model models/a: its files are others than when the run began"
    assert what_changed(ledger, now, of_today(genome)) == [line]


def test_a_task_whose_digest_is_another_is_told_with_who_recorded_it(begun):
    ledger, genome = begun
    now = {**ledger.header, "tasks": {"tasks": {"mapped": "another digest"}}}
    ledger.header = {**ledger.header, "tasks": {"tasks": {"mapped": "a digest"}}}
    told = "task mapped (tasks): other documents, prompts or metric"
    assert what_changed(ledger, now, of_today(genome)) == [told]
    before = ledger.header["versions"].get("evomerge")
    line, version = what_changed(
        ledger,
        {**now, "versions": {**ledger.header["versions"], "evomerge": "99"}},
        of_today(genome),
    )
    assert line == f"{told}, or recorded by evomerge {before}, whose digests of tasks may be others"
    assert version == f"version of evomerge: was {before}, now 99"
    (problem,) = other_run(ledger.folder, [line]).problems
    assert "--fork NEW_RUN" in problem.fix


def test_where_trials_run_makes_no_other_run_and_how_long_they_may_take_does(begun):
    ledger, genome = begun
    elsewhere = {**genome, "execution": {"executor": "ray", "workers": 8, "num_gpus": 1}}
    assert genome_changes(ledger, elsewhere) == []
    limited = {**genome, "execution": {"trial_timeout": 60}}
    assert genome_changes(ledger, limited) == [
        "genome execution: was absent, now {'trial_timeout': 60}"
    ]


def test_a_run_of_an_older_version_whose_digest_held_its_workers_is_the_same(begun):
    ledger, genome = begun
    then = {**genome, "execution": {"workers": 3}}
    ledger.header = {**ledger.header, "genome_digest": digest(then)}
    assert genome_changes(ledger, then) == []


def test_the_workers_that_a_run_began_with_are_in_its_ledger_or_its_genome(begun):
    ledger, _ = begun
    assert workers_of(ledger) == 1
    ledger.header = {**ledger.header, "workers": 5}
    assert workers_of(ledger) == 5
