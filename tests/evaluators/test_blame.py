"""Code of a task that fails, wherever lm-eval runs it: document, function, file and line."""

from __future__ import annotations

import json

import pytest

from evomerge.evaluators.lm_eval import LmEval
from evomerge.foundations.errors import EvomergeError
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES

CODE = """
def mark(doc):
    if doc["n"] in (3, 13):
        raise KeyError("gold")


def text(doc):
    mark(doc)
    return "the fox then"


def target(doc):
    mark(doc)
    return 0


def prepared(dataset):
    mark({"n": 3})


def choice(doc):
    mark(doc)
    return ["fox", "dog"]


def grade(doc, results):
    mark(doc)
    return {"acc": 1.0}


def share(items):
    mark({"n": 3})


def metric(references, predictions):
    mark({"n": 3 if references[0] == "d3" else 0})
    return 1.0


def tidy(resps, docs):
    for doc in docs:
        mark(doc)
    return [one[0] for one in resps]
"""
DATA = """dataset_path: json
dataset_kwargs: {data_files: {train: HERE/train.jsonl, test: HERE/test.jsonl}}
"""
MEAN = "aggregation: mean, higher_is_better: true"
CHOOSES = {
    "training_split": "train",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "'the {{a}} then'",
    "doc_to_target": "0",
    "doc_to_choice": "['fox', 'dog']",
    "metric_list": "[{metric: acc, " + MEAN + "}]",
}
WRITES = {
    **{key: value for key, value in CHOOSES.items() if key != "doc_to_choice"},
    "output_type": "generate_until",
    "doc_to_target": "'d{{n}}'",
    "generation_kwargs": "{max_gen_toks: 2, until: ['.']}",
    "metric_list": "[{metric: exact_match, " + MEAN + "}]",
}
FAILS = "\"{{gone if n in (3, 13) else 'fox'}}\""
PYTHON, JINJA = "KeyError: 'gold', in mark (HERE/judge.py:4)", "UndefinedError: 'gone' is undefined"
# What is changed in the YAML, what it is seen by, and what is said.
IN_PROMPTS = {
    "text": (CHOOSES, {"doc_to_text": "!function judge.text"}, "document 3, ", PYTHON),
    "target": (CHOOSES, {"doc_to_target": "!function judge.target"}, "document 3, ", PYTHON),
    "choice": (CHOOSES, {"doc_to_choice": "!function judge.choice"}, "document 3, ", PYTHON),
    "prefix": (WRITES, {"gen_prefix": FAILS}, "document 3, ", JINJA),
    "description": (CHOOSES, {"description": FAILS}, "document 3, ", JINJA),
    "template of the text": (
        CHOOSES,
        {"doc_to_text": FAILS},
        "document 3, ",
        f"{JINJA}, in the template of doc_to_text, line 1",
    ),
    "template of the target": (
        CHOOSES,
        {"doc_to_target": FAILS},
        "document 3, ",
        f"{JINJA}, in the template of doc_to_target, line 1",
    ),
    "template of the options": (
        CHOOSES,
        {"doc_to_choice": "\"{{gone if n == 3 else ['fox', 'dog']}}\""},
        "document 3, ",
        f"{JINJA}, in the template of doc_to_choice, line 1",
    ),
    "a template that gives no options": (
        CHOOSES,
        {"doc_to_choice": "\"{{'[fox' if n == 3 else ['fox', 'dog']}}\""},
        "document 3, SyntaxError: ",
        ", in doc_to_choice)",
    ),
    "an example": (
        CHOOSES,
        {
            "fewshot_split": "train",
            "num_fewshot": "1",
            "fewshot_config": "{doc_to_text: !function judge.text}",
        },
        "document 0, an example in its prompt, ",
        PYTHON,
    ),
}
IN_SCORES = {
    "results": (CHOOSES, {"process_results": "!function judge.grade"}, "document 3: ", PYTHON),
    "metric": (
        WRITES,
        {"metric_list": "[{metric: !function judge.metric, " + MEAN + "}]"},
        "document 3: ",
        PYTHON,
    ),
    "filter": (
        WRITES,
        {
            "filter_list": "[{name: own, filter: [{function: custom, "
            "filter_fn: !function judge.tidy}]}]"
        },
        "its filters, document 3: ",
        PYTHON,
    ),
    "aggregation": (
        CHOOSES,
        {
            "metric_list": "[{metric: acc, aggregation: !function judge.share, "
            "higher_is_better: true}]"
        },
        "the aggregation of 'acc': ",
        PYTHON,
    ),
}


