"""A run folder is only continued where it still means the same; real parts throughout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from evomerge.compiler.checked import examine_stages
from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.foundations.canonical import digest
from evomerge.foundations.errors import GenomeError, LedgerError, LostFileError, RunError
from evomerge.foundations.findings import Severity, problems
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.genome.source import read_yaml
from evomerge.nouns.events import TrialStarted
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from tests.end_to_end.conftest import ROOT, make_workplace
from tests.tiny_models import tiny_model


@pytest.fixture
def begin(workplace, monkeypatch):
    """Sets up the run of the workplace's genome, as the command line does."""
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    searches = []

    def set_up(*overrides, folder="out", fork=None):
        genome, source = load_genome(workplace / "genome.yml", overrides)
        folder = workplace / folder
        compiled = compile_genome(genome, source, Permissions(), folder)
        searches.append(search_for(compiled, folder, fork and workplace / fork))
        return searches[-1]

    yield set_up
    for search in searches:
        search.executor.close()
        search.ledger.close()


def found(search):
    """Runs to the end; trials and what they scored, without the seconds."""
    list(search.run())
    read = Ledger.open(search.ledger.folder, read_only=True)
    return {i: (t.candidate.recipe.digest, t.outcome.evaluation) for i, t in read.trials.items()}


SHORT = "optimizer.budget=1"
OTHER = "optimizer.population_size=5"


@pytest.fixture(scope="module")
def recorded(_template, tmp_path_factory):
    """The folder of a run of SHORT, in a workplace like all of them."""
    folder = make_workplace(_template, tmp_path_factory.mktemp("recorded") / "workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        genome, source = load_genome(folder / "genome.yml", (SHORT,))
        compiled = compile_genome(genome, source, Permissions(), folder / "out")
        list(search_for(compiled, folder / "out").run())
    return folder / "out"


@pytest.fixture
def begun(recorded, workplace):
    """The same in the workplace of the test."""
    shutil.copytree(recorded, workplace / "out")


@pytest.mark.usefixtures("begun")
def test_a_changed_genome_is_refused_with_what_changed(begin):
    with pytest.raises(LedgerError, match=r"population_size: was 4, now 5") as caught:
        begin(SHORT, OTHER)
    assert "--fork NEW_RUN" in str(caught.value)


@pytest.fixture
def refused(workplace):
    """What a check of the genome says that keeps a run from going on in out/."""

    def errors(*overrides):
        file, folder = workplace / "genome.yml", workplace / "out"
        (found,) = examine_stages(file, overrides, None, lambda *_: folder)
        assert found.has_errors == bool(problems(found.findings, Severity.ERROR))
        return "\n".join(map(str, problems(found.findings, Severity.ERROR)))

    return errors


@pytest.mark.usefixtures("begun")
def test_a_check_refuses_what_a_run_would_refuse(begin, refused, workplace):
    assert refused(SHORT) == ""
    changed = refused(SHORT, OTHER)
    assert "out: the folder holds a run that began with something else" in changed
    assert "genome optimizer.population_size: was 4, now 5" in changed
    untrained = refused("optimizer={name: gradient, budget: 1, losses: {nll: 0}}")
    assert "losses" in untrained.partition("out: the folder holds")[2]
    assert "no such file" in refused(SHORT, "optimizer.seed_from=gone.yml")
    tiny_model(workplace / "models" / "model_1", base=workplace / "models" / "base", seed=9)
    assert "model models/model_1: its files are others" in refused(SHORT)


@pytest.mark.usefixtures("begun")
def test_a_check_of_a_broken_ledger_says_so(begin, refused, workplace):
    ledger = workplace / "out" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"kind":"trial"', '"kind":"nothing"', 1))
    assert "ledger.jsonl: line" in refused(SHORT)


@pytest.mark.slow
def test_a_run_may_be_moved_whatever_its_genome_says_of_its_folder(begin, workplace):
    list(begin(SHORT, "run_dir=out").run())
    shutil.move(workplace / "out", workplace / "moved")
    for overrides in ((SHORT,), (SHORT, "run_dir=moved"), (SHORT, "run_dir=out")):
        moved = begin(*overrides, folder="moved")
        assert len(moved.ledger.trials) == 5
        moved.ledger.close()
    with pytest.raises(LedgerError, match=r"population_size: was 4, now 5$"):
        begin(SHORT, OTHER, folder="moved")


@pytest.mark.slow
def test_a_ledger_that_counts_its_folder_as_part_of_the_run_goes_on(begin, workplace):
    search = begin(SHORT, "run_dir=out")
    list(search.run())
    new = search.ledger.header["genome_digest"]
    old = digest(read_yaml(workplace / "out" / "genome.yml").data)
    assert new != old
    ledger = workplace / "out" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace(new, old))
    assert begin(SHORT).ledger.trials


