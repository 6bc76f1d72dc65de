"""Runs and checks that begin with one document of each task; real merges, lm-eval and ledger."""

from __future__ import annotations

import json
import re
from importlib import import_module

import pytest
import yaml

from evomerge.cli.main import entry_point
from evomerge.evaluators.lm_eval import LmEval
from evomerge.foundations.errors import GenomeError, OutOfMemoryError
from tests.evaluators.tiny_tasks import write_tasks
from tests.lora_experts import lora_expert
from tests.tiny_models import tiny_family

GENOME = """\
genome:
  models: [models/model_1, models/model_2]
  base_model: models/base
  merge_method: task_arithmetic
  granularity: model
tasks: [{name: TASK, limit: 4}, {name: tiny_likelihood, metric: perplexity, limit: 4}]
task_search_path: [tasks]
evaluation: {device: cpu}
optimizer: {name: random, budget: 3}
baselines: [models, base, average]
"""
SUMS = """\
genome:
  models: [models/base+loras/a, models/base+loras/b]
  merge_method: linear
  adapters: factors
"""
JUDGED = """
dataset_path: json
dataset_kwargs: {data_files: {test: tasks/test.jsonl}}
test_split: test
doc_to_text: "the {{a}} then"
doc_to_target: "{{options[answer]}}"
output_type: loglikelihood
process_results: !function judge.grade
metric_list: [{metric: grade, aggregation: mean, higher_is_better: true}]
"""
MAPPED = """
dataset_path: json
dataset_kwargs: {data_files: {test: tasks/test.jsonl}}
test_split: test
doc_to_text: "the {{a}} then"
doc_to_target: target
output_type: generate_until
generation_kwargs: {max_gen_toks: 3}
metric_list: [{metric: !function judge.hits, aggregation: mean, higher_is_better: false}]
"""
JUDGE = """
import itertools

calls = itertools.count()


def grade(doc, results):
    n = next(calls)
    if n == 18:  # of the first trial that the optimizer proposed
        raise ConnectionError("503 from the judge")
    return {"grade": 1.0}


def hits(references, predictions):
    return {"hit@1": 1.0, "hit@2": 0.5}


def more(doc, results):
    likelihood, _ = results[0]
    return {"only": likelihood, **({"more": 1.0} if doc["answer"] else {})}
"""
VARIED = JUDGED.replace("judge.grade", "judge.more").replace(
    "metric_list: [{metric: grade, aggregation: mean, higher_is_better: true}]",
    """metric_list:
  - {metric: more, aggregation: mean, higher_is_better: false}
  - {metric: only, aggregation: mean, higher_is_better: true}""",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny_family(folder / "models")
    (folder / "tasks").mkdir()
    write_tasks(folder / "tasks")
    (folder / "tasks" / "judge.py").write_text(JUDGE)
    (folder / "tasks" / "judged.yaml").write_text(f"task: judged\n{JUDGED}")
    (folder / "tasks" / "mapped.yaml").write_text(f"task: mapped\n{MAPPED}")
    (folder / "tasks" / "varied.yaml").write_text(f"task: varied\n{VARIED}")
    return folder


@pytest.fixture
def evomerge(place, capsys, monkeypatch):
    """Runs a command there; gives exit code, stdout, stderr."""
    monkeypatch.chdir(place)

    def call(*arguments, genome=None):
        if genome is not None:
            (place / "g.yml").write_text(genome)
        try:
            entry_point(arguments)
            code = 0
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def header(folder):
    return json.loads((folder / "ledger.jsonl").read_text().splitlines()[0])


@pytest.mark.slow
def test_a_metric_that_only_results_name_steers_a_run_that_can_be_continued(evomerge, place):
    genome = GENOME.replace("name: TASK", "name: mapped, metric: hit@2")
    code, _, err = evomerge("run", "g.yml", "--run-dir", "mapped", genome=genome)
    assert code == 0, err
    assert "scoring one document of every task" in err
    assert header(place / "mapped")["metrics"]["tasks"]["mapped"] == "hit@2,none"
    genome_of_run = (place / "mapped" / "genome.yml").read_text()
    assert "hit@2" in genome_of_run
    code, out, err = evomerge("run", "g.yml", "--run-dir", "mapped")
    assert code == 0, err
    assert "scoring one document" not in err
    assert "mapped" in out
    assert evomerge("show", "mapped")[0] == 0


def test_what_the_first_document_shows_ends_a_run_before_it_begins(evomerge, place):
    genome = GENOME.replace("name: TASK", "name: mapped, metric: hit@3")
    code, _, err = evomerge("run", "g.yml", "--run-dir", "never", genome=genome)
    assert code == 2
    assert (
        "g.yml:6: tasks[0].metric: task 'mapped' gives no metric 'hit@3'; did you mean "
        "'hit@2'? (it gives: hit@1,none, hit@2,none)."
    ) in err
    assert not (place / "never").exists()


def scores(folder):
    """Trial -> what its own metrics are, as the ledger has them."""
    lines = map(json.loads, (folder / "ledger.jsonl").read_text().splitlines())
    return {line["id"]: line["metrics"] for line in lines if line["kind"] == "trial"}


@pytest.mark.slow
def test_a_run_that_is_continued_reads_what_its_first_document_named(evomerge, place):
    genome = GENOME.replace("TASK", "varied")  # its first document has one metric, others two
    code, _, err = evomerge("run", "g.yml", "--run-dir", "varied", genome=genome)
    assert code == 0, err
    whole = scores(place / "varied")
    lines = (place / "varied" / "ledger.jsonl").read_text().splitlines(keepends=True)
    second = [n for n, line in enumerate(lines) if json.loads(line)["kind"] == "trial"][1]
    (place / "varied" / "ledger.jsonl").write_text("".join(lines[: second + 1]))
    code, _, err = evomerge("run", "g.yml", "--run-dir", "varied")
    assert code == 0, err
    assert "failed" not in err
    assert scores(place / "varied") == whole


@pytest.fixture
def short_of_memory(monkeypatch):
    """``short_of_memory(n)``: the first n times that documents are scored first, there is none."""

    def after(n):
        left = iter(range(n))
        scored = LmEval.first_documents

        def first_documents(self, model, deadline=None):
            if next(left, None) is not None:
                raise OutOfMemoryError("out of memory: 3 GiB")
            return scored(self, model, deadline)

        monkeypatch.setattr(LmEval, "first_documents", first_documents)

    return after


@pytest.mark.slow
def test_the_next_baseline_tells_the_names_where_one_does_not_fit(evomerge, place, short_of_memory):
    short_of_memory(2)  # with half the batch neither
    genome = GENOME.replace("TASK", "varied")
    small = ("--run-dir", "short", "--set", "optimizer.budget=1")
    code, _, err = evomerge("run", "g.yml", *small, genome=genome)
    assert code == 0, err
    assert header(place / "short")["metrics"]["tasks"]["varied"] == "only,none"


def test_a_run_whose_metric_nobody_could_name_does_not_begin(evomerge, place, short_of_memory):
    short_of_memory(1000)
    genome = GENOME.replace("name: TASK", "name: mapped, metric: hit@2")
    code, _, err = evomerge("run", "g.yml", "--run-dir", "nameless", genome=genome)
    assert code == 1
    assert (
        "g.yml:6: tasks[0]: only results of 'mapped' name its metric, and no model could be scored "
        "on its first document (evaluate with half the batch: out of memory: 3 GiB). Mend what "
        "failed and run again."
    ) in err
    assert not (place / "nameless").exists()


@pytest.mark.slow
def test_a_run_whose_metrics_are_known_needs_no_first_document(evomerge, place, short_of_memory):
    short_of_memory(1000)
    genome = GENOME.replace("{name: TASK, limit: 4}, ", "")
    small = ("--run-dir", "known", "--set", "optimizer.budget=1")
    code, _, err = evomerge("run", "g.yml", *small, genome=genome)
    assert code == 0, err
    assert "metrics" not in header(place / "known")
    assert "failed" not in err
    code, _, err = evomerge("run", "g.yml", *small)
    assert code == 0, err


def test_a_weight_that_turns_a_metric_of_its_results_around_is_told_in_the_run(evomerge):
    genome = GENOME.replace("TASK", "varied, weight: -1")
    small = ("--run-dir", "turned", "--set", "optimizer.budget=1")
    told = "g.yml:6: tasks[0].weight: weight -1 makes the search look for a worse only,none: higher"
    assert told not in evomerge("check", "g.yml", genome=genome)[2]  # nobody knows yet
    for _ in ("begun", "continued"):
        code, _, err = evomerge("run", "g.yml", *small)
        assert code == 0, err
        assert err.count(told) == 1


def test_the_first_document_has_the_time_of_a_trial_wherever_it_is_scored(
    evomerge, place, monkeypatch
):
    given = []

    def first_documents(self, model, deadline=None):
        given.append(deadline.seconds)
        raise GenomeError("seen", where="tasks[0]")

    monkeypatch.setattr(LmEval, "first_documents", first_documents)
    for seed, name in enumerate("ab"):
        lora_expert(place / "loras" / name, place / "models" / "base", seed)
    sums = SUMS + GENOME[GENOME.index("tasks:") :].replace("TASK", "mapped, metric: hit@1")
    for genome in (sums, GENOME.replace("TASK", "mapped, metric: hit@1")):
        timed = ("--run-dir", "timed", "--set", "execution.trial_timeout=1000")
        code, _, err = evomerge("run", "g.yml", *timed, genome=genome)
        assert (code, "tasks[0]: seen" in err) == (2, True), err
    assert given == [1000, 1000]


@pytest.mark.slow
def test_workers_in_processes_learn_the_names_too(evomerge, place):
    two = ("--run-dir", "two", "--set", "execution.workers=2", "--set", "optimizer.budget=2")
    genome = GENOME.replace("name: TASK", "name: mapped, metric: hit@2")
    code, _, err = evomerge("run", "g.yml", *two, genome=genome)
    assert code == 0, err
    assert header(place / "two")["metrics"]["tasks"]["mapped"] == "hit@2,none"


def test_check_tells_it_where_it_is_asked_to_merge(evomerge):
    genome = GENOME.replace("name: TASK", "name: mapped, metric: hit@1")
    code, out, err = evomerge("check", "g.yml", genome=genome)
    assert code == 0
    assert re.search(r"search +mapped +from the first document +4 +4", out)
    assert "the metric 'hit@1' is not among those that the YAML of mapped names" in err
    code, out, _ = evomerge("check", "g.yml", "--probe")
    assert code == 0
    assert re.search(r"search +mapped +hit@1,none +lower +4 +4", out)
    genome = genome.replace(", metric: hit@1", "")
    code, out, err = evomerge("check", "g.yml", "--probe", genome=genome)
    assert (code, out) == (2, "")
    assert "g.yml:6: tasks[0]: no metric given and 'mapped' gives several: hit@1,none, hit" in err


@pytest.mark.slow
def test_a_judge_that_gives_up_is_named_and_so_is_the_way_to_try_again(evomerge, place):
    genome = GENOME.replace("TASK", "judged")
    code, _, err = evomerge("run", "g.yml", "--run-dir", "gave_up", genome=genome)
    assert code == 0, err
    line = JUDGE.splitlines().index('        raise ConnectionError("503 from the judge")') + 1
    reason = (
        "evaluate: task 'judged', document 1: ConnectionError: 503 from the judge, in grade "
        f"(tasks/judge.py:{line})"
    )
    assert f"failed: {reason}" in err
    assert "1 failed: `evomerge show gave_up --failed` says why; `evomerge run" in err
    assert "gave_up/genome.yml --fork NEW_RUN` tries them again and repeats nothing else" in err
    log = (place / "gave_up" / "log.txt").read_text()
    assert "trial 4 (tasks) failed" in log
    assert 'raise ConnectionError("503 from the judge")' in log
    shown = evomerge("show", "gave_up", "--failed")[1]
    assert "`evomerge run gave_up/genome.yml --fork NEW_RUN` tries them again" in shown
    code, _, err = evomerge("run", "gave_up/genome.yml", "--fork", "again")
    assert code == 0, err
    assert "6 trials and 0 final scores of gave_up hold here" in err
    assert "failed" not in err


EVOLVE = """\
model_name: two-of-a-kind
genome:
  models: [models/model_1, models/model_2]
  merge_method: task_arithmetic
  base_model: models/base
  layer_granularity: 1
  allow_negative_weights: true
tasks:
  - {name: tiny_likelihood, metric: "perplexity,none", weight: -0.5}
  - {name: tiny_choice, weight: 0}
"""
SETTINGS = [
    *("--set", "task_search_path=[tasks]", "--set", "evaluation.device=cpu"),
    *("--set", "optimizer={name: cma_es, budget: 16, population_size: 8}"),
]


@pytest.mark.slow
def test_a_negative_weight_of_mergekit_evolve_finds_a_lower_perplexity(evomerge, place):
    code, _, err = evomerge("run", "g.yml", "--run-dir", "evolved", *SETTINGS, genome=EVOLVE)
    assert code == 0, err
    assert "g.yml:1: model_name: 'model_name' is no key of a genome; ignored" in err
    lines = (place / "evolved" / "ledger.jsonl").read_text().splitlines()
    trials = [json.loads(line) for line in lines if '"kind":"trial"' in line.replace(" ", "")]
    perplexity = {
        trial["id"]: metric["value"]
        for trial in trials
        for metric in trial["metrics"]
        if metric["metric"] == "perplexity"
    }
    best = yaml.safe_load((place / "evolved" / "best.yml").read_text())["trial"]
    baselines = [trial["id"] for trial in trials if trial["origin"]["kind"] != "optimizer"]
    assert perplexity[best] == min(perplexity.values())
    assert perplexity[best] < min(perplexity[index] for index in baselines)
    # The run folder's genome means the same without being of that form.
    genome = yaml.safe_load((place / "evolved" / "genome.yml").read_text())
    assert genome["tasks"][0]["weight"] == 0.5
    for name in ("g.yml", "evolved/genome.yml"):
        again = (*SETTINGS, "--run-dir", "evolved") if name == "g.yml" else ()
        code, _, err = evomerge("run", name, *again)
        assert code == 0, err
        assert f"continued: {len(trials)} trials" in err


def test_check_says_how_a_negative_weight_is_read(evomerge):
    _, _, err = evomerge("check", "g.yml", *SETTINGS, genome=EVOLVE)
    assert (
        "note: g.yml:9: tasks[0].weight: in a file of mergekit-evolve's form weight -0.5 says that "
        "lower perplexity is better; it is, and a genome writes 0.5."
    ) in err
    assert "a worse perplexity" not in err


def test_the_run_of_another_genome_says_nothing_of_what_a_task_tells(evomerge, monkeypatch):
    there = {"tasks": {"tiny_likelihood": "acc,none", "tiny_choice": "exact_match,none"}}
    module = import_module("evomerge.compiler.examine")  # a function has its name too
    monkeypatch.setattr(module, "recorded_names", lambda run_dir: there)
    _, _, err = evomerge("check", "g.yml", *SETTINGS, genome=EVOLVE)
    assert "lower perplexity is better; it is, and a genome writes 0.5." in err
    assert "exact_match" not in err
    higher = EVOLVE.replace("weight: 0}", "weight: -1}")
    assert (
        "weight -1 makes the search look for a worse acc,none"
        in evomerge("check", "g.yml", *SETTINGS, genome=higher)[2]
    )
    own = EVOLVE.replace("model_name: two-of-a-kind", "seed: 1")
    assert (
        "weight -0.5 makes the search look for a worse perplexity,none"
        in evomerge("check", "g.yml", *SETTINGS, genome=own)[2]
    )


LATE = EVOLVE.replace(
    '{name: tiny_likelihood, metric: "perplexity,none", weight: -0.5}',
    "{name: mapped, metric: hit@1, weight: -0.5}",
)


@pytest.mark.slow
def test_a_negative_weight_is_turned_where_only_results_tell_the_direction(evomerge, place):
    """The code of the task names its metric, of which its file says that lower is better."""
    few = (*SETTINGS[:-1], "optimizer={name: random, budget: 1}", "--set", "limit=4")
    assert "says that lower" not in evomerge("check", "g.yml", *few, genome=LATE)[2]
    code, _, err = evomerge("run", "g.yml", *few, "--run-dir", "late", genome=LATE)
    assert code == 0, err
    sentence = "weight -0.5 says that lower hit@1 is better; it is, and a genome writes 0.5"
    assert err.count(sentence) == 1
    assert "a worse hit@1" not in err
    kept = yaml.safe_load((place / "late" / "genome.yml").read_text())
    assert kept["tasks"][0]["weight"] == 0.5
    whole = scores(place / "late")
    lines = (place / "late" / "ledger.jsonl").read_text().splitlines(keepends=True)
    for name, options in (("g.yml", few), ("late/genome.yml", ())):
        (place / "late" / "ledger.jsonl").write_text("".join(lines[:3]))
        code, _, err = evomerge("run", name, *options, "--run-dir", "late")
        assert code == 0, err
        assert "a worse hit@1" not in err
        assert scores(place / "late") == whole
    code, _, err = evomerge("check", "g.yml", *few, "--set", "run_dir=late")
    assert code == 0, err
    assert sentence in err


KEY = "sk-live-4f9A2c7eB81d"
LEAKS = f"""
def told(doc, results):
    if doc["answer"] == 2:  # not the first one
        raise ValueError("the judge refuses {KEY}")
    return {{"grade": 1.0}}


def held(doc, results):
    if doc["answer"] == 2:
        return ask("{KEY}")
    return {{"grade": 1.0}}


def ask(key):
    raise ConnectionError("503 from the judge")


def at_once(doc, results):
    raise ValueError("the judge refuses {KEY}")
"""


@pytest.mark.parametrize("function", ["told", "held", "at_once"])
def test_a_key_in_a_task_of_which_the_environment_knows_is_nowhere(
    evomerge, place, monkeypatch, function
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (place / "tasks" / "leaks.py").write_text(LEAKS)
    task = JUDGED.replace("judge.grade", f"leaks.{function}")
    (place / "tasks" / "leaky.yaml").write_text(f"task: leaky\n{task}")
    genome = GENOME.replace("TASK", "leaky").replace("budget: 3", "budget: 1")
    run = place / f"leaky_{function}"
    _, out, err = evomerge("run", "g.yml", "--run-dir", run.name, genome=genome)
    shown = evomerge("show", run.name, "--failed")[1] if run.exists() else ""
    kept = "".join(file.read_text() for file in run.glob("*.*"))
    for text in (out, err, shown, kept):
        assert KEY not in text
    if function == "at_once":
        assert "ValueError: the judge refuses [key], in at_once (tasks/leaks.py:" in err
        return
    log = (run / "log.txt").read_text()
    assert ("ValueError: the judge refuses [key]" in log) == (function == "told")
    assert ('return ask("[key]")' in log) == (function == "held")
