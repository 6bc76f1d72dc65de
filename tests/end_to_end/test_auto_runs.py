"""Runs of genomes that name no optimizer: what was picked is said, kept, and kept to."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml
from click.testing import CliRunner

from evomerge.cli.main import main
from evomerge.compiler.examine import compile_genome
from evomerge.compiler.recorded_genome import genome_digest
from evomerge.compiler.start import search_for
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.nouns.events import Notice, RunStarted, TrialFinished
from evomerge.optimizers.gradient.training_section import training_of
from evomerge.run.recorded_run import load_run
from evomerge.training.trainer import GradientTrainer
from tests.end_to_end.conftest import GENOME, make_workplace
from tests.killed import history
from tests.shared_fixtures import own_dataset_cache  # noqa: F401  # a fixture that acts on its own
from tests.tiny_models import tiny_family

CMA = "optimizer: {name: cma_es, budget: 6, population_size: 4}"
BUDGET = 20
LINE = (
    r"optimizer auto: gradient, a weight a tensor, 6 epochs, then gp, 14 trials \(\d+ dimensions; "
    r"docs/optimizers\.md has the rule\)"
)
N_BASELINES = 4


pytestmark = pytest.mark.slow  # the place alone takes seconds; its rule has tests of its own


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto_workplace")
    tiny_family(folder / "models")
    return folder


@pytest.fixture(scope="module")
def finished(template, tmp_path_factory):
    """A workplace with a whole run."""
    folder = make_workplace(template, tmp_path_factory.mktemp("auto") / "workplace")
    (folder / "genome.yml").write_text(GENOME.replace(CMA, f"optimizer: {{budget: {BUDGET}}}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        folder.joinpath("told").write_text("\n".join(begun(folder)[0].notes))
        list(begin(folder).run())
    return folder


@pytest.fixture
def place(finished, tmp_path, monkeypatch):
    """A workplace of its own, without a run."""
    folder = tmp_path / "workplace"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("run"))
    monkeypatch.chdir(folder)
    return folder


def begin(folder, *overrides, hear=None):
    genome, source = load_genome(folder / "genome.yml", overrides)
    compiled = compile_genome(genome, source, Permissions(), folder / "run")
    return search_for(compiled, folder / "run", hear=hear)


def begun(folder, n_events=1):
    """The first events of a run that is stopped then."""
    events = begin(folder).run()
    found = [next(events) for _ in range(n_events)]
    events.close()
    return found


def begun_with(folder, n_trials):
    """A run that is stopped after some trials."""
    events = begin(folder).run()
    for event in events:
        n_trials -= isinstance(event, TrialFinished)
        if not n_trials:
            break
    events.close()


def test_the_choice_is_said_in_one_line_when_it_begins(finished):
    told = (finished / "told").read_text().splitlines()
    assert [line for line in told if re.fullmatch(LINE, line)]


def test_check_says_the_same(place):
    done = CliRunner().invoke(main, ["check", "genome.yml"])
    assert re.search(LINE, " ".join(done.output.split()))
    assert "gradient -> gp: 20 trials" in done.output


def test_its_trials_are_told_apart_and_its_epochs_are_shown(finished):
    run = load_run(finished / "run")
    origins = [str(t.candidate.origin) for t in run.leaderboard.trials[N_BASELINES:]]
    epochs = [f"optimizer, gradient, epoch {n}" for n in range(1, 7)]
    assert origins == [*epochs, *["optimizer, gp"] * (BUDGET - 6)]
    assert run.genome.optimizer.title == run.ledger.header["optimizer"] == "gradient -> gp"
    assert [epoch.number for epoch in training_of(run)] == [1, 2, 3, 4, 5, 6]
    shown = CliRunner().invoke(main, ["show", str(finished / "run")])
    assert "training: mean of each loss over an epoch" in shown.output


@pytest.mark.parametrize("n_trials", [N_BASELINES + 2, N_BASELINES + 9])
def test_a_run_that_goes_on_is_the_whole_run_though_less_memory_is_free(
    finished, place, monkeypatch, n_trials
):
    begun_with(place, n_trials)
    monkeypatch.setattr("evomerge.compiler.auto_choice._shortage", lambda context: "no memory")
    search = begin(place)
    events = list(search.run())
    assert re.fullmatch(LINE, next(n for n in events[0].notes if n.startswith("optimizer auto")))
    mine, whole = history(place / "run"), history(finished / "run")
    assert (mine[0][1:], mine[1]) == (whole[0][1:], whole[1])
    assert mine[2].replace(str(place), "") == whole[2].replace(str(finished), "")


def test_a_run_from_before_the_rule_goes_on_with_the_optimizer_of_its_header(
    finished, tmp_path, monkeypatch
):
    folder = tmp_path / "workplace"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    ledger = folder / "run" / "ledger.jsonl"
    first, *lines = ledger.read_text().splitlines(keepends=True)
    header = json.loads(first)
    del header["auto"]
    ledger.write_text("".join([json.dumps({**header, "optimizer": "cma_es"}) + "\n", *lines]))
    genome, source = load_genome(folder / "genome.yml")
    compiled = compile_genome(genome, source, Permissions(), folder / "run")
    assert [link.block.name for link in compiled.choice] == ["cma_es"]
    assert compiled.genome.optimizer.title == load_run(folder / "run").genome.optimizer.title


def test_such_a_run_ends_as_it_would_have_before_there_was_a_rule(place, tmp_path, monkeypatch):
    named, whole = GENOME, tmp_path / "whole"
    (place / "genome.yml").write_text(named)
    shutil.copytree(place, whole)
    monkeypatch.chdir(whole)
    list(begin(whole).run())
    monkeypatch.chdir(place)
    begun_with(place, N_BASELINES + 3)
    assert N_BASELINES < len(load_run(place / "run").leaderboard.trials) < N_BASELINES + 6
    unnamed = named.replace("name: cma_es, ", "")
    assert unnamed != named
    for folder in (place, place / "run"):
        (folder / "genome.yml").write_text(unnamed)
    ledger = place / "run" / "ledger.jsonl"
    first, *lines = ledger.read_text().splitlines(keepends=True)
    header = {**json.loads(first), "genome_digest": genome_digest(yaml.safe_load(unnamed))}
    assert (header["optimizer"], "auto" in header) == ("cma_es", False)
    ledger.write_text("".join([json.dumps(header) + "\n", *lines]))
    events = list(begin(place).run())
    assert not [note for note in events[0].notes if note.startswith("optimizer auto")]
    mine, expected = history(place / "run"), history(whole / "run")
    assert (mine[0][1:], mine[1]) == (expected[0][1:], expected[1])
    assert mine[2].replace(str(place), "") == expected[2].replace(str(whole), "")


def test_where_memory_is_short_nothing_is_trained_and_the_line_says_so(place, monkeypatch):
    monkeypatch.setattr("evomerge.compiler.auto_choice._TOKENS", 10**12)
    (started,) = begun(place)
    assert isinstance(started, RunStarted)
    (line,) = [note for note in started.notes if note.startswith("optimizer auto")]
    assert re.match(
        r"optimizer auto: gp, 20 trials \(.*; no gradient: training takes some \S+ \S+ of RAM, \S+ "
        r"\S+ are free; ",
        line,
    )


def test_training_that_fails_is_told_and_the_search_takes_its_place(place, monkeypatch):
    def refuse(*_, **__):
        raise GenomeError("nothing teaches here")

    monkeypatch.setattr(GradientTrainer, "epoch", refuse)
    heard = []
    events = begin(place, hear=heard.append).run()
    asked = []
    for event in events:
        if isinstance(event, TrialFinished) and not event.candidate.is_baseline:
            asked.append(str(event.candidate.origin))
            if len(asked) == 2:
                break
    events.close()
    assert asked == ["optimizer, gp"] * 2
    told = [event.message for event in heard if isinstance(event, Notice)]
    assert told == ["gradient cannot go on, gp takes its place: nothing teaches here."]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optimizer={chain: [auto, gp]}", "chain[0] is auto, which picks a chain of its own"),
        ("optimizer={islands: [gp, {}]}", "islands[1] is auto, which picks a chain of its own"),
        (
            "optimizer={population_size: 3, budget: 300}",
            "got 3, cma_es, which auto picks here, needs 4 or more",
        ),
        ("optimizer={epochs: 3}", "unknown key 'epochs'"),
    ],
)
def test_what_auto_cannot_do_is_refused_at_its_key(place, override, sentence):
    done = CliRunner().invoke(main, ["check", "genome.yml", "--set", override])
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.split())


def test_without_validation_nothing_is_trained_and_the_line_says_why(place):
    note = next(n for n in begin(place, "validation=[]").notes if "optimizer auto" in n)
    assert note.startswith("optimizer auto: gp, 20 trials (")
    assert "no gradient: no validation tasks to judge what is learned by" in note