@pytest.mark.usefixtures("begun")
def test_a_changed_model_is_refused(begin, workplace):
    tiny_model(workplace / "models" / "model_1", base=workplace / "models" / "base", seed=9)
    with pytest.raises(LedgerError, match="model models/model_1: its files are others"):
        begin(SHORT)


@pytest.mark.parametrize(
    "split",
    [
        "search",
        pytest.param("validation", marks=pytest.mark.slow),
        pytest.param("holdout", marks=pytest.mark.slow),
    ],
)
def test_a_changed_task_is_refused(begin, workplace, split):
    list(begin(SHORT).run())
    file = workplace / "tasks" / f"{split}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[3]["text"] += " again"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(LedgerError, match=rf"task tiny_{split} .*: other documents, prompts or"):
        begin(SHORT)


@pytest.mark.usefixtures("begun")
def test_a_document_beyond_the_limit_may_change(begin, workplace):
    file = workplace / "tasks" / "search.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[-1]["text"] += " again"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert begin(SHORT).ledger.trials


@pytest.mark.slow
def test_a_search_begins_from_an_earlier_run_and_goes_on_whatever_that_found_since(
    begin, workplace
):
    list(begin("optimizer.budget=3", folder="before").run())
    seeded = ("optimizer.seed_from=before", "finalists=2", "optimizer.budget=4")
    whole = found(begin(*seeded, folder="whole"))
    search = begin(*seeded)
    for event in search.run():
        if isinstance(event, TrialStarted) and not event.candidate.is_baseline:
            search.stop()
    list(begin("optimizer.seed=9", "optimizer.budget=9", folder="other").run())
    shutil.rmtree(workplace / "before")
    shutil.move(workplace / "other", workplace / "before")
    again = begin(*seeded)
    assert found(again) == whole
    origins = [str(trial.candidate.origin) for trial in again.ledger.trials.values()]
    assert sum(origin.startswith("seed before, trial") for origin in origins) == 2
    seeds = [c.genotype for c in again.baselines if str(c.origin).startswith("seed before, trial")]
    np.testing.assert_array_equal(again.proposer.optimizer.context.seeds, seeds)


@pytest.mark.slow
def test_the_reference_engine_finds_what_the_fast_one_finds(begin):
    fast = found(begin("optimizer.budget=3", folder="fast"))
    reference = begin("optimizer.budget=3", "evaluation.exactness=reference")
    assert found(reference) == fast


@pytest.mark.slow
@pytest.mark.parametrize("chain", ["[random, cma_es]", "[{name: gradient, budget: 2}, niches]"])
def test_a_chain_that_was_stopped_becomes_the_uninterrupted_one(begin, chain):
    chained = (f"optimizer={{chain: {chain}, budget: 6}}",)
    whole = found(begin(*chained, folder="whole"))
    search = begin(*chained)
    n_started = 0
    for event in search.run():
        n_started += isinstance(event, TrialStarted) and not event.candidate.is_baseline
        if n_started == 2:
            search.stop()
    assert len(search.ledger.trials) < len(whole)
    assert found(begin(*chained)) == whole


@pytest.mark.usefixtures("begun")
def test_another_version_is_refused(begin, workplace):
    ledger = workplace / "out" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"mergekit":"0.1.5"', '"mergekit":"0.1.4"'))
    with pytest.raises(LedgerError, match=r"version of mergekit: was 0.1.4, now 0.1.5"):
        begin(SHORT)


