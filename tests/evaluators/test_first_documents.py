"""One document of each task, before a run: names that only results tell, code that fails."""

from __future__ import annotations

import math

import pytest

from evomerge.evaluators.lm_eval import LmEval
from evomerge.evaluators.lm_eval.task_digests import _leaf, _plain
from evomerge.foundations.canonical import digest
from evomerge.foundations.errors import EvaluationError, GenomeError
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from evomerge.nouns.evaluation import MetricKey

CODE = """
import itertools
import statistics

calls, prompts = itertools.count(), itertools.count()


def hits(references, predictions, k=(1, 3)):
    return {f"hit@{n}": float(len(predictions) >= n) for n in k}


def spread(items):
    return statistics.stdev(items)


def sides(doc, results):
    side = "left" if doc["answer"] % 2 else "right"
    return {f"acc_{side}": 1.0, "length": 2.0}


def is_late(doc):  # of 20 documents the last 4
    return doc["answer"] == "ghij".find(doc["target"])


def late(doc, results):
    return {"good": 1.0} if is_late(doc) else {"bad": 1.0, "ugly": 1.0}


def sorted_by_class(doc, results):
    return {"contrast": float(is_late(doc))}


def contrast(items):
    if len(set(items)) < 2:
        raise ValueError("only one class is present")
    return statistics.mean(items)


def seldom(doc, results):
    if next(calls) % 4 != 3:
        raise ConnectionError("503 from the judge")
    return {"acc": 1.0}


def prompt(doc):
    if next(prompts) in (1, 2):  # the call before is of the definition
        raise ConnectionError("503 from the writer")
    return "the fox then"


def flaky(doc, results):
    n = next(calls)
    if n == 0:
        raise ConnectionError("503 from the judge")
    return {"flaky": float(n)}


def grade(doc, results):
    return {"acc": mark(doc)}


def mark(doc):
    if doc["answer"] == 2:
        raise Exception("Response Error")
    return 1.0


def without(value):
    return lambda doc, results: {"acc": value if doc["answer"] == 2 else 1.0}


no_number, nothing = without(float("nan")), without(None)


def pieces(doc, results):
    return {"acc": {"first": 1.0}}


def loose(doc, results):
    return {"bits_per_byte": (results[0], 4), "word_perplexity": (results[0], 2)}


def known(doc, results):
    return {**loose(doc, results), "acc": 1.0}
"""
HEAD = """
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/test.jsonl}}
test_split: test
doc_to_text: "the {{a}} then"
doc_to_target: target
"""
GENERATES = HEAD + "output_type: generate_until\ngeneration_kwargs: {max_gen_toks: 4}\n"
CHOOSES = HEAD + "output_type: multiple_choice\ndoc_to_choice: options\ndoc_to_target: answer\n"
ROLLS = (
    HEAD.replace("doc_to_target: target", "doc_to_target: '{{a}} and {{b}}'")
    + "output_type: loglikelihood_rolling\n"
)
OWN = "process_results: !function judge.{}\nmetric_list:\n  - {{metric: {}, {}}}\n"
MEAN = "aggregation: mean, higher_is_better: true"
TASKS = {
    "hits": GENERATES + "metric_list:\n  - {metric: !function judge.hits, " + MEAN + "}\n",
    "sides": CHOOSES + OWN.format("sides", "acc_left", MEAN),
    "graded": CHOOSES + OWN.format("grade", "acc", MEAN),
    "loose": ROLLS + OWN.format("loose", "acc", MEAN),
    "known": ROLLS + OWN.format("known", "acc", MEAN),
    "rolled": ROLLS + "metric_list:\n  - {metric: acc, " + MEAN + "}\n",
    "no_number": CHOOSES + OWN.format("no_number", "acc", MEAN),
    "nothing": CHOOSES + OWN.format("nothing", "acc", MEAN),
    "pieces": CHOOSES + OWN.format("pieces", "acc", MEAN),
    "spread": CHOOSES
    + "metric_list:\n  - {metric: acc, aggregation: !function judge.spread, "
    + "higher_is_better: false}\n",
    "late": CHOOSES + OWN.format("late", "good", MEAN),
    "sorted": CHOOSES
    + OWN.format(
        "sorted_by_class",
        "contrast",
        "aggregation: !function judge.contrast, higher_is_better: true",
    ),
    "flaky": CHOOSES + OWN.format("flaky", "flaky", MEAN),
    "seldom": CHOOSES + OWN.format("seldom", "acc", MEAN),
    "prompted": CHOOSES.replace('"the {{a}} then"', "!function judge.prompt")
    + "metric_list:\n  - {metric: acc, "
    + MEAN
    + "}\n",
    "brier": CHOOSES + "metric_list:\n  - {metric: brier_score}\n",
}
GROUPS = {
    "both": "group: both\ntask: [hits, more_hits]\n",
    "mixed": "group: mixed\ntask: [hits, brier]\n",
    "apart": "group: apart\ntask: [brier, rolled]\n",
}


