"""Stages of one genome: what one finds is kept, merged by the next, exported and verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from evomerge.compiler.genome_file import read_genomes
from evomerge.compiler.staged_run import StagedRun
from evomerge.foundations.errors import LedgerError
from evomerge.run.ledger.staged_folder import begun_stages, result_folder
from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import command_in, make_workplace, told_in
from tests.end_to_end.dying import EXIT_CODES, Command
from tests.end_to_end.test_death import found
from tests.tiny_models import tiny_family

pytestmark = pytest.mark.slow

STAGES = """
tasks: [{perplexity: text.txt}]
holdout: [{name: tiny_holdout, limit: 12}]
task_search_path: [tasks]
baselines: [models, base, average]
stages:
  - name: sums
    genome:
      models: [models/model_1, models/model_2]
      merge_method: linear
    optimizer: {name: random, budget: 3}
  - name: between
    genome:
      models: [{stage: sums}, models/base]
      merge_method: slerp
    optimizer: {name: cma_es, budget: 4, population_size: 4}
  - name: all
    genome:
      space: soup
      models: [{stage: sums}, {stage: between}, models/model_1]
    optimizer: {name: random, budget: 3}
"""
TEXT = "the quick brown fox jumps over the lazy dog, and the other animals think so too.\n" * 8
NAMES = ("sums", "between", "all")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workplace with a run of all stages in out/."""
    template = tmp_path_factory.mktemp("template")
    tiny_family(template / "models")
    folder = make_workplace(template, tmp_path_factory.mktemp("stages") / "place")
    (folder / "stages.yml").write_text(STAGES)
    (folder / "text.txt").write_text(TEXT)
    command_in(folder)("run", "stages.yml", "--run-dir", "out")
    return folder


def ledger_models(folder):
    return set(load_run(folder).ledger.header["models"])


def test_each_stage_is_a_run_and_the_next_merges_what_it_found(finished):
    out = finished / "out"
    assert [one.path.name for one in begun_stages(out)] == list(NAMES)
    assert result_folder(out) == out / "stages" / "all"
    runs = {name: load_run(out / "stages" / name) for name in NAMES}
    assert ledger_models(out / "stages" / "between") == {"stage sums", "models/base"}
    sums = runs["sums"].winners[0].candidate.recipe
    assert sums.methods == ("linear",)
    trials = runs["between"].leaderboard.trials
    assert trials[0].candidate.recipe == sums  # the model that joins is scored as what it is
    models = [t.candidate.origin.tail for t in trials if t.candidate.origin.is_unmerged]
    assert models == ["stage sums", "base", "model_1", "model_2"]  # it was made of the last two
    for trial in runs["between"].leaderboard.trials:
        recipe = trial.candidate.recipe
        assert all(not Path(model.path).is_relative_to(out) for model in recipe.models)
        assert {str(model) for model in recipe.models} <= {
            "models/model_1",
            "models/model_2",
            "models/base",
        }
    searched = [t for t in runs["between"].leaderboard.trials if not t.candidate.is_baseline]
    assert {t.candidate.recipe.kind for t in searched} == {"multi"}
    assert {t.candidate.recipe.documents[0]["merge_method"] for t in searched} == {
        sums.documents[0]["merge_method"]
    }


def test_what_a_stage_found_scores_in_the_next_as_it_did_there(finished):
    runs = {name: load_run(finished / "out" / "stages" / name) for name in NAMES}
    winner, joined = runs["sums"].winners[0], runs["between"].ledger.trials[0]
    then = runs["sums"].documents(winner.candidate.trial_id)
    assert then == runs["between"].documents(joined.candidate.trial_id)
    known = {digest for _, digest in runs["between"].ledger.known}
    assert winner.candidate.recipe.digest in known  # and nobody scored it again
    assert len(known) == 3  # with the two models that it was made of


def test_show_and_export_are_of_the_whole_run(finished):
    told = told_in(finished, "show", "out")
    for name in NAMES:
        assert name in told
    data = json.loads(told_in(finished, "show", "out", "--json"))
    assert [row["stage"] for row in data["stages"]["stages"]][::2] == list(NAMES)
    exported = told_in(finished, "export", "out")
    documents = list(yaml.safe_load_all(exported))
    winner = load_run(finished / "out").winners[0].candidate.recipe
    assert len(documents) == len(winner.documents)
    assert "stage sums" not in exported


def test_eval_scores_the_winner_of_the_last_stage(finished):
    told = told_in(finished, "eval", "out", "--genome", "stages.yml", "--json")
    data = json.loads(told)
    run = load_run(finished / "out")
    (winner,) = run.winners
    assert data["models"][0]["recipe"] == winner.candidate.recipe.config
    recorded = run.evaluation("holdout", winner.candidate.trial_id)
    (row,) = data["rows"]
    assert row["models"]["out"]["score"] == pytest.approx(recorded.metrics[0].value, abs=1e-6)


def test_the_same_command_has_nothing_left_to_do(finished):
    before = found(finished / "out" / "stages" / "all")
    done = command_in(finished)("run", "stages.yml", "--run-dir", "out")
    assert "stage sums" not in done.stderr
    assert found(finished / "out" / "stages" / "all") == before


