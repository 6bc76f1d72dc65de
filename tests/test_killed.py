"""Nothing finished is lost: a killed run continues as if it had never been."""

from __future__ import annotations

import json
import random
import re
import signal

import pytest

from evomerge.optimizers import OPTIMIZERS
from tests.killed import (
    BUDGET,
    MOMENTS,
    dying_run,
    formula_run,
    full_disk_run,
    history,
    in_process,
    islands_run,
    killed_at_random,
    killed_run,
    whole_lines,
    whole_run,
    workers_run,
)
from tests.test_search import N_BASELINES

# To start: many calls, each of them looked at.
COSTLY = ("auto", "cma_es", "gp", "gradient", "grid", "qmc")
SORTED = [  # xdist sees one order
    pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name
    for name in sorted(OPTIMIZERS)
]


@pytest.mark.parametrize("optimizer", SORTED)
def test_a_run_killed_at_random_moments_becomes_the_uninterrupted_run(tmp_path, optimizer):
    assert killed_at_random(tmp_path, 4, 0, formula_run, optimizer) == 4


@pytest.mark.slow
def test_a_run_of_islands_killed_at_random_moments_becomes_the_uninterrupted_run(tmp_path):
    assert killed_at_random(tmp_path, 4, 0, islands_run) == 4


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_run_killed_at_many_random_moments_becomes_the_uninterrupted_run(tmp_path, optimizer):
    n = 50 if optimizer == "cma_es" else 12
    assert killed_at_random(tmp_path, n, 1, formula_run, optimizer) == n


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["tpe", "cma_es", "swarm"])
def test_a_run_of_two_workers_killed_at_random_moments_loses_and_repeats_nothing(
    tmp_path, optimizer
):
    """Which trial is over first is chance: what the ledger had stays, and is not scored again."""
    n_calls = whole_run(workers_run, tmp_path / "whole", tmp_path / "noted-whole", optimizer)
    rng, folder, n_killed, n_amid = random.Random(0), tmp_path / "run-0", 0, 0
    while n_killed < 12 or folder.exists():
        before, noted = whole_lines(folder), tmp_path / f"noted-{n_killed}"
        known = {line["digest"] for line in map(json.loads, before) if line["kind"] == "trial"}
        number = rng.randrange(1, n_calls) if n_killed < 12 else 10 * n_calls
        is_killed = killed_run(number, workers_run, folder, noted, optimizer)
        scored = noted.read_text().split() if noted.exists() else []
        assert whole_lines(folder)[: len(before)] == before
        assert not known & {*scored}
        assert len(scored) == len({*scored})
        if is_killed:
            n_killed += 1
            n_amid += N_BASELINES < len(known) < N_BASELINES + BUDGET
            continue
        trials = [line for line in map(json.loads, whole_lines(folder)) if line["kind"] == "trial"]
        assert sorted(line["id"] for line in trials) == list(range(N_BASELINES + BUDGET))
        noted.unlink(missing_ok=True)
        folder = tmp_path / f"run-{n_killed}"
    assert n_amid  # some were killed with trials of the optimizer out, and went on


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    whole_run(formula_run, folder, "cma_es")
    return history(folder)


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", sorted(MOMENTS))
def test_a_run_killed_at_a_named_moment_becomes_the_uninterrupted_run(tmp_path, whole, moment, n):
    folder = tmp_path / "run"
    assert in_process(dying_run, folder, "cma_es", moment, n) == -signal.SIGKILL
    assert in_process(formula_run, folder, "cma_es") == 0
    assert history(folder) == whole


@pytest.mark.slow
@pytest.mark.parametrize("n_bytes", [100, 3000, 6000])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    tmp_path, whole, n_bytes
):
    folder = tmp_path / "run"
    assert in_process(full_disk_run, folder, "cma_es", n_bytes) == 0
    said = (tmp_path / "said").read_text()
    sentence = r"\S+: cannot be written \(File too large\)\. Make room or .* again\."
    assert re.fullmatch(sentence, said)
    assert in_process(formula_run, folder, "cma_es") == 0
    assert history(folder) == whole