@pytest.mark.usefixtures("begun")
def test_a_fork_with_a_larger_budget_repeats_nothing_and_equals_the_whole_run(begin):
    forked = begin("optimizer.budget=4", fork="forked")
    assert "5 trials and" in forked.notes[0]
    begun = [e.candidate.trial_id for e in forked.run() if isinstance(e, TrialStarted)]
    assert set(begun) & set(range(5)) == set()
    again = begin("optimizer.budget=4", folder="forked")
    whole = begin("optimizer.budget=4", folder="whole")
    assert found(again) == found(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("begun")
def test_a_fork_with_other_search_tasks_keeps_only_the_final_scores(begin):
    forked = begin(SHORT, "tasks[0].limit=10", fork="forked")
    assert forked.notes[0].startswith("0 trials and ")
    assert "0 final scores" not in forked.notes[0]


@pytest.mark.slow
@pytest.mark.usefixtures("begun")
def test_a_fork_of_a_run_of_other_versions_takes_nothing_and_says_why(begin, workplace):
    ledger = workplace / "out" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"mergekit":"0.1.5"', '"mergekit":"0.1.4"'))
    forked = begin(SHORT, fork="forked")
    assert forked.ledger.known == {}
    assert "nothing of" in forked.notes[0]
    assert "mergekit was 0.1.4, now 0.1.5" in forked.notes[0]


@pytest.mark.slow
@pytest.mark.usefixtures("begun")
def test_a_fork_saves_what_a_broken_ledger_still_holds(begin, workplace):
    ledger = workplace / "out" / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    lines[2] = lines[2][:40] + "\n"
    ledger.write_text("".join(lines))
    with pytest.raises(LedgerError, match=r"line 3 of \d+ is not an event.*--fork NEW_RUN"):
        begin(SHORT)
    assert "4 trials and" in begin(SHORT, fork="forked").notes[0]


@pytest.mark.slow
@pytest.mark.usefixtures("begun")
def test_the_command_that_forked_continues_the_fork(begin):
    larger = "optimizer.budget=2"
    first = begin(larger, fork="forked")
    for event in first.run():
        if isinstance(event, TrialStarted):
            first.stop()
    again = begin(larger, fork="forked")
    assert sorted(again.ledger.trials) == list(range(6))
    assert found(again) == found(begin(larger, folder="whole"))


@pytest.mark.usefixtures("begun")
def test_a_fork_into_the_folder_of_another_run_is_refused(begin):
    with pytest.raises(LedgerError, match=r"out: the folder holds a run that began with something"):
        begin(SHORT, OTHER, fork="out")


@pytest.mark.slow
def test_a_second_process_is_refused_while_the_first_writes(begin, workplace, evomerge):
    first = begin(SHORT)
    refused = evomerge("run", "genome.yml", "--run-dir", "out", "--set", SHORT, exit_code=1)
    assert f"process {os.getpid()} is writing this run right now" in refused.stderr
    list(first.run())


@pytest.mark.slow
def test_a_model_that_vanished_is_one_sentence_and_the_run_goes_on_when_it_is_back(
    begin, workplace
):
    first = begin(SHORT)
    model, away = workplace / "models" / "model_2", workplace / "away"
    shutil.move(model, away)
    with pytest.raises(LostFileError, match=r"cannot be read .*no folder models/model_2.*then con"):
        list(first.run())
    with pytest.raises(GenomeError, match=r"there is no folder models/model_2"):
        begin(SHORT)
    shutil.move(away, model)
    assert found(begin(SHORT)) == found(begin(SHORT, folder="whole"))


def test_a_trial_that_takes_too_long_has_failed(begin):
    search = begin(SHORT, "execution.trial_timeout=1e-9")
    with pytest.raises(RunError, match=r"every model failed, .*took longer than 1e-09 seconds"):
        list(search.run())
    assert all("took longer" in t.outcome.failure for t in search.ledger.trials.values())


@pytest.mark.slow
def test_ctrl_c_once_leaves_with_130_and_says_how_to_go_on(workplace, evomerge):
    command = [sys.executable, "-m", "evomerge", "run", "genome.yml", "--run-dir", "out"]
    budget = ("--set", "optimizer.budget=300")
    said = []
    with subprocess.Popen(
        [*command, *budget],
        cwd=workplace,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    ) as running:
        for line in running.stderr:
            said.append(line)
            if line.startswith("trial    6"):
                running.send_signal(signal.SIGINT)
    assert running.returncode == 130
    text = "".join(said)
    assert "Ctrl-C again leaves now" in text
    assert "The same command continues it, and so does `evomerge run out/genome.yml`." in text
    n_trials = len(Ledger.open(RunFolder(workplace / "out"), read_only=True).trials)
    assert 7 <= n_trials < 300
    shown = evomerge("run", "out/genome.yml", "--set", "optimizer.budget=299", exit_code=1)
    assert "genome optimizer.budget: was 300, now 299" in shown.stderr
