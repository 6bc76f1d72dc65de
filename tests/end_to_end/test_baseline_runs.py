"""Runs that score what one would have tried anyway: begun, stopped, gone on with, told of."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evomerge.checks.search_plan import plan_of
from evomerge.compiler.checked import examine_stages
from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.foundations.errors import LedgerError, MergeError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.merging.resident import ResidentMerger
from evomerge.nouns.events import TrialFinished
from evomerge.report.summary import summary
from evomerge.run.ledger.history import Ledger
from evomerge.run.recorded_run import load_run

ALL = [
    "model models/model_1",
    "model models/model_2",
    "base models/base",
    "uniform average",
    *(f"task arithmetic {weight}" for weight in (0.3, 0.5, 0.7, 1.0)),
    "ties",
    "slerp 0.5",
]
SHORT = ("optimizer.budget=2",)
BEFORE = ["models", "base", "average"]  # what runs scored that do not say


@pytest.fixture
def begin(workplace, monkeypatch):
    """Sets up a run of the workplace's genome, which chooses no baselines."""
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = workplace / "genome.yml"
    file.write_text(
        file.read_text().replace("baselines: [models, base, average]\n", "").replace("12}", "6}")
    )
    searches = []

    def set_up(*overrides, folder="out", kinds=None):
        overrides = (*SHORT, *overrides)
        genome, source = load_genome(file, overrides)
        if kinds is not None:
            genome = genome.model_copy(update={"baselines": kinds})
        compiled = compile_genome(genome, source, Permissions(), workplace / folder)
        searches.append(search_for(compiled, workplace / folder))
        return searches[-1]

    yield set_up
    for search in searches:
        search.executor.close()
        search.ledger.close()


def found(search):
    """Runs to the end; every trial and what it scored, without the seconds."""
    list(search.run())
    read = Ledger.open(search.ledger.folder, read_only=True)
    return {
        i: (t.candidate.origin, t.candidate.recipe.digest, t.outcome.evaluation)
        for i, t in read.trials.items()
    }


def cut_to(folder, n_trials):
    """The ledger as a kill after so many trials leaves it."""
    file = folder / "ledger.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[: 1 + n_trials]))


def known_fixed(finished):
    return [event for event in finished if str(event.candidate.origin) in ALL[4:]]


def best_of(events):
    return str(max(events, key=lambda event: event.scores[0].value).candidate.origin)


def test_all_are_scored_outside_the_budget_and_told_where_they_are_points(begin):
    search = begin()
    told = []
    tell = search.proposer.tell
    search.proposer.tell = lambda *given: (told.append(given), tell(*given))
    finished = [event for event in search.run() if isinstance(event, TrialFinished)]
    assert [str(event.candidate.origin) for event in finished[:-2]] == ALL
    assert all(str(event.candidate.origin) == "optimizer" for event in finished[-2:])
    heard = [str(candidate.origin) for candidate in told[0][0]]
    assert heard == [*ALL[:8]]  # of another method: no points
    known = [e for e in finished if str(e.candidate.origin) in heard]
    best = max(known, key=lambda event: event.scores[0].value)
    start = search.proposer.optimizer.space.initial
    equals = [e.candidate.genotype for e in known if e.scores == best.scores]
    assert any(np.allclose(start, genotype) for genotype in equals)
    run = load_run(search.ledger.folder.path)
    rows = summary(run)["tables"][-1]["rows"]
    scored = [row["name"] for row in rows if row["scores"][0] is not None]
    fixed = [name for name in scored if name in ALL[4:]]
    assert fixed == [best_of(known_fixed(finished))]
    assert ALL[3] in scored
    assert summary(run)["searching"][0]["split"] == "holdout"


@pytest.mark.slow
@pytest.mark.parametrize("n_trials", [6, 2, 9])
def test_a_run_killed_between_its_baselines_becomes_the_uninterrupted_one(begin, n_trials):
    search = begin()
    whole = found(search)
    cut_to(search.ledger.folder.path, n_trials)
    assert found(begin()) == whole


@pytest.mark.slow
def test_a_run_that_began_without_them_goes_on_without_them(begin, workplace):
    search = begin(kinds=BEFORE)
    whole = found(search)
    search.ledger.close()
    file = workplace / "out" / "ledger.jsonl"
    header, *trials = file.read_text().splitlines()
    header = json.loads(header)
    assert header.pop("baselines") == BEFORE
    file.write_text("\n".join([json.dumps(header), *trials[:5]]) + "\n")
    (examination,) = examine_stages(
        workplace / "genome.yml", SHORT, None, lambda *_: workplace / "out"
    )
    assert plan_of(examination.compiled.context).trials.n_baselines == 4
    assert found(begin()) == whole
    assert len(load_run(workplace / "out").leaderboard.trials) == 6


@pytest.mark.slow
def test_another_choice_is_another_run(begin):
    list(begin("baselines=[models]").run())
    with pytest.raises(LedgerError, match="baselines"):
        begin("baselines=[models, average]")


def test_one_that_cannot_be_merged_is_a_failed_trial_and_no_more(begin, monkeypatch):
    merge = ResidentMerger.merge

    def refusing(self, recipe, *given):
        if recipe.config["merge_method"] == "ties":
            raise MergeError("the tensors do not fit", where="merge")
        return merge(self, recipe, *given)

    monkeypatch.setattr(ResidentMerger, "merge", refusing)
    search = begin("baselines=[models, ties]")
    list(search.run())
    run = load_run(search.ledger.folder.path)
    failed = [t for t in run.leaderboard.trials if t.outcome.failure]
    assert [str(trial.candidate.origin) for trial in failed] == ["ties"]
    assert len(run.leaderboard.trials) == 5
    assert summary(run)["searching"][0]["baseline"] != "ties"


@pytest.mark.slow
def test_when_the_search_begins_nothing_of_other_methods_is_kept(begin):
    search = begin("optimizer.budget=1", "holdout=[]", "validation=[]")
    kept = []
    for event in search.run():
        if isinstance(event, TrialFinished):
            kept.append(len(search.executor.worker.merger.resident._plans))
    assert max(kept[: len(ALL)]) > 1
    assert kept[-1] == 1
    loads = search.executor.worker.merger.resident._sources._tensors
    assert len({(load.model, load.tensor) for load in loads}) == len(loads)  # each source once
