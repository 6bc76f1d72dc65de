"""``evomerge eval`` on tiny models: scores of a run again, and one that fails beside the others."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import command_in, make_workplace
from tests.tiny_models import tiny_family


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workplace with a run in it."""
    folder = tmp_path_factory.mktemp("eval")
    tiny_family(folder / "template" / "models")
    place = make_workplace(folder / "template", folder / "workplace")
    command_in(place)("run", "genome.yml", "--run-dir", "out")
    return place


def rows_of(text):
    data = json.loads(text)
    return data, {row["task"]: row["models"] for row in data["rows"]}


@pytest.mark.slow
def test_models_recipes_and_winners_score_as_in_their_run(place):
    run = command_in(place)
    run("export", "out", "-o", "winner.yml")
    names = ("models/model_1", "out", "out/best.yml", "winner.yml")
    shutil.copy(place / "genome.yml", place / "again.yml")
    for split in ("tasks", "validation", "holdout"):
        told = run("eval", *names, "--genome", "again.yml", "--split", split, "--json").stdout
        _, rows = rows_of(told)
        (models,) = rows.values()
        recorded = load_run(place / "out")
        (winner,) = recorded.winners
        by_name = {str(t.candidate.origin): t for t in recorded.leaderboard.trials}
        first = by_name["model models/model_1"]
        for name, trial in zip(names, (first, winner, winner, winner), strict=True):
            evaluation = recorded.evaluation(split, trial.candidate.trial_id)
            assert models[name]["score"] == pytest.approx(evaluation.metrics[0].value, abs=1e-6)
            assert models[name]["n"] == 12
        assert models["out"]["difference_to_first"] == models["winner.yml"]["difference_to_first"]


@pytest.mark.slow
def test_one_that_cannot_be_scored_costs_the_others_nothing(place):
    run = command_in(place)
    recipe = {
        "merge_method": "linear",
        "models": [{"model": "models/base", "parameters": {"weight": 1e39}}],
        "parameters": {"normalize": False},
        "dtype": "float32",
    }
    (place / "broken.yml").write_text(yaml.safe_dump(recipe))
    names = ("broken.yml", "models/base")
    finished = run(
        *("eval", *names, "--tasks", "tasks/search.yaml,tasks/holdout.yaml"),
        *("--limit", "5", "-o", "scores.json"),
        exit_code=1,
    )
    assert "broken.yml: merge: " in finished.stderr
    assert "not scored" in finished.stdout
    data, rows = rows_of((place / "scores.json").read_text())
    assert [bool(one["failures"]) for one in data["models"]] == [True, False]
    assert set(rows) == {"tiny_search", "tiny_holdout"}
    assert all(models["broken.yml"] is None for models in rows.values())
    assert all(models["models/base"]["n"] == 5 for models in rows.values())


@pytest.mark.slow
def test_a_mixture_of_one_model_answers_like_it(place):
    members = [{"model": f"models/model_{i}", "weight": 2.0 - i} for i in (1, 2)]
    (place / "mixture.yml").write_text(yaml.safe_dump({"mixture": members}))
    run = command_in(place)
    told = run(*("eval", "models/model_1", "mixture.yml", "--tasks", "tasks", "--json")).stdout
    data, rows = rows_of(told)
    assert [one["failures"] for one in data["models"]] == [[], []]
    assert len(rows) == 3
    for models in rows.values():
        assert models["mixture.yml"]["difference_to_first"]["n_differing"] == 0


@pytest.mark.slow
def test_a_model_with_the_tokens_it_has_answers_like_itself(place):
    said = {"model": "models/model_1", "tokenizer_source": "models/model_2"}
    (place / "transplant.yml").write_text(yaml.safe_dump({"transplant": said}))
    run = command_in(place)
    told = run(*("eval", "models/model_1", "transplant.yml", "--tasks", "tasks", "--json")).stdout
    data, rows = rows_of(told)
    assert [one["failures"] for one in data["models"]] == [[], []]
    for models in rows.values():
        assert models["transplant.yml"]["difference_to_first"]["n_differing"] == 0