@pytest.fixture(scope="module")
def folder(task_folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("first")
    (place / "judge.py").write_text(CODE)
    for name, text in {**TASKS, "more_hits": TASKS["hits"]}.items():
        yaml = f"task: {name}\n{text}".replace("FOLDER", str(task_folder))
        (place / f"{name}.yaml").write_text(yaml)
    for name, text in GROUPS.items():
        (place / f"{name}.yaml").write_text(text)
    return place


@pytest.fixture(autouse=True)
def _small_index(monkeypatch):
    """lm-eval's full index takes ten seconds to read; nothing here is in it."""
    from lm_eval.tasks import TaskManager

    build = TaskManager.__init__
    monkeypatch.setattr(
        TaskManager,
        "__init__",
        lambda self, include_path=None, include_defaults=True: build(
            self, include_path=include_path, include_defaults=False
        ),
    )


@pytest.fixture
def load(folder):
    """``load("hits", "hit@1")``: an evaluator of one task and the metric asked for."""

    def made(name, metric=None, **more):
        task = Task(name=name, metric=metric, **more)
        return LmEval([task], EvaluationBlock(), ENGINES["transformers"], search_path=[str(folder)])

    return made


def told(evaluator, model):
    with pytest.raises(GenomeError, match="tasks") as raised:
        evaluator.first_documents(model)
    (problem,) = raised.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("name", "metric", "key"),
    [
        ("hits", "hit@1", "hits/hit@1,none"),
        ("hits", "hit@3,none", "hits/hit@3,none"),
        ("sides", "length", None),
        ("sides", None, "sides/acc_left,none"),  # not of the first document
        ("known", None, "known/acc,none"),  # the others are nothing that has a mean
        ("brier", None, "brier/brier_score,none"),
        ("both", "hit@1", "both/hit@1,none"),
        ("spread", None, "spread/acc,none"),  # of one document there is none
    ],
)
def test_the_name_that_results_have_is_the_metric(load, live_model, name, metric, key):
    evaluator = load(name, metric, limit=6)
    evaluator.prepare()
    before = evaluator.identity()
    if key is None:
        assert "does not say whether a higher 'length' is better" in told(evaluator, live_model)
        return
    (first,) = evaluator.first_documents(live_model)
    assert str(first.key) == key
    evaluation = evaluator.evaluate(live_model)
    assert str(evaluation.metrics[0].key) == key
    assert evaluation.metrics[0].higher_is_better == first.higher_is_better
    assert [str(k) for k in evaluator.prepare()] == [key]
    assert evaluator.facts()[0].is_known
    assert evaluator.identity() == before  # whether one document was scored or not


def test_a_metric_that_the_file_names_is_part_of_what_a_task_is(load, live_model):
    """As before results had the last word, so that a run of then is still the same run."""
    evaluator = load("known", limit=6)
    (entry,) = evaluator.loaded()
    metric = {"metric": "known/acc,none", "higher_is_better": True}
    was = digest(_plain({**metric, "leaves": [_leaf(leaf) for leaf in entry.leaves]}))
    assert evaluator.identity() == {"known": was}
    evaluator.first_documents(live_model)
    assert evaluator.identity() == {"known": was}


def test_who_never_saw_a_first_document_reads_the_same_metric(load, live_model):
    assert str(load("hits", "hit@1", limit=3).evaluate(live_model).metrics[0].key) == (
        "hits/hit@1,none"
    )


@pytest.mark.parametrize(
    ("name", "metric", "sentence"),
    [
        (
            "hits",
            None,
            "tasks[0]: no metric given and 'hits' gives several: hit@1,none, hit@3,none. Write one "
            "of them as `metric`.",
        ),
        (
            "hits",
            "hit@2",
            "tasks[0].metric: task 'hits' gives no metric 'hit@2'; did you mean 'hit@3'? "
            "(it gives: hit@1,none, hit@3,none).",
        ),
        ("rolled", None, "tasks[0].metric: task 'rolled' gives no metric 'acc,none' (it gives: no"),
        (
            "loose",
            "acc",
            "tasks[0].metric: task 'loose' gives no metric 'acc' (it gives: bits_per_byte,none, "
            "word_perplexity,none).",
        ),
        (
            "loose",
            None,
            "tasks[0]: no metric given and 'loose' gives several: bits_per_byte,none, word_perple",
        ),
        (
            "loose",
            "bits_per_byte",
            "tasks[0].metric: task 'loose' does not say whether a higher 'bits_per_byte' is better",
        ),
        ("pieces", None, "tasks[0]: task 'pieces', the aggregation of 'acc': TypeError: "),
    ],
)
def test_a_metric_that_results_lack_is_told_with_those_they_have(
    load, live_model, name, metric, sentence
):
    evaluator = load(name, metric, limit=16)  # all are looked at
    evaluator.prepare()  # no word before: its YAML cannot tell
    assert told(evaluator, live_model).startswith(sentence)


