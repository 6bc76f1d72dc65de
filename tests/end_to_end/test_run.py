"""From a genome to a built model, through the command line, with real mergekit and lm-eval."""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from mergekit.io.tasks import LoaderCache
from mergekit.scripts.run_yaml import main as mergekit_yaml

from tests.end_to_end.conftest import make_workplace, told_in
from tests.shared_fixtures import own_dataset_cache  # noqa: F401  # a fixture that acts on its own
from tests.tiny_models import tiny_model


def _trials(folder: Path) -> list[dict]:
    events = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return [event for event in events if event["kind"] == "trial"]


def _documents(folder: Path, trial: int, split: str) -> list[dict]:
    file = folder / "documents" / f"trial-{trial:05d}-{split}.jsonl.gz"
    return [json.loads(line) for line in gzip.open(file, "rt")]


@pytest.fixture(scope="module")
def finished(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workplace with a finished run in out/."""
    folder = make_workplace(_template, tmp_path_factory.mktemp("finished") / "workplace")
    told_in(folder, "run", "genome.yml", "--run-dir", "out")
    return folder


def test_a_run_leaves_what_its_folder_promises(finished):
    run = finished / "out"
    trials = _trials(run)
    assert [trial["origin"] for trial in trials[:4]] == [
        {"kind": "model", "name": "models/model_1"},
        {"kind": "model", "name": "models/model_2"},
        {"kind": "base", "name": "models/base"},
        {"kind": "average"},
    ]
    assert [trial["id"] for trial in trials] == list(range(10))
    assert {trial["state"] for trial in trials} == {"complete"}
    for name in ("genome.yml", "best.yml", "report.html", "study.journal"):
        assert (run / name).stat().st_size > 0, name
    best = yaml.safe_load((run / "best.yml").read_text())
    assert set(best) >= {"recipe", "point", "search", "validation", "holdout", "versions"}
    assert len(_documents(run, best["trial"], "tasks")) == 12


def test_winner_builds_with_mergekit_and_answers_as_it_was_scored(place, monkeypatch):
    """Promise 1: per document, the built folder answers as the trial did."""
    trial = _trials(place / "out")[-1]["id"]
    exported = told_in(place, "export", "out", "--trial", str(trial))
    assert "models/model_1" in exported
    assert str(place) not in exported
    (place / "winner.yml").write_text(exported)
    shown = next(line for line in exported.splitlines() if "mergekit-yaml" in line)
    _, _, _, *options = shlex.split(shown.removeprefix("#"))
    assert options[0] == "--random-seed"
    monkeypatch.chdir(place)
    LoaderCache().loaders.clear()  # they know models by their names
    built = CliRunner().invoke(mergekit_yaml, ["winner.yml", "built", *options])
    assert built.exit_code == 0, built.output
    scored = _documents(place / "out", trial, "tasks")
    assert _answers_of_lm_eval(place) == [(d["doc_id"], d["answer"]) for d in scored]


def _answers_of_lm_eval(workplace: Path) -> list[tuple[int, int]]:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    results = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(workplace / "built"), device="cpu", batch_size=4),
        tasks=["tiny_search"],
        task_manager=TaskManager(include_path=str(workplace / "tasks"), include_defaults=False),
        limit=12,
        bootstrap_iters=0,
    )
    samples = results["samples"]["tiny_search"]
    likelihoods = [(s["doc_id"], [value for (value, _), *_ in s["resps"]]) for s in samples]
    return [(doc, values.index(max(values))) for doc, values in likelihoods]


def test_the_same_command_continues_a_run_cut_short(place):
    ledger = place / "out" / "ledger.jsonl"
    whole = ledger.read_text().splitlines(keepends=True)
    first = _trials(place / "out")
    ledger.write_text("".join(whole[:8]) + whole[8][:40])
    told_in(place, "run", "genome.yml", "--run-dir", "out")
    again = _trials(place / "out")
    for trial in (*again, *first):
        trial.pop("seconds")
    assert again == first


@pytest.mark.slow
def test_two_runs_of_one_genome_are_the_same_run(workplace, evomerge):
    evomerge("run", "genome.yml", "--run-dir", "one", PYTHONHASHSEED="1")
    evomerge("run", "genome.yml", "--run-dir", "two", PYTHONHASHSEED="2")
    one, two = _trials(workplace / "one"), _trials(workplace / "two")
    for trial in (*one, *two):
        trial.pop("seconds")
    assert one == two


@pytest.mark.slow
def test_hub_models_run_from_the_cache_with_the_network_off(workplace, evomerge, tmp_path):
    hub = tmp_path / "hub"
    for name in ("base", "model_1", "model_2"):
        repo = hub / f"models--tiny--{name}"
        snapshot = repo / "snapshots" / ("0" * 40)
        snapshot.parent.mkdir(parents=True)
        (workplace / "models" / name).rename(snapshot)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("0" * 40)
    genome = (workplace / "genome.yml").read_text().replace("models/", "tiny/")
    (workplace / "genome.yml").write_text(genome)
    evomerge("run", "genome.yml", "--run-dir", "out", HF_HUB_CACHE=str(hub))
    exported = evomerge("export", "out", "--trial", "9").stdout
    assert "tiny/model_1" in exported
    assert str(tmp_path) not in exported


@pytest.mark.slow
def test_a_pareto_front_is_exported_as_one_recipe_per_point(workplace, evomerge):
    genome = yaml.safe_load((workplace / "genome.yml").read_text())
    genome["tasks"] = ["tiny_search", {"name": "tiny_validation", "limit": 12}]
    del genome["validation"]
    genome["objective"] = "per_task"
    genome["optimizer"] = {"name": "nsga2", "budget": 8}
    (workplace / "genome.yml").write_text(yaml.safe_dump(genome))
    evomerge("run", "genome.yml", "--run-dir", "out")
    evomerge("export", "out", "-o", "front")
    front = sorted((workplace / "out" / "front").glob("*.yml"))
    recipes = sorted((workplace / "front").glob("*.yml"))
    assert len(front) == len(recipes) >= 1
    assert all(yaml.safe_load(path.read_text())["merge_method"] for path in recipes)


@pytest.mark.slow
def test_another_vocabulary_is_refused_until_the_genome_chooses_one(workplace, evomerge):
    tiny_model(
        workplace / "models" / "wordy",
        base=workplace / "models" / "base",
        seed=5,
        drift=0.5,
        extra_tokens=["<extra>"],
    )
    change = ("--set", "genome.models[0]=models/wordy", "--set", "optimizer.budget=1")
    refused = evomerge("run", "genome.yml", *change, exit_code=2)
    assert "Set tokenizer_source: base" in refused.stderr
    union = ("--set", "genome.tokenizer_source=union")
    evomerge("run", "genome.yml", *change, *union, "--run-dir", "out")
    assert {trial["state"] for trial in _trials(workplace / "out")} == {"complete"}
    recipe = yaml.safe_load(evomerge("export", "out", "--trial", "4").stdout)
    assert recipe["tokenizer_source"] == "union"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tasks[0]=tiny_serch", "did you mean 'tiny_search'"),
        ("tasks[0]={name: tiny_search, metric: ac}", "acc"),
        ("genome.models[0]=models/model_9", "models/model_9"),
        ("optimizer.sigmaa=1", "did you mean 'sigma'"),
        ("genome.merge_method=task_arithmetics", "did you mean 'task_arithmetic'"),
        ("optimizer.name=cmaes", "did you mean 'cma_es'"),
    ],
)
def test_a_mistake_ends_with_a_sentence_and_exit_code_2(evomerge, change, message):
    finished = evomerge("run", "genome.yml", "--set", change, exit_code=2)
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