def test_a_stage_that_is_over_is_refused_when_it_changes(finished):
    evomerge = command_in(finished)
    larger = ("--set", "stages[0].optimizer.budget=5")
    done = evomerge("run", "stages.yml", "--run-dir", "out", *larger, exit_code=1)
    assert "genome optimizer.budget: was 3, now 5" in done.stderr
    assert "--fork NEW_RUN" in done.stderr
    other = STAGES.replace("name: between", "name: middle").replace(
        "stage: between", "stage: middle"
    )
    (finished / "other.yml").write_text(other)
    done = evomerge("run", "other.yml", "--run-dir", "out", exit_code=1)
    assert "holds stages that the genome does not have: between" in done.stderr


def test_check_tells_of_every_stage(finished):
    told = told_in(finished, "check", "stages.yml")
    for name in NAMES:
        assert f"stage {name}" in told
    data = json.loads(told_in(finished, "check", "stages.yml", "--json"))
    assert [one["stage"] for one in data["stages"]] == list(NAMES)


def test_a_folder_that_was_moved_goes_on_and_a_model_that_is_gone_is_built_again(
    finished, tmp_path
):
    folder = tmp_path / "place"
    shutil.copytree(finished, folder)
    shutil.move(folder / "out", folder / "moved")
    shutil.rmtree(folder / "moved" / "models")
    checked = command_in(folder)("check", "moved/genome.yml")
    assert "error" not in checked.stdout + checked.stderr
    shutil.rmtree(folder / "moved" / "stages" / "all")
    command_in(folder)("run", "stages.yml", "--run-dir", "moved")
    assert found(folder / "moved/stages/all") == found(finished / "out/stages/all")


def test_the_built_winner_answers_as_recorded(finished):
    evomerge = command_in(finished)
    searched = [
        trial.candidate
        for trial in load_run(finished / "out" / "stages" / "between").leaderboard.trials
        if trial.candidate.recipe.kind == "multi"
    ]
    number = str(searched[-1].trial_id)
    done = evomerge("verify", "out/stages/between", "--trial", number)
    assert f"mergekit-multi builds trial {number}" in done.stderr
    assert "answer as recorded" in done.stdout
    assert "answer as recorded" in evomerge("verify", "out").stdout


def test_killed_in_any_stage_and_while_a_model_is_built_it_becomes_the_uninterrupted_run(finished):
    out = finished / "killed"

    def has_lines(stage, count):
        ledger = out / "stages" / stage / "ledger.jsonl"
        return lambda: ledger.is_file() and len(ledger.read_text().splitlines()) > count

    moments = [has_lines("sums", 5), (out / "models").exists, has_lines("between", 7)]
    moments += [has_lines("all", 0)]
    command = Command(finished, ("run", "stages.yml", "--run-dir", "killed"))
    for moment in moments:
        assert command.ended("kill -9", moment) == EXIT_CODES["kill -9"]
    command.run()
    for name in NAMES:
        assert found(out / "stages" / name) == found(finished / "out" / "stages" / name)
    assert "Traceback" not in command.log.read_text()


def test_a_fork_takes_over_what_holds_and_searches_later_stages_again(finished):
    evomerge = command_in(finished)
    larger = ("--set", "stages[0].optimizer.budget=5")
    done = evomerge("run", "stages.yml", "--run-dir", "out", "--fork", "new", *larger)
    assert "none is repeated" in done.stderr
    assert len(load_run(finished / "new/stages/sums").ledger.trials) == 3 + 5
    assert load_run(finished / "new").ledger.folder.path.name == "all"


def test_a_fork_repeats_what_is_made_of_a_model_inside_an_earlier_stage_that_changed(place):
    file = place / "models/model_1/model.safetensors"
    save_file({name: t * 1.5 for name, t in load_file(file).items()}, file, {"format": "pt"})
    evomerge = command_in(place)
    evomerge("run", "stages.yml", "--run-dir", "out", "--fork", "changed")
    old, new = (load_run(place / f"{name}/stages/between").ledger for name in ("out", "changed"))
    changed = {
        trial.candidate.recipe.digest
        for trial in old.trials.values()
        if "models/model_1" in {model.text for model in trial.candidate.recipe.named}
    }
    assert changed
    assert not changed & {digest for _, digest in new.known}
    assert new.known  # of the base


def test_models_of_a_stage_that_changed_are_told_before_anything_is_built_or_searched(
    place, monkeypatch
):
    monkeypatch.chdir(place)
    shutil.rmtree(place / "out" / "stages" / "all")
    shutil.rmtree(place / "out" / "models")
    file = place / "models/model_2/model.safetensors"
    save_file({name: t * 1.5 for name, t in load_file(file).items()}, file, {"format": "pt"})
    told = "model models/model_2: its files are others than when stage sums began"
    done = command_in(place)("run", "stages.yml", "--run-dir", "out", exit_code=1)
    assert told in " ".join(done.stderr.split())
    # The files may change while the run goes on from one stage to the next.
    shutil.rmtree(place / "out" / "stages" / "between")
    whole = StagedRun(read_genomes(Path("stages.yml")), Path("out"))
    with pytest.raises(LedgerError, match=told):
        whole.keep_for(whole.stages[1], lambda _: None)
    assert not (place / "out" / "models").exists()