def test_a_name_that_only_results_tell_is_no_mistake_of_the_file(load):
    evaluator = load("hits", "hit@1")
    assert [str(key) for key in evaluator.prepare()] == ["hits/hit@1,none"]
    assert not evaluator.facts()[0].is_known


def test_a_name_that_the_file_tells_is_looked_at_at_once(load):
    with pytest.raises(GenomeError, match="task 'brier' has no metric 'acc'"):
        load("brier", "acc").prepare()


def test_a_group_of_tasks_that_have_no_metric_in_common_says_so(load, live_model):
    with pytest.raises(GenomeError, match=r"tasks of 'apart' have no metric in common \(brier_sco"):
        load("apart").prepare()
    assert "no metric given and 'mixed' gives none" in told(load("mixed"), live_model)


def test_code_of_a_task_that_fails_is_named_with_document_function_file_and_line(
    load, live_model, folder
):
    line = 1 + CODE.splitlines().index('        raise Exception("Response Error")')
    reason = f"Exception: Response Error, in mark ({folder / 'judge.py'}:{line})"
    with pytest.raises(EvaluationError) as raised:
        load("graded").evaluate(live_model)
    (problem,) = raised.value.problems
    assert problem.what == f"task 'graded', document 2: {reason}"
    with pytest.raises(EvaluationError, match="document 6: Exception: Response Error, in mark"):
        load("graded", samples=[4, 6]).evaluate(live_model)
    first = load("graded", samples=[2])
    assert told(first, live_model) == (
        f"tasks[0]: task 'graded', document 2: {reason}. Mend the task; where it asks what is "
        "out of reach, run again when it is there."
    )
    assert load("graded").first_documents(live_model)  # the first one is well


def test_an_aggregation_that_fails_is_named_too(load, live_model, folder):
    with pytest.raises(EvaluationError, match=r"'spread', the aggregation of 'acc': Statis"):
        load("spread", limit=1).evaluate(live_model)


@pytest.mark.parametrize("name", ["no_number", "nothing"])
def test_the_document_that_spoils_a_metric_is_named(load, live_model, name):
    with pytest.raises(EvaluationError, match=f"; document 2 of '{name}' gave no finite number"):
        load(name).evaluate(live_model)


def test_scores_are_the_same_after_a_first_document(load, live_model):
    evaluator = load("brier")
    evaluator.first_documents(live_model)
    assert evaluator.evaluate(live_model) == load("brier").evaluate(live_model)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("late", "late/good,none", 1.0), ("sorted", "sorted/contrast,none", 0.2)],
)
def test_what_the_first_documents_cannot_tell_is_no_mistake_of_the_task(
    load, live_model, name, key, value
):
    evaluator = load(name)
    evaluator.prepare()
    (first,) = evaluator.first_documents(live_model)
    assert str(first.key) == key
    assert math.isnan(first.value)
    metric = evaluator.evaluate(live_model).metrics[0]
    assert (str(metric.key), metric.value) == (key, value)


def test_a_judge_that_fails_once_is_asked_about_the_same_document_again(load, live_model):
    (first,) = load("flaky", limit=4).first_documents(live_model)
    assert (first.value, first.n) == (1.0, 1)  # of the second call


def test_what_fails_most_of_the_time_goes_on_with_the_try_that_succeeds(load, live_model):
    (first,) = load("seldom").first_documents(live_model)
    assert (first.value, first.n) == (1.0, 1)


def test_a_prompt_that_cannot_be_built_at_first_is_built_again(load, live_model):
    (first,) = load("prompted").first_documents(live_model)
    assert first.n == 1


def test_an_evaluator_that_is_told_a_name_reads_that_metric_and_no_other(load, live_model):
    evaluator = load("hits", "hit@1", limit=3)
    before = evaluator.identity()
    evaluator.settle([MetricKey("hits", "hit@3", "none")])
    assert str(evaluator.evaluate(live_model).metrics[0].key) == "hits/hit@3,none"
    assert evaluator.identity() == before
    evaluator.settle([MetricKey("hits", "hit@2", "none")])
    with pytest.raises(EvaluationError, match="gives no metric 'hit@2,none'"):
        evaluator.evaluate(live_model)
