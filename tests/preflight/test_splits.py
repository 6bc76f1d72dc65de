"""Documents that steer, validate and judge are different ones; real lm-eval tasks."""

from __future__ import annotations

import json

import pytest
from lm_eval.config.task import TaskConfig

from evomerge.checks import splits
from evomerge.checks.context import CheckContext
from evomerge.evaluators.base import Evaluator
from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.lm_eval import LmEval
from evomerge.evaluators.lm_eval.own_contents import benchmark_of, document_digests
from evomerge.evaluators.task_contents import TaskContents, members_of
from evomerge.foundations.findings import Severity
from evomerge.genome.load import load_genome
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from tests.shared_fixtures import own_dataset_cache  # noqa: F401  # a fixture that acts on its own

GENOME = """
genome: {models: [a, b], base_model: c, merge_method: task_arithmetic}
tasks: [any]
"""
TASK = """
task: NAME
dataset_path: json
dataset_kwargs: {data_files: {first: FOLDER/DATA.jsonl, shots: FOLDER/SHOTS.jsonl}}
SPLIT: first
fewshot_split: FEWSHOT
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [a, b]
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    file = tmp_path_factory.mktemp("genome") / "genome.yml"
    file.write_text(GENOME)
    return load_genome(file)[0]


def rows(start, stop, first_id=0):
    numbers = range(start, stop)
    return [{"id": first_id + i, "question": f"{i}?", "answer": i % 2} for i in numbers]


@pytest.fixture
def check(tmp_path, genome):
    """Findings of a rule: ``check(rule, tasks={"one": rows(0, 9)}, holdout={...})``."""

    def findings(
        rule,
        *,
        shots=(),
        num_fewshot=None,
        shown_in="tasks",
        fewshot="shots",
        split="test_split",
        weight=1.0,
        **of,
    ):
        def write(name, documents):
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, documents)))

        evaluators = {}
        for where, tasks in of.items():
            for name, documents in tasks.items():
                write(name, documents)
                write(f"{name}_shots", shots or documents[:1])
                text = TASK.replace("NAME", name).replace("DATA", name).replace("SPLIT", split)
                text = text.replace("SHOTS", f"{name}_shots").replace("FEWSHOT", fewshot)
                (tmp_path / f"{name}.yaml").write_text(text.replace("FOLDER", str(tmp_path)))
            named = [
                Task(
                    name=name,
                    num_fewshot=num_fewshot if where == shown_in else None,
                    weight=weight,
                )
                for name in tasks
            ]
            evaluators[where] = LmEval(
                named, EvaluationBlock(), ENGINES["transformers"], search_path=[str(tmp_path)]
            )
            evaluators[where].prepare()
        return list(rule(CheckContext(genome, evaluators=evaluators)))

    return findings


def test_splits_with_documents_of_their_own_pass_every_rule(check):
    data = {"tasks": {"one": rows(0, 9)}, "holdout": {"two": rows(9, 18)}}
    for rule in (splits.splits_apart, splits.own_answers_hidden, splits.documents_once):
        assert check(rule, **data) == []


def test_documents_of_the_search_are_refused_in_the_holdout_whatever_they_are_numbered(check):
    data = {"tasks": {"one": rows(0, 9)}, "holdout": {"two": rows(6, 16, first_id=100)}}
    (found,) = check(splits.splits_apart, **data)
    assert found.severity is Severity.ERROR
    assert found.problem.where == "holdout[0]"
    assert found.problem.what == "3 of its 10 documents are also documents of tasks[0] (one)"
    assert found.problem.fix.startswith("Use other documents in one of them")


def test_the_same_task_under_two_names_is_found(check):
    data = {"validation": {"one": rows(0, 9)}, "holdout": {"other": rows(9, 12), "two": rows(0, 9)}}
    (found,) = check(splits.splits_apart, **data)
    assert found.problem.where == "holdout[1]"
    assert "9 of its 9 documents are also documents of validation[0] (one)" in str(found)


def test_worked_examples_of_the_search_may_not_be_scored_later(check):
    data = {"tasks": {"one": rows(0, 9)}, "holdout": {"two": rows(20, 29)}}
    (found,) = check(splits.splits_apart, shots=rows(18, 22), num_fewshot=2, **data)
    assert found.problem.where == "tasks[0]"
    assert "worked examples are drawn from documents that holdout[0] (two) scores, 2 of" in str(
        found
    )
    assert check(splits.splits_apart, shots=rows(18, 22), num_fewshot=0, **data) == []


def test_the_holdout_may_show_documents_of_the_search_as_examples(check):
    data = {"tasks": {"one": rows(0, 9)}, "holdout": {"two": rows(20, 29)}}
    shown = {"shots": rows(0, 2), "num_fewshot": 2, "shown_in": "holdout"}
    assert check(splits.splits_apart, **shown, **data) == []


def test_a_prompt_that_may_show_its_own_answer_is_noticed(check):
    data = {"tasks": {"one": rows(0, 9)}}
    (found,) = check(splits.own_answers_hidden, shots=rows(5, 12), num_fewshot=2, **data)
    assert found.severity is Severity.WARNING
    assert found.problem.what == "4 of its 9 documents may be worked examples in their own prompts"


def test_lm_eval_hides_a_documents_answer_only_where_its_examples_are_the_test_split(check):
    data = {"tasks": {"one": rows(0, 9)}, "num_fewshot": 2, "fewshot": "first"}
    assert check(splits.own_answers_hidden, **data) == []
    (found,) = check(splits.own_answers_hidden, split="validation_split", **data)
    assert found.problem.what.startswith("9 of its 9 documents")


def test_copies_inside_a_split_are_warned_about(check):
    (found,) = check(splits.documents_once, tasks={"one": rows(0, 9) + rows(0, 2, first_id=50)})
    assert found.severity is Severity.WARNING
    assert "2 of its 11 documents are copies of others; they count twice" in str(found)


def test_two_tasks_on_the_same_documents_are_warned_about(check):
    (found,) = check(splits.documents_once, tasks={"one": rows(0, 9), "two": rows(8, 12)})
    assert found.severity is Severity.WARNING
    assert found.problem.where == "tasks[1]"
    assert "1 of its 4 documents are also documents of tasks[0] (one)" in str(found)


def test_a_task_on_documents_of_several_others_is_told_once(check):
    tasks = {"one": rows(0, 9), "two": rows(0, 9), "three": rows(0, 12)}
    found = check(splits.documents_once, tasks=tasks)
    assert [one.problem.where for one in found] == ["tasks[1]", "tasks[2]"]
    assert found[1].problem.what.startswith(
        "9 of its 12 documents are also documents of tasks[0] (one), tasks[1] (two); the standard"
    )


class Told(Evaluator):
    """An evaluator of tasks that would have to be downloaded."""

    def prepare(self):
        return ()

    def evaluate(self, model, deadline=None, batch_divisor=1):
        raise NotImplementedError

    def first_documents(self, model, deadline=None):
        raise NotImplementedError

    def let_go(self):
        raise NotImplementedError

    def facts(self):
        return ()

    def identity(self):
        return {}

    def contents(self):
        return tuple(
            TaskContents(task.name, task.name, ("digest",), benchmark="test of openai/gsm8k")
            for task in self.tasks
        )


def test_a_benchmark_as_search_task_is_warned_about_and_as_holdout_it_is_not(genome):
    told = Told([Task(name="gsm8k")], EvaluationBlock(), ENGINES["transformers"])
    rule = splits.benchmarks_unsearched
    (found,) = rule(CheckContext(genome, evaluators={"tasks": told}))
    assert found.severity is Severity.WARNING
    assert found.problem.where == "tasks[0]"
    assert found.problem.what.startswith("'gsm8k' is the test of openai/gsm8k, a public benchmark")
    assert "Search on its training split or on a task of your own" in found.problem.fix
    assert list(rule(CheckContext(genome, evaluators={"holdout": told}))) == []


@pytest.mark.parametrize(
    ("name", "path", "split", "benchmark"),
    [
        ("gsm8k", "openai/gsm8k", {"test_split": "test"}, "test of openai/gsm8k"),
        ("hellaswag", "Rowan/x", {"validation_split": "validation"}, "validation of Rowan/x"),
        ("gsm8k_train", "openai/gsm8k", {"test_split": "test"}, ""),
        ("mine", "openai/gsm8k", {"test_split": "train[:300]"}, ""),
        ("mine", "json", {"test_split": "test"}, ""),
        ("mine", ".", {"test_split": "test"}, ""),
    ],
)
def test_a_benchmark_is_a_public_split_that_is_not_for_training(name, path, split, benchmark):
    config = TaskConfig(task=name, dataset_path=path, **split)
    assert benchmark_of(config) == benchmark


class Asking:
    """As much of an lm-eval task as asks a question."""

    config = TaskConfig(task="x", doc_to_choice="options")

    def doc_to_text(self, document):
        return document["text"]

    def doc_to_target(self, document):
        return document["answer"]

    def doc_to_choice(self, document):
        return document["options"]


def question(**changes):
    document = {"text": "Two and two?", "options": ["3", "4"], "answer": 1, **changes}
    return document_digests(Asking(), document)[0]


def test_the_same_question_is_the_same_document_whatever_its_number_blanks_and_capitals():
    assert question(sample_id=7) == question(source="web") == question(text="two  and TWO? ")


def test_another_question_option_or_answer_is_another_document():
    found = {question(), question(text="2 + 2?"), question(options=["5", "4"]), question(answer=0)}
    assert len(found) == 4


def test_a_document_that_no_template_reads_is_compared_as_it_is():
    one, other = (document_digests(Asking(), {"id": index}) for index in (1, 2))
    assert set(one).isdisjoint(other)


def test_equal_rows_are_the_same_document_whatever_a_task_makes_of_them():
    document = {"text": "a", "options": ["b"], "answer": 0}
    shouting = Asking()
    shouting.doc_to_text = lambda document: document["text"] * 3
    one, other = document_digests(Asking(), document), document_digests(shouting, document)
    assert one[0] != other[0]
    assert one[1] == other[1]


def test_only_groups_have_members():
    parts = [TaskContents("a", "a", ()), TaskContents("b", "b1", ()), TaskContents("b", "b2", ())]
    assert members_of(parts) == {"b": ["b1", "b2"]}


def test_tasks_that_are_in_no_mean_may_share_documents(check):
    shared = {"one": rows(0, 9), "two": rows(8, 12)}
    assert check(splits.documents_once, tasks=shared, weight=0) == []


def test_questions_of_one_file_that_stand_in_both_its_lists_are_told(genome, tmp_path):
    asked = [
        {"question": f"{i} or {n}?", "choices": {"A": "a", "B": "b"}, "answer": "A"}
        for i, n in enumerate("xyz")
    ]
    file = tmp_path / "legal.json"
    file.write_text(json.dumps({"dev": asked, "test": [*asked[1:], {**asked[0], "question": "?"}]}))

    def evaluator(split):
        task = Task.model_validate({"choice": {"file": str(file), "split": split}})
        made = evaluator_for([task], EvaluationBlock(), ENGINES["transformers"])
        made.prepare()
        return made

    evaluators = {"tasks": evaluator("dev"), "holdout": evaluator("test")}
    (found,) = splits.splits_apart(CheckContext(genome, evaluators=evaluators))
    assert found.severity is Severity.ERROR
    assert "holdout[0]: 2 of its 3 documents are also documents of tasks[0]" in str(found)