@pytest.fixture
def evaluator(tmp_path, monkeypatch):
    from lm_eval.tasks import TaskManager

    build = TaskManager.__init__
    monkeypatch.setattr(
        TaskManager,
        "__init__",
        lambda self, *args, **kwargs: build(self, *args, **{**kwargs, "include_defaults": False}),
    )
    (tmp_path / "judge.py").write_text(CODE)
    for name, first, size in (("test", 0, 6), ("train", 13, 1)):
        rows = [json.dumps({"n": n, "a": f"fox {n}"}) for n in range(first, first + size)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))

    def call(keys):
        text = "".join(f"{key}: {value}\n" for key, value in keys.items())
        (tmp_path / "own.yaml").write_text(
            f"task: own\n{DATA}{text}".replace("HERE", str(tmp_path))
        )
        return LmEval(
            [Task(name="own")],
            EvaluationBlock(),
            ENGINES["transformers"],
            search_path=[str(tmp_path)],
        )

    return call


@pytest.mark.parametrize("name", IN_PROMPTS)
def test_a_prompt_that_cannot_be_built_is_named(evaluator, live_model, tmp_path, name):
    keys, change, place, reason = IN_PROMPTS[name]
    with pytest.raises(EvomergeError) as caught:
        evaluator({**keys, **change}).warnings(live_model.tokenizer, live_model.module.config)
    said = str(caught.value)
    assert f"the prompts of task 'own' cannot be built ({place}" in said
    assert reason.replace("HERE", str(tmp_path)) in said


@pytest.mark.parametrize("name", IN_SCORES)
def test_code_that_fails_on_results_is_named(evaluator, live_model, tmp_path, name):
    keys, change, place, reason = IN_SCORES[name]
    with pytest.raises(EvomergeError) as caught:
        evaluator({**keys, **change}).evaluate(live_model)
    assert f"task 'own', {place}{reason}".replace("HERE", str(tmp_path)) in str(caught.value)


def test_options_that_cannot_be_counted_are_named(evaluator):
    own = evaluator({**CHOOSES, "doc_to_choice": "!function judge.choice"})
    with pytest.raises(EvomergeError, match="task 'own', document 3: KeyError: 'gold', in mark"):
        own.facts()


def test_an_answer_that_cannot_be_read_for_training_is_named(evaluator, live_model, monkeypatch):
    own = evaluator(CHOOSES)
    own.evaluate(live_model)
    (task,) = (leaf.task for entry in own.loaded() for leaf in entry.leaves)
    monkeypatch.setattr(task, "doc_to_target", lambda doc: {}["gone"] if doc["n"] == 3 else 0)
    with pytest.raises(EvomergeError, match="the right answer of document 3: KeyError: 'gone'"):
        own.questions(live_model)


def test_a_document_that_was_drawn_has_its_own_number(evaluator, live_model):
    own = evaluator({**CHOOSES, "doc_to_text": "!function judge.text"})
    own.tasks = (Task(name="own", samples=[1, 3, 5]),)
    with pytest.raises(EvomergeError, match=r"cannot be built \(document 3, "):
        own.warnings(live_model.tokenizer, live_model.module.config)


def test_a_definition_that_fails_names_its_line(evaluator):
    own = evaluator({**CHOOSES, "process_docs": "!function judge.prepared"})
    with pytest.raises(
        EvomergeError, match=r"be built \(KeyError: 'gold', in mark \(.*judge.py:4\)\)"
    ):
        own.prepare()
