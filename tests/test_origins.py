"""Where candidates come from: a record, its text for people, and what older ledgers hold of it."""

import json

import pytest

from evomerge.nouns.origin import Origin, OriginKind, proposed
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.old_origins import OldOrigins, origin_in, origin_line
from evomerge.run.recorded_run import load_run
from tests.recorded_runs import record_run

EPOCH = proposed("gradient, epoch 3", is_taught=True, epoch=3)
KNOWN = {
    "model experts/sort": Origin(OriginKind.MODEL, "experts/sort"),
    "base org/base": Origin(OriginKind.BASE, "org/base"),
    "uniform average": Origin(OriginKind.AVERAGE),
    "task arithmetic 0.3": Origin(OriginKind.FIXED, "task arithmetic 0.3"),
    "ties": Origin(OriginKind.FIXED, "ties"),
    "seed runs/a, trial 3": Origin(OriginKind.SEED, "runs/a, trial 3"),
    "optimizer": proposed(),
    "optimizer, generation 2, the mean": proposed("generation 2, the mean"),
    "optimizer, epoch 3": proposed("epoch 3", is_taught=True, epoch=3),
    "optimizer, gradient, epoch 3": EPOCH,
    "optimizer, particle 1, iteration 4": proposed(
        "particle 1, iteration 4", particle=1, iteration=4
    ),
}


@pytest.mark.parametrize(("text", "origin"), KNOWN.items())
def test_people_read_what_older_ledgers_hold(text, origin):
    assert str(origin) == text
    assert origin_in(text) == origin


def links_of(title, *labels):
    """Which of several optimizers each trial of an old ledger is of."""
    old = OldOrigins({"optimizer": title})
    events = [{"kind": "trial", "origin": f"optimizer, {label}"} for label in labels]
    return [old.read(event)["origin"].get("link", 0) for event in events]


def test_old_islands_say_whose_a_trial_is():
    assert links_of("tpe | swarm", "island 2 swarm, particle 0, iteration 0", "island 1 tpe") == [
        1,
        0,
    ]


def test_old_links_follow_one_another():
    assert links_of("gradient -> gp", "gradient, epoch 1", "gradient, epoch 2", "gp", "gp") == [
        0,
        0,
        1,
        1,
    ]
    epochs = [f"gradient, epoch {n}" for n in (1, 2, 1, 2, 3)]
    assert links_of("gradient -> gradient", *epochs) == [0, 0, 1, 1, 1]
    places = [(0, 0), (1, 0), (0, 1), (0, 0), (1, 0), (1, 1)]
    swarm = [f"swarm, particle {row}, iteration {i}" for row, i in places]
    assert links_of("swarm -> swarm", *swarm) == [0, 0, 0, 1, 1, 1]
    assert links_of("swarm", "particle 0, iteration 0", "particle 0, iteration 0") == [0, 0]


def test_a_ledger_of_texts_opens_as_one_of_records(tmp_path):
    run = record_run(tmp_path / "run")
    file = run.ledger.folder.ledger
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    trials = [line for line in lines if line["kind"] == "trial"]
    for line, trial in zip(trials, run.leaderboard.trials, strict=True):
        assert line["origin"] == origin_line(trial.candidate.origin)
        line["origin"] = str(trial.candidate.origin)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = load_run(tmp_path / "run").leaderboard.trials
    assert [trial.candidate.origin for trial in again] == [
        trial.candidate.origin for trial in run.leaderboard.trials
    ]


def test_a_record_comes_back_whole(tmp_path):
    run = record_run(tmp_path / "run", n_trials=2)
    file = run.ledger.folder.ledger
    *before, last = file.read_text().splitlines()
    trial = next(line for line in reversed(before) if '"trial"' in line)
    changed = {**json.loads(trial), "origin": origin_line(EPOCH.of_link(4, "whole"))}
    file.write_text("\n".join([*before, last, json.dumps({**changed, "id": 99})]) + "\n")
    found = Ledger.open(run.ledger.folder, read_only=True).trials[99].candidate.origin
    assert found == EPOCH.of_link(4, "whole")
    assert (found.name, found.is_taught) == ("whole, gradient, epoch 3", True)


def test_a_ledger_knows_every_kind_of_origin(tmp_path):
    run = record_run(tmp_path / "run", n_trials=2)
    file = run.ledger.folder.ledger
    trial = next(line for line in file.read_text().splitlines() if '"trial"' in line)
    lines = [
        json.dumps({**json.loads(trial), "id": 90 + n, "origin": origin_line(Origin(kind))})
        for n, kind in enumerate(OriginKind)
    ]
    file.write_text(file.read_text() + "\n".join(lines) + "\n")
    found = Ledger.open(run.ledger.folder, read_only=True).trials
    assert [found[90 + n].candidate.origin.kind for n in range(len(OriginKind))] == [*OriginKind]
