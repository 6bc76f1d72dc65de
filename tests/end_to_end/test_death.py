"""Whatever ends a command leaves no process, no temporary folder, and loses no trial."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest

from evomerge.run.ledger.run_folder import RunFolder
from tests.end_to_end.conftest import GENOME, make_workplace
from tests.end_to_end.dying import EXIT_CODES, WAYS, Command, with_hooks
from tests.killed import n_trials
from tests.tiny_models import tiny_family

CMA = "{name: cma_es, budget: 6, population_size: 4}"
# Many epochs: the ways to be ended come one after the other, whatever passes between two looks.
GRADIENT = "{name: gradient, epochs: 40, batch_size: 1, budget: 40}"
ONE, TWO = "optimizer.budget=8", "execution.workers=2"
RANDOM = "optimizer={name: random, budget: 16}"  # its proposals follow from no order
# Where it is -> what the tasks wait at, the overrides, and how it is ended there: processes take
# long to start, so that the places share the ways between them.
PLACES = {
    "serial, a search trial": ("search 1", (ONE,), WAYS),
    "two workers that hang": ("search 1", (TWO, RANDOM), ["kill -9", "SIGHUP"]),
    "loading": ("import", (ONE,), ["SIGTERM", "terminal"]),
    "workers loading": ("import in a worker", (TWO, RANDOM), ["kill -9", "terminal"]),
    "serial, validation": ("validation 1", (ONE,), ["kill -9 of the group", "SIGHUP"]),
    "two workers, holdout": ("holdout 0", (TWO, RANDOM), ["SIGTERM", "kill -9 of the group"]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workplace whose tasks can be told to stop."""
    template = tmp_path_factory.mktemp("template")
    tiny_family(template / "models")
    return with_hooks(make_workplace(template, tmp_path_factory.mktemp("death") / "place"))


@pytest.fixture(scope="module")
def whole(place):
    """What an uninterrupted run of some overrides found; each is made once."""
    known = {}

    def run(settings):
        if settings not in known:
            Command(place, ("run", "genome.yml", "--run-dir", "whole", *settings)).run()
            known[settings] = found(place / "whole")
            shutil.rmtree(place / "whole")
        return known[settings]

    return run


def found(folder):
    """All that a run found; of several workers any may finish first."""
    lines = [json.loads(line) for line in RunFolder(folder).ledger.read_text().splitlines()]
    if lines[0].get("workers", 1) > 1:
        lines = [line for line in lines if line["kind"] not in ("asked", "told")]
    for line in lines:
        line.pop("seconds", None)
        line.pop("idle", None)
        line.pop("elapsed", None)
    documents = {p.name: gzip.decompress(p.read_bytes()) for p in folder.glob("documents/*.gz")}
    best = RunFolder(folder).best.read_text()
    return sorted(json.dumps(line, sort_keys=True) for line in lines), documents, best


def killed_again_and_again(command, run, moment, ways=tuple(WAYS)):
    """Continues a command again and again, and ends it; then to its end."""
    for way in ways:
        before = n_trials(run)
        assert command.ended(way, moment) == EXIT_CODES[way]
        assert command.left() == []
        assert n_trials(run) >= before
    command.run()
    assert command.left() == []
    assert not [path for path in run.rglob("*") if "unfinished" in path.name]
    said = command.log.read_text() + command.said
    assert "Traceback" not in said
    assert "leaked" not in said  # semaphores, as Python's resource tracker calls them


@pytest.mark.slow
@pytest.mark.parametrize("where", sorted(PLACES))
def test_a_run_that_is_ended_leaves_nothing_and_becomes_the_uninterrupted_run(place, whole, where):
    stop, overrides, ways = PLACES[where]
    settings = tuple(part for override in overrides for part in ("--set", override))
    expected = whole(settings)
    command = Command(place, ("run", "genome.yml", "--run-dir", "out", *settings))
    (place / "tasks" / "hang").write_text(stop)
    killed_again_and_again(command, place / "out", (place / "tasks" / "reached").exists, ways)
    assert found(place / "out") == expected
    shutil.rmtree(place / "out")


@pytest.mark.slow
def test_training_that_is_ended_leaves_nothing_and_becomes_the_uninterrupted_run(place):
    (place / "trained.yml").write_text(GENOME.replace(CMA, GRADIENT))
    columns = ("--set", "optimizer.granularity=column")
    Command(place, ("run", "trained.yml", "--run-dir", "whole", *columns)).run()
    command = Command(place, ("run", "trained.yml", "--run-dir", "out", *columns))
    epochs = place / "out" / "optimizer"
    n_before = [0]

    def is_training():
        """An epoch is kept that was not when the last one was ended: the next one is trained."""
        n_now = len(list(epochs.glob("epoch-*.npz")))
        if n_now <= n_before[0]:
            return False
        n_before[0] = n_now
        return True

    killed_again_and_again(command, place / "out", is_training)
    assert found(place / "out") == found(place / "whole")
    for name in ("out", "whole"):
        shutil.rmtree(place / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["verify", "export"])
def test_a_build_that_is_ended_leaves_nothing(place, name):
    Command(place, ("run", "genome.yml", "--run-dir", "built", "--set", ONE)).run()
    arguments = {
        "verify": ("verify", "built"),
        "export": ("export", "built", "-o", "winner.yml", "--build", "model"),
    }
    command = Command(place, arguments[name])
    killed_again_and_again(
        command, place / "built", lambda: command.child("mergekit.scripts.run_yaml")
    )
    shutil.rmtree(place / "built")
