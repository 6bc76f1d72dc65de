"""A run that has ended goes on with a larger budget where it is the run that had it at once."""

from __future__ import annotations

import shutil

import pytest

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.larger_limits import larger_limits
from evomerge.compiler.start import search_for
from evomerge.foundations.errors import LedgerError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.nouns.events import TrialStarted
from evomerge.report.limits_section import limits_section
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import make_workplace

CHAIN = "optimizer={chain: [{name: random, budget: 1}, qmc], budget: 3}"


@pytest.fixture(scope="module")
def place(_template, tmp_path_factory):
    """A workplace with a run of two trials, and one of five."""
    folder = make_workplace(_template, tmp_path_factory.mktemp("limits") / "workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        for name, budget in (("short", 2), ("whole", 5)):
            list(search_for(compiled(folder, name, budget), folder / name).run())
        yield folder


@pytest.fixture
def short(place, tmp_path, monkeypatch):
    """A copy of the shorter run; models and tasks stay where they are."""
    monkeypatch.chdir(place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shutil.copytree(place / "short", tmp_path / "run")
    return tmp_path / "run"


def compiled(place, folder, budget, *others):
    genome, source = load_genome(
        place / "genome.yml", (f"optimizer.budget={budget}", "finalists=1", *others)
    )
    return compile_genome(genome, source, Permissions(), place / folder)


def found(folder):
    """Every trial and final score, in order; documents by what is in them."""
    run = load_run(folder)
    trials = {
        i: (t.candidate.recipe.digest, t.outcome.evaluation, run.documents(i))
        for i, t in run.ledger.trials.items()
    }
    finals = {
        key: (outcome.evaluation, run.documents(key[1], key[0]))
        for key, outcome in sorted(run.ledger.finals.items())
    }
    return trials, finals, run.winners[0].candidate.trial_id


def refusals(place, folder, budget, *others):
    """What a run says that is to go on with another budget."""
    now = compiled(place, folder, budget, *others)
    ledger = Ledger.open(RunFolder(folder), read_only=True)
    return larger_limits(ledger, now.source, now.context).obstacles


def begun(folder, place, *others):
    """The folder of a run that has only begun."""
    search = search_for(compiled(place, folder, 3, *others), folder)
    search.executor.close()
    search.ledger.close()
    return folder


def test_a_larger_budget_goes_on_and_is_the_run_that_had_it_at_once(place, short):
    search = search_for(compiled(place, short, 5), short)
    assert "the run goes on: budget: was 2, now 5" in search.notes[0]
    assert "where they are why, holdout steers" in search.notes[0]
    started = [e.candidate.trial_id for e in search.run() if isinstance(e, TrialStarted)]
    n_trials = len(search.ledger.trials)
    assert [i for i in started if i >= n_trials - 3] == [n_trials - 3, n_trials - 2, n_trials - 1]
    assert len(started) == len(set(started))
    assert found(short) == found(place / "whole")
    run = load_run(short)
    assert run.genome.optimizer.budget == 5
    section = limits_section(run)
    assert section.rows == (("budget", "2", "5"),)
    assert "Final scores were known" in section.notes[0]
    assert limits_section(load_run(place / "whole")) is None
    again = search_for(compiled(place, short, 5), short)
    assert [e for e in again.run() if isinstance(e, TrialStarted)] == []


def test_a_kill_before_its_genome_is_written_loses_nothing(place, short):
    genome = (short / "genome.yml").read_text()
    search_for(compiled(place, short, 5), short).ledger.close()
    (short / "genome.yml").write_text(genome)
    list(search_for(compiled(place, short, 5), short).run())
    assert found(short) == found(place / "whole")
    assert load_run(short).genome.optimizer.budget == 5


def test_after_such_a_kill_limits_are_compared_with_those_it_was_given(place, short):
    genome = (short / "genome.yml").read_text()
    search_for(compiled(place, short, 4), short).ledger.close()
    (short / "genome.yml").write_text(genome)
    assert refusals(place, short, 2) == ("genome optimizer.budget: was 4, now 2",)
    search = search_for(compiled(place, short, 5), short)
    search.ledger.close()
    assert "the run goes on: budget: was 4, now 5" in search.notes[0]
    assert load_run(short).genome.optimizer.budget == 5


@pytest.mark.slow
def test_a_larger_patience_goes_on_and_is_the_run_that_had_it_at_once(place, tmp_path):
    *_, over = search_for(compiled(place, tmp_path, 5, "optimizer.patience=1"), tmp_path).run()
    assert over.reason == "patience"
    assert over.n_trials < len(load_run(place / "whole").ledger.trials)
    search = search_for(compiled(place, tmp_path, 5, "optimizer.patience=5"), tmp_path)
    assert "the run goes on: patience: was 1, now 5" in search.notes[0]
    list(search.run())
    assert found(tmp_path) == found(place / "whole")


def test_after_a_timeout_the_timeout_is_what_must_be_raised(place, short):
    timed = begun(short.parent / "timed", place, "optimizer.timeout=4")
    ledger = Ledger.open(RunFolder(timed))
    ledger.record_end("timeout")
    ledger.close()
    lines = (timed / "ledger.jsonl").read_text()
    with pytest.raises(
        LedgerError, match=r"by its timeout: raise optimizer.timeout \(4.*\) with it"
    ):
        search_for(compiled(place, timed, 5, "optimizer.timeout=4"), timed)
    assert (timed / "ledger.jsonl").read_text() == lines
    assert refusals(place, timed, 5, "optimizer.timeout=8") == ()


def test_limits_that_are_smaller_or_come_with_more_are_refused(place, short):
    assert refusals(place, short, 1) == ("genome optimizer.budget: was 2, now 1",)
    assert refusals(place, short, 5, "optimizer.patience=9") == (
        "genome optimizer.patience: was absent, now 9",
    )
    with pytest.raises(LedgerError, match=r"budget: was 2, now 5.*\n.*seed: was absent, now 1"):
        search_for(compiled(place, short, 5, "seed=1"), short)


def test_what_plans_by_its_budget_is_refused_by_name(place, short, tmp_path):
    chain = begun(tmp_path / "chain", place, CHAIN)
    assert refusals(place, chain, 3, CHAIN, "optimizer.budget=4") == ()
    first = "optimizer={chain: [random, {name: qmc, budget: 1}], budget: 4}"
    other = begun(tmp_path / "other", place, first.replace("4", "3"))
    (line,) = refusals(place, other, 3, first)
    assert line.endswith("budget: was 3, now 4, and random had 2 trials of it, not 3")
    islands = "optimizer={islands: [random, qmc], budget: 4}"
    apart = begun(tmp_path / "apart", place, islands.replace("4", "3"))
    (line,) = refusals(place, apart, 3, islands)
    assert line.endswith("and islands take turns by their shares of it")
