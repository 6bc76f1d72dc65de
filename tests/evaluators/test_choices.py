"""Accuracies over all documents at once are lm-eval's own, document by document."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from lm_eval.tasks import TaskManager

from evomerge.evaluators.lm_eval.choices import judged
from evomerge.evaluators.lm_eval.isolation import inside_lm_eval
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf

METRICS = "\n".join(
    f"  - {{metric: {name}, aggregation: mean, higher_is_better: true}}"
    for name in ("acc_bytes", "acc", "acc_norm")
)
TASK = """
task: many
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/many.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: options
doc_to_target: ANSWER
metric_list:
"""
ANSWERS = {
    "index": "number",
    "text": "\"{{options[number] if number < options|length else 'none of them'}}\"",
    "beyond": '"{{number}}"',
}


@pytest.fixture
def built(tmp_path):
    """A task with requests: ``built("doc_to_target", "further YAML")``."""

    def build(answer="number", more=""):
        draw = random.Random(0)
        rows = [
            {"question": f"which {i}?", "options": options, "number": i % 5}
            for i in range(40)
            for options in [["é" * draw.randint(1, 9) for _ in range(2 + i % 3)]]
        ]
        lines = [str(row).replace("'", '"') for row in rows]
        (tmp_path / "many.jsonl").write_text("\n".join(lines), encoding="utf-8")
        text = TASK.replace("FOLDER", str(tmp_path)).replace("ANSWER", answer)
        (tmp_path / "many.yaml").write_text(f"{text}{METRICS}\n{more}", encoding="utf-8")
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        with inside_lm_eval():
            task = manager.load(["many"])["tasks"]["many"]
            task.set_fewshot_seed(seed=1)
            task.build_all_requests()
        return task

    return build


def answer(task, values):
    """Gives every request a response, as a model would."""
    for request in task.instances:
        request.resps = [(next(values), False)]
        request.filtered_resps = {}


def judge(task, **settings):
    """What is judged at once of the responses that were given."""
    return judged(Leaf("many", task, **settings), [one.resps[0] for one in task.instances])


def by_lm_eval(task):
    """Per document what lm-eval makes of it."""
    task.apply_filters()
    asked = {}
    for request in task.instances:
        asked.setdefault(request.doc_id, []).append(request)
    with np.errstate(invalid="ignore"):  # of a probability that it computes beside
        return [
            task.process_results(group[0].doc, [one.filtered_resps["none"] for one in group])
            for group in asked.values()
        ]


def likelihoods(draw, kinds):
    while True:
        yield draw.choice(kinds)(draw)


PLAIN = (lambda draw: -10 * draw.random(), lambda draw: -float(draw.randint(1, 3)))
STRANGE = (*PLAIN, lambda draw: -math.inf, lambda draw: math.nan)


@pytest.mark.parametrize("kinds", [PLAIN, STRANGE], ids=["numbers", "inf and nan"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_all_documents_at_once_are_judged_as_one_by_one(built, kind, kinds):
    task = built(ANSWERS[kind])
    for seed in range(5):
        answer(task, likelihoods(random.Random(seed), kinds))
        found = judge(task)
        expected = by_lm_eval(task)
        assert [{k.partition(",")[0]: v for k, v in d.values.items()} for d in found.documents] == (
            expected
        )
        assert list(found.documents[0].values) == [f"{name},none" for name in expected[0]]
        for (metric, name), values in found.values.items():
            assert (name, values) == ("none", [document[metric] for document in expected])


def test_the_answer_is_the_first_of_the_most_likely_options(built):
    task = built()
    answer(task, likelihoods(random.Random(0), STRANGE))
    asked = {}
    for request in task.instances:
        asked.setdefault(request.doc_id, []).append(request.resps[0][0])
    found = judge(task).documents
    assert [d.answer for d in found] == [
        max(range(len(row)), key=row.__getitem__) for row in asked.values()
    ]


def test_documents_keep_their_numbers_where_they_are_drawn(built):
    task = built()
    task.build_all_requests(samples=[3, 7, 20])
    answer(task, likelihoods(random.Random(0), PLAIN))
    found = judge(task, samples=[3, 7, 20]).documents
    assert [d.doc_id for d in found] == [3, 7, 20]


@pytest.mark.parametrize(
    ("old", "more"),
    [
        ("number", "filter_list: [{name: k, filter: [{function: take_first_k, k: 1}]}]"),
        ('"{{[0, 1]|random}}"', ""),
        ('"{{[0, 1]}}"', ""),
    ],
    ids=["another filter", "a random template", "several right answers"],
)
def test_what_is_not_plain_is_left_to_lm_eval(built, old, more):
    task = built(old, more)
    answer(task, likelihoods(random.Random(0), PLAIN))
    assert judge(task) is None
