"""What export writes is plain mergekit YAML, and its comments tell the truth."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from mergekit.config import MergeConfiguration

from evomerge.foundations.errors import LedgerError, RunError
from evomerge.recipe.plain import Recipe
from evomerge.report.exporting import Export, exports
from evomerge.run.chosen import top_of, trial_of, winners_of
from tests.recorded_runs import FAILED_TRIAL, record_run
from tests.tiny_models import tiny_family


@pytest.fixture
def run(tmp_path):
    return record_run(tmp_path / "run")


@pytest.fixture
def folder(run):
    return run.ledger.folder.path


def test_mergekit_reads_the_recipe_of_the_winner(run, folder):
    (export,) = exports(winners_of(folder))
    winner = run.winners[0].candidate
    assert Recipe(yaml.safe_load(export.to_yaml())) == winner.recipe
    assert MergeConfiguration.model_validate(yaml.safe_load(export.to_yaml())).merge_method


def test_a_run_of_which_every_trial_failed_says_what_helps(tmp_path):
    run = record_run(tmp_path / "run", n_trials=0, has_finals=False)
    ledger = run.ledger.folder.ledger
    header, *trials = map(json.loads, ledger.read_text().splitlines())
    failed = [
        {**one, "state": "failed", "metrics": [], "failure": f"evaluate: no room {one['id']}"}
        for one in trials
    ]
    last = trials[-1]["id"]
    assert last > 0
    ledger.write_text("".join(f"{json.dumps(line)}\n" for line in (header, *failed)))
    with pytest.raises(
        RunError, match=rf"complete, the last failed: evaluate: no room {last}\."
    ) as told:
        winners_of(run.ledger.folder.path)
    assert "genome.yml --fork NEW_RUN` tries them again" in str(told.value)


def test_best_yml_alone_exports_as_its_run(folder, tmp_path):
    (of_run,) = exports(winners_of(folder))
    shutil.copy(folder / "best.yml", tmp_path / "alone.yml")
    (of_file,) = exports(winners_of(tmp_path / "alone.yml"))
    assert of_file.to_yaml() == of_run.to_yaml()


def test_the_comments_name_scores_versions_and_the_command(folder, is_golden):
    (export,) = exports(winners_of(folder))
    is_golden("cli/export.txt", export.to_yaml("recipe.yml", "merged"))


def test_a_randomised_method_says_what_its_bits_depend_on(tmp_path):
    record_run(tmp_path / "run", method="dare_ties")
    text = exports(winners_of(tmp_path / "run"))[0].to_yaml()
    assert "at random: the same bits need this seed" in text
    assert "2 threads, device cpu" in text


@pytest.mark.parametrize(
    "model", ["org/a+org/lora", {"model": {"path": "a"}, "lora": {"path": "b"}}]
)
def test_the_command_names_a_cache_where_there_are_adapters(folder, model):
    (export,) = exports(winners_of(folder))
    assert "--lora-merge-cache" not in export.commands(["r.yml"], "out")[0]
    recipe = {"merge_method": "passthrough", "models": [{"model": model}]}
    with_adapter = Export({**export.content, "recipe": recipe})
    assert with_adapter.commands(["r.yml"], "out")[0].endswith(
        "--lora-merge-cache lora-cache --no-write-model-card"
    )


def test_a_checkpoint_of_the_run_is_named_in_full(folder, monkeypatch):
    (export,) = exports(winners_of(folder))
    monkeypatch.chdir(folder)
    name = f"optimizer/columns/{'0' * 16}/model"
    recipe = {"merge_method": "passthrough", "models": [{"model": name}]}
    of_columns = Export({**export.content, "recipe": recipe}, Path())
    assert yaml.safe_load(of_columns.to_yaml())["models"] == [{"model": str(folder / name)}]


def test_folders_that_are_not_named_in_full_are_told(folder, tmp_path, monkeypatch):
    (export,) = exports(winners_of(folder))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "deep" / "own").mkdir(parents=True)
    for name in ("mine", "mine/deep/own"):
        adapted = {"merge_method": "passthrough", "models": [{"model": f"{name}+/abs/lora"}]}
        text = Export({**export.content, "recipe": adapted}).to_yaml()
        assert f"# Build it where these folders are: {name}." in text
        assert str(tmp_path) not in text
        assert "--random-seed 0 --lora-merge-cache lora-cache --no-write-model-card" in text
    assert "Build it where" not in export.to_yaml()


def test_a_metric_that_is_not_the_tasks_own_is_not_told(folder):
    assert "acc_norm" not in exports(winners_of(folder))[0].to_yaml()


def test_the_top_trials_come_best_first(run, folder):
    ranked = [trial.candidate.trial_id for trial in run.leaderboard.ranked()]
    assert [export.trial_id for export in top_of(folder, 3)] == ranked[:3]
    assert [export.trial_id for export in top_of(folder / "best.yml", 1000)] == ranked


def test_a_failed_trial_is_not_exported(folder):
    with pytest.raises(RunError, match="trial 7 failed: merge: weights"):
        trial_of(folder, FAILED_TRIAL)


def test_a_trial_that_does_not_exist_is_named_with_the_last_one(folder):
    with pytest.raises(RunError, match="no trial 99, the last one is 15"):
        trial_of(folder, 99)


def test_a_file_that_is_no_best_yml_is_refused(folder):
    with pytest.raises(LedgerError, match=r"genome\.yml: not a best\.yml"):
        exports(winners_of(folder / "genome.yml"))


def test_a_front_exports_one_recipe_per_point(tmp_path):
    run = record_run(tmp_path / "run", objective="per_task", optimizer="nsga2")
    assert len(exports(winners_of(tmp_path / "run"))) == len(run.leaderboard.front())


def test_the_comments_say_what_became_of_the_tensors_of_models_that_are_here(folder, tmp_path):
    (export,) = exports(winners_of(folder))
    assert "tensors of experts/base, experts/sort, experts/twice are not counted" in unwrapped(
        export.to_yaml()
    )
    one, two = tiny_family(tmp_path / "models", n_models=1)
    slices = [{"sources": [{"model": str(model), "layer_range": [0, 1]}]} for model in (one, two)]
    recipe = {"merge_method": "passthrough", "slices": slices}
    text = Export({**export.content, "recipe": recipe}).to_yaml()
    assert "# 21 tensors of 2 models merged" in text
    assert f"9 tensors of {two} are left out: the recipe reads no such layer" in unwrapped(text)


def unwrapped(text):
    return " ".join(line.removeprefix("#").strip() for line in text.splitlines())
