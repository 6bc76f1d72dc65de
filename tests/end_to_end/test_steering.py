"""Parents that a task cannot tell apart, through the command line, with real lm-eval."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

NEVER = """
task: never
include: search.yaml
output_type: generate_until
doc_to_target: never said
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
CORPUS = """
task: corpus_{metric}
include: {include}.yaml
metric_list: [{{metric: {metric}, aggregation: {metric}, higher_is_better: {up}}}]
"""
# Metrics of a whole corpus: a document alone has no number.
METRICS = [
    ("brier_score", "search", "false"),
    ("mcc", "search", "true"),
    ("bleu", "never", "true"),
    ("chrf", "never", "true"),
]


@pytest.fixture
def tasks(workplace):
    (workplace / "tasks" / "never.yaml").write_text(NEVER)
    for metric, include, up in METRICS:
        text = CORPUS.format(metric=metric, include=include, up=up)
        (workplace / "tasks" / f"corpus_{metric}.yaml").write_text(text)
    return workplace / "tasks"


def n_trials(folder):
    events = map(json.loads, (folder / "ledger.jsonl").read_text().splitlines())
    return sum(event["kind"] == "trial" for event in events)


def test_a_task_that_no_parent_solves_is_told_and_searched(workplace, tasks, evomerge):
    command = ("run", "genome.yml", "--run-dir", "out", "--set", "tasks=[never]")
    command += ("--set", "optimizer={name: random, budget: 12}")
    strict = evomerge(*command, "--strict", exit_code=1).stderr
    assert "--strict: never cannot steer the search" in strict
    assert n_trials(workplace / "out") == 4
    told = evomerge(*command).stderr
    for text in ("warning: never: every model scores 0", "prompt ... '", "'never said'"):
        assert text in told
    assert "of a model's answers were cut by the length limit" in told
    assert n_trials(workplace / "out") == 16
    shown = evomerge("show", "out").stdout
    assert "tasks that cannot steer the search" in shown
    assert "'never said'" in shown
    page = (workplace / "out" / "report.html").read_text()
    assert "Tasks that cannot steer the search" in page


def test_a_search_on_metrics_of_a_whole_corpus_begins(workplace, tasks, evomerge):
    names = ", ".join(f"corpus_{metric}" for metric, *_ in METRICS)
    optimizer = "optimizer={name: random, budget: 2}"
    command = ("run", "genome.yml", "--run-dir", "out", "--set", f"tasks=[{names}]")
    told = evomerge(*command, "--set", optimizer).stderr
    assert "corpus_brier_score: " not in told
    assert n_trials(workplace / "out") == 6
