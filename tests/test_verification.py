"""What a verification reads, tells beforehand and compares; nothing is built here."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from evomerge.cli.main import entry_point
from evomerge.compiler.compiled import all_models
from evomerge.compiler.entrants import named_recipes
from evomerge.foundations.errors import (
    GenomeError,
    LedgerError,
    LostFileError,
    ModelError,
    NoRunError,
    OccupiedError,
    RunError,
)
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.versions import versions
from evomerge.genome.load import load_genome
from evomerge.models.fingerprint import fingerprint
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.space import Real, Space, to_data
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe
from evomerge.report.exporting import exports, with_changes
from evomerge.run.best import write_best
from evomerge.run.chosen import winners_of
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.recorded_run import recorded_run
from evomerge.verify import rebuild
from evomerge.verify.differences import Difference, compare_documents, compare_metrics
from evomerge.verify.rebuild import prepare
from tests.evaluators.tiny_tasks import write_tasks
from tests.tiny_models import tiny_family

GENOME = """
genome: {models: [models/model_1, models/model_2], merge_method: linear, base_model: models/base}
tasks: [tiny_choice]
task_search_path: [tasks]
"""
RECIPE = {
    "merge_method": "linear",
    "models": [
        {"model": "models/model_1", "parameters": {"weight": 0.25}},
        {"model": "models/model_2", "parameters": {"weight": 0.75}},
    ],
    "base_model": "models/base",
    "dtype": "float32",
}
DOCUMENTS = tuple(Document("tiny_choice", index, {"acc,none": 1.0}, 2) for index in range(20))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verified")
    tiny_family(folder / "models")
    (folder / "tasks").mkdir()
    write_tasks(folder / "tasks")
    return folder


@pytest.fixture
def place(template, tmp_path, monkeypatch):
    """The working directory, with links to the models and tasks."""
    (tmp_path / "models").mkdir()
    for model in (template / "models").iterdir():
        (tmp_path / "models" / model.name).symlink_to(model)
    (tmp_path / "tasks").symlink_to(template / "tasks")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def record(place):
    """Writes a run of one trial; gives its folder."""

    def write(recipe=RECIPE, documents=DOCUMENTS, **header) -> Path:
        (place / "genome.yml").write_text(GENOME)
        genome, _ = load_genome(place / "genome.yml")
        line = {
            "evomerge": "0.1.0",
            "genome": "genome.yml",
            "genome_digest": "0",
            "optimizer": "cma_es",
            "objective": "weighted_sum",
            "seed": 0,
            "merge_seed": 0,
            "threads": 1,
            "device": "cpu",
            "tasks": {},
            "versions": versions(),
            "models": {model: fingerprint(model) for model in all_models(genome)},
            "space": to_data(Space((Real("weight", 0.0, 1.0),))),
            **header,
        }
        shutil.rmtree("run", ignore_errors=True)
        ledger = Ledger.create(RunFolder(Path("run")), line, GENOME)
        metric = Metric(MetricKey("tiny_choice", "acc"), 1.0, 0.0, 20, True)
        evaluation = Evaluation((metric,), documents)
        ledger.record_trial(
            Trial(
                Candidate(0, origin_in("uniform average"), Recipe(recipe)),
                Outcome(TrialState.COMPLETE, evaluation),
            )
        )
        run = recorded_run(ledger, genome)
        write_best(ledger, run.leaderboard, run.winners[0])
        ledger.close()
        return ledger.folder.path

    return write


def told(path=Path("run")) -> list[str]:
    return [str(finding) for finding in prepare(path, Permissions()).findings]


@pytest.mark.parametrize("name", ["", "best.yml"])
def test_a_run_folder_and_its_best_yml_are_read(record, name):
    verification = prepare(record() / name, Permissions())
    assert [winner.trial_id for winner in verification.winners] == [0]
    assert verification.winners[0].documents == {"tasks": DOCUMENTS}
    assert verification.findings == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "^nowhere: does not exist. Name a run folder or the best.yml in it.$"),
        ("models", "^models: no ledger.jsonl in this folder. Name"),
        ("genome.yml", "^genome.yml: is neither a run folder nor a best.yml. Name"),
        ("run/ledger.jsonl", "is neither a run folder nor a best.yml. Name"),
    ],
)
def test_anything_else_is_refused(record, name, message):
    record()
    with pytest.raises(NoRunError, match=message) as refused:
        prepare(Path(name), Permissions())
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("name", ["", "best.yml"])
def test_any_complete_trial_of_a_run_can_be_named(record, name):
    (recorded,) = prepare(record() / name, Permissions(), trial_id=0).winners
    assert recorded.trial_id == 0
    with pytest.raises(RunError, match="run: no trial 3, the last one is 0"):
        prepare(record() / name, Permissions(), trial_id=3)


def test_a_best_yml_without_its_run_is_refused(record, place):
    (record() / "best.yml").rename(place / "best.yml")
    with pytest.raises(NoRunError, match=r"no ledger\.jsonl lies beside it"):
        prepare(Path("best.yml"), Permissions())


def test_a_run_without_a_finished_trial_is_told(record):
    folder = record()
    (folder / "best.yml").unlink()
    header = (folder / "ledger.jsonl").read_text().splitlines()[0]
    (folder / "ledger.jsonl").write_text(header + "\n")
    with pytest.raises(RunError, match="no trial of this run is complete yet"):
        prepare(folder, Permissions())


@pytest.mark.parametrize("name", ["", "best.yml"])
def test_a_best_yml_that_says_something_else_than_the_ledger_is_told(record, name):
    best = record() / "best.yml"
    content = yaml.safe_load(best.read_text())
    content["recipe"]["models"][0]["parameters"]["weight"] = 0.5
    content["threads"] = 4
    best.write_text(yaml.safe_dump(content))
    with pytest.raises(LedgerError, match="is not what trial 0 was scored with") as told:
        prepare(Path("run") / name, Permissions())
    assert "  threads: was 1, now 4" in str(told.value)
    assert "  recipe.models[0].parameters.weight: was 0.25, now 0.5" in str(told.value)


def test_a_best_yml_of_a_trial_that_is_not_there_is_told(record):
    best = record() / "best.yml"
    best.write_text(best.read_text().replace("trial: 0", "trial: 7"))
    with pytest.raises(LedgerError, match="trial 7 is not a complete trial of the ledger"):
        prepare(best, Permissions())


def test_a_changed_recipe_in_the_ledger_is_told(record):
    ledger = record() / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"weight":0.25', '"weight":0.5'))
    with pytest.raises(LedgerError, match="does not have the digest beside it"):
        prepare(Path("run"), Permissions())


def test_results_that_are_gone_or_broken_are_told(record):
    file = record() / "documents" / "trial-00000-tasks.jsonl.gz"
    file.write_bytes(b"no gzip")
    with pytest.raises(LedgerError, match="not the documents of a trial"):
        prepare(Path("run"), Permissions())
    file.write_bytes(gzip.compress(json.dumps({"task": "t"}).encode()))
    with pytest.raises(LedgerError, match="not the documents of a trial"):
        prepare(Path("run"), Permissions())
    file.unlink()
    with pytest.raises(LostFileError, match="the per-document results are gone"):
        prepare(Path("run"), Permissions())


def test_missing_models_are_told_all_at_once(record, place):
    record()
    for name in ("model_1", "model_2"):
        (place / "models" / name).unlink()
    with pytest.raises(ModelError, match=r"models/model_1: the model cannot be read") as told:
        prepare(Path("run"), Permissions())
    assert len(told.value.problems) == 2
    assert "start evomerge in the folder the run was started in" in str(told.value)


def test_a_missing_task_folder_is_told_with_the_genome_that_names_it(record):
    folder = record()
    (folder / "genome.yml").write_text(GENOME + "validation: [nothing]\n")
    prepare(folder, Permissions())  # nobody was scored on it
    task = "[{name: tiny_choice, metric: f1}]"
    (folder / "genome.yml").write_text(GENOME.replace("[tiny_choice]", task))
    with pytest.raises(GenomeError, match=r"run/genome.yml: tasks\[0\]\.metric: .* no metric 'f1'"):
        prepare(folder, Permissions())


def test_a_model_in_pickle_files_is_refused_until_it_is_allowed(record, place):
    record()
    link = place / "models" / "model_1"
    original = link.resolve()
    link.unlink()
    shutil.copytree(original, link)
    torch.save(load_file(link / "model.safetensors"), link / "pytorch_model.bin")
    (link / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"can run code .* allow it with --allow-pickle models"):
        prepare(Path("run"), Permissions())
    allowed = prepare(Path("run"), Permissions(pickle=frozenset({"models/model_1"})))
    assert "files are others" in str(allowed.findings[0])


def test_another_model_is_told_before(record):
    record(models={"models/model_1": "0" * 64})
    assert told() == [
        "models/model_1: the model's files are others than when the run began, so answers will "
        "differ. Put the old files back to verify that run."
    ]


def test_another_model_is_told_where_it_is_scored_or_built(record, place):
    record(models={"models/model_1": "0" * 64})
    heard: list[str] = []

    def hear(finding):
        heard.append(str(finding))

    named_recipes(["run"], Permissions(), hear)
    (export,) = with_changes(exports(winners_of(Path("run"))), hear)
    of_scores, of_builds = heard
    said = "models/model_1: the model's files are others than when the run began, so answers will"
    assert of_scores.startswith(said)
    assert of_builds == f"{said} differ. Put the old files back to build what that run scored."
    header = export.to_yaml().replace("\n#  ", "")
    assert "These scores are of other weights: files are others since then" in header
    record()
    assert with_changes(exports(winners_of(Path("run"))), hear)[0].changed == ()
    assert len(heard) == 2


def test_a_recipe_alone_says_so_and_asks_nobody_but_the_disk(record, capsys, monkeypatch):
    record(models={"models/model_1": "0" * 64})
    with pytest.raises(SystemExit, match="0"):
        entry_point(["export", "run", "-o", "recipe.yml"])
    assert "warning: models/model_1: the model's files are others" in capsys.readouterr().err
    assert "These scores are of other weights" in Path("recipe.yml").read_text()
    models = [{"model": "org/away", "parameters": {"weight": 1.0}}]
    record({**RECIPE, "models": models}, models={"org/away": "0" * 40})
    asked: list[str] = []
    monkeypatch.setattr("evomerge.models.fingerprint.commit_of", lambda *of: asked.append(of))
    with pytest.raises(SystemExit, match="0"):
        entry_point(["export", "run", "-o", "away.yml"])
    assert not asked


@pytest.mark.slow  # mergekit builds it in a process of its own
def test_a_build_of_other_files_says_so(record, place, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # for no card
    alone = {key: value for key, value in RECIPE.items() if key != "base_model"}
    record(alone, models={"models/model_1": "0" * 64})
    with pytest.raises(SystemExit, match="0"):
        entry_point(["export", "run", "--build", "built"])
    said = capsys.readouterr()
    assert "warning: models/model_1: the model's files are others" in said.err
    assert "These scores are of other weights" in said.out


def test_other_tasks_are_told_before(record):
    record(tasks={"tasks": {"tiny_choice": "0" * 64}})
    assert told()[0].startswith("tiny_choice: the task has other documents, prompts or metrics")


def test_other_versions_are_told_before(record):
    record(versions={**versions(), "torch": "2.4.0", "optuna": "1.0"})
    (line,) = told()
    assert line.startswith("torch: scored with 2.4.0, here is ")
    assert line.endswith("For the same bits install torch==2.4.0.")


def test_another_device_is_told_before_and_the_cpu_is_used(record):
    record(device="cuda:77")
    verification = prepare(Path("run"), Permissions())
    assert "scored on cuda:77, which is not here" in str(verification.findings[0])
    assert verification.device == "cpu"


def test_another_cpu_is_told_before(record):
    record(machine={"cpu": "AVX9"})
    assert told()[0].startswith("cpu: scored on AVX9, here is ")


def test_more_threads_than_cores_are_told_where_the_method_minds(record):
    record(threads=999)
    assert told() == []
    record({**RECIPE, "merge_method": "dare_linear"}, threads=999)
    (line,) = told()
    assert line.startswith("threads: merged with 999 threads, here are ")
    assert "the bits of dare_linear depend on the number" in line


def test_low_precision_is_told_before(record):
    record({**RECIPE, "out_dtype": "bfloat16"})
    assert told()[0].startswith("evaluation.dtype: the model runs in bfloat16")


def test_a_folder_to_keep_the_model_in_must_be_empty(record):
    with pytest.raises(OccupiedError, match="models: holds other things than a built model, base"):
        prepare(record(), Permissions(), keep=Path("models"))


def test_documents_differ_in_answer_value_or_presence():
    values = {"acc,none": 1.0, "ppl,none": 7.0}
    recorded = [Document("t", index, values, 2) for index in range(4)]
    found = [
        Document("t", 0, {**values, "ppl,none": 7.0001}, 2),
        Document("t", 1, {**values, "ppl,none": 7.1}, 2),
        Document("t", 2, {**values, "acc,none": 0.0}, 1),
        Document("t", 9, values, 2),
    ]
    assert list(compare_documents("tasks", recorded, found, 1e-4)) == [
        Difference("tasks", "t", 1, "ppl,none", 7.0, 7.1),
        Difference("tasks", "t", 2, "answer", 2, 1),
        Difference("tasks", "t", 3, "document", "scored", "absent"),
        Difference("tasks", "t", 9, "document", "absent", "scored"),
    ]


def test_metrics_that_count_documents_must_be_equal_others_nearly():
    documents = [Document("t", 0, {"acc,none": 1.0, "ppl,none": 7.5})]
    recorded = {"t/acc,none": 0.50, "t/ppl,none": 7.5}
    nearly = {"t/acc,none": 0.51, "t/ppl,none": 7.51}
    (difference,) = compare_metrics("holdout", recorded, nearly, documents, 0.05)
    assert difference == Difference("holdout", "t", None, "acc,none", 0.50, 0.51)
    (missing,) = compare_metrics("holdout", {"t/f1,none": 0.5}, {}, documents, 0.05)
    assert missing.found is None


def test_a_model_that_is_no_merge_is_kept_in_an_empty_folder_and_a_full_disk_is_told(
    tmp_path, monkeypatch
):
    model, kept = tmp_path / "model", tmp_path / "kept"
    model.mkdir()
    kept.mkdir()
    (model / "config.json").write_text("{}")
    assert rebuild._given(model, kept, is_kept=True) == kept
    assert (kept / "config.json").read_text() == "{}"

    def full(*_, **__):
        raise shutil.Error([("one", "two", "[Errno 28] No space left on device")])

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(LostFileError, match=r"cannot be written .*No space left on device"):
        rebuild._given(model, kept, is_kept=True)
