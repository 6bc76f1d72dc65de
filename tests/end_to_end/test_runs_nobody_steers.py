"""Parents that a task cannot tell apart, through the command line, with real lm-eval."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

NEVER = """
task: never
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: never said
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
# Metrics of a whole corpus: a document alone has no number.
METRICS = {"brier_score": "search", "mcc": "search", "bleu": "never", "chrf": "never"}


@pytest.fixture
def tasks(workplace):
    folder = workplace / "tasks"
    (folder / "never.yaml").write_text(NEVER.replace("FILE", str(folder / "search.jsonl")))
    for metric, kind in METRICS.items():
        text = f"task: corpus_{metric}\ninclude: {kind}.yaml\nmetric_list: [{{metric: {metric}}}]\n"
        (folder / f"corpus_{metric}.yaml").write_text(text)
    return folder


def n_trials(folder):
    events = map(json.loads, (folder / "ledger.jsonl").read_text().splitlines())
    return sum(event["kind"] == "trial" for event in events)


def test_a_task_that_no_parent_solves_is_told_and_searched(workplace, tasks, evomerge):
    command = ("run", "genome.yml", "--run-dir", "out", "--set", "tasks=[never]")
    told = evomerge(*command, "--set", "optimizer={name: random, budget: 2}").stderr
    for text in ("warning: never: every model scores 0", "prompt ... '", "'never said'"):
        assert text in told
    assert "of a model's answers were cut by the length limit" in told
    assert n_trials(workplace / "out") == 6
    shown = evomerge("show", "out").stdout
    assert "tasks that cannot steer the search" in shown
    assert "'never said'" in shown
    page = (workplace / "out" / "report.html").read_text()
    assert "Tasks that cannot steer the search" in page


def test_a_strict_run_of_such_a_task_stops_after_the_models(workplace, tasks, evomerge):
    for file in workplace.glob("models/*/tokenizer_config.json"):  # which a strict run minds
        settings = json.loads(file.read_text())
        file.write_text(json.dumps({**settings, "bos_token": settings["eos_token"]}))
    sets = ("tasks=[never]", "genome.layer_granularity=0", "genome.granularity=model")
    options = [part for text in (*sets, "optimizer={budget: 60}") for part in ("--set", text)]
    told = evomerge("run", "genome.yml", "--run-dir", "out", "--strict", *options, exit_code=1)
    assert "--strict: never cannot steer the search" in told.stderr
    assert "The same command without --strict goes on from here." in told.stderr
    assert n_trials(workplace / "out") == 4  # the models, their base and average


def test_a_search_on_metrics_of_a_whole_corpus_begins(workplace, tasks, evomerge):
    names = ", ".join(f"corpus_{metric}" for metric in METRICS)
    optimizer = "optimizer={name: random, budget: 2}"
    command = ("run", "genome.yml", "--run-dir", "out", "--set", f"tasks=[{names}]")
    told = evomerge(*command, "--set", optimizer).stderr
    assert "corpus_brier_score: " not in told
    assert n_trials(workplace / "out") == 6
