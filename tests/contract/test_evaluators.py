"""What every evaluator of the table must show, and one of several kinds at once."""

from __future__ import annotations

import gc
import math
import weakref
from difflib import get_close_matches
from pathlib import Path
from statistics import stdev

import pytest
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.evaluators import EVALUATORS
from evomerge.evaluators.asking.asking_kind import AskingKind
from evomerge.evaluators.built_model import BuiltModel
from evomerge.evaluators.composite import Composite, evaluator_for
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from evomerge.merging.live_model import LiveModel
from evomerge.nouns.evaluation import MetricKey
from tests.contract.evaluator_cases import CASES, Case, write_files
from tests.evaluators.asking_double import with_echo
from tests.evaluators.formula import with_formula
from tests.judge.judge_files import with_letters_judge
from tests.tiny_models import tiny_model

WAVE, CHOICE, BOWL = CASES["formula"].tasks[0], "tiny_choice", CASES["formula"].tasks[1]


@pytest.fixture(scope="module", autouse=True)
def _double_in_table():
    with with_formula(), with_echo(), with_letters_judge():
        yield


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """The place of the files that tasks name; tests are run there."""
    path = write_files(tmp_path_factory.mktemp("contract_tasks"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("contract_model") / "tiny", drift=0.2)


@pytest.fixture(scope="module")
def model(model_folder):
    module = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    return LiveModel(module, AutoTokenizer.from_pretrained(model_folder))


@pytest.fixture(params=sorted(CASES))  # sorted: xdist sees one order
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture
def own_model(model_folder):
    """A model that nobody else holds."""
    return [AutoModelForCausalLM.from_pretrained(model_folder).eval()]


def kind_of(case):
    return EVALUATORS[Task.model_validate(case.tasks[0]).kind]


def made(*given, seed=0):
    tasks = [Task.model_validate(one) for one in given]
    place = str(Path.cwd())
    return evaluator_for(
        tasks,
        EvaluationBlock(),
        ENGINES["transformers"],
        search_path=[place],
        seed=seed,
        permissions=Permissions(code=True),
    )


def names(evaluator):
    return [task.name for task in evaluator.tasks]


def test_every_kind_of_the_table_has_its_case():
    assert set(CASES) == set(EVALUATORS)


def test_prepare_gives_one_key_per_task_in_order(case):
    evaluator = made(*case.tasks)
    assert [key.task for key in evaluator.prepare()] == names(evaluator)


def test_metrics_are_numbers_with_direction_and_count(case, model):
    evaluator = made(*case.tasks)
    keys, evaluation = evaluator.prepare(), evaluator.evaluate(model)
    own = evaluation.metrics[: len(case.tasks)]
    assert tuple(metric.key for metric in own) == keys
    for metric in evaluation.metrics:
        assert type(metric.value) is float
        assert math.isfinite(metric.value)
        assert metric.stderr is None or (type(metric.stderr) is float and metric.stderr >= 0)
        assert type(metric.higher_is_better) is bool
        assert metric.n == case.n_documents
    assert tuple(metric.higher_is_better for metric in own) == case.upwards


def test_values_lie_in_the_range_of_their_measure_and_have_a_standard_error(case, model):
    kind = kind_of(case)
    if not issubclass(kind, AskingKind):
        pytest.skip("others say what its numbers are")
    evaluator = made(*case.tasks)
    evaluator.prepare()
    found = evaluator.evaluate(model)
    for task in evaluator._loaded():
        for measure in task.measures:
            key = MetricKey(task.name, measure.name, "none")
            (metric,) = (one for one in found.metrics if one.key == key)
            own = [one.values for one in found.documents if one.task == task.name]
            values = [one[f"{measure.name},none"] for one in own]
            assert all(measure.low <= value <= measure.high for value in (metric.value, *values))
            assert metric.higher_is_better is measure.higher_is_better
            assert metric.value == pytest.approx(sum(values) / len(values))
            spread = stdev(values) / math.sqrt(len(values))
            assert metric.stderr == pytest.approx(spread, rel=1e-9, abs=1e-12)


def test_every_document_is_reported_with_its_values(case, model):
    evaluator = made(*case.tasks)
    evaluator.prepare()
    documents = evaluator.evaluate(model).documents
    found = sorted((document.task, document.doc_id) for document in documents)
    assert found == sorted((name, i) for name in names(evaluator) for i in range(case.n_documents))
    for document in documents:
        assert document.values
        assert all(type(value) is float for value in document.values.values())


def test_what_is_known_beforehand_is_what_is_found(case, model):
    evaluator = made(*case.tasks)
    keys = evaluator.prepare()
    facts, first = evaluator.facts(), evaluator.first_documents(model)
    assert tuple(one.key for one in facts) == tuple(one.key for one in first) == keys
    assert tuple(one.higher_is_better for one in facts) == case.upwards
    assert [one.n_documents for one in facts] == [case.n_documents] * len(keys)
    assert list(evaluator.identity()) == names(evaluator)
    assert {one.task for one in evaluator.contents()} == set(names(evaluator))


def test_the_first_documents_alone_are_scored_where_that_is_asked_for(case, model):
    task = Task.model_validate(case.tasks[0])
    if "limit" not in kind_of(case).reads:
        pytest.skip("has no documents to choose from")
    evaluator, whole = made(task.model_copy(update={"limit": 3})), made(task)
    evaluator.prepare(), whole.prepare()
    few = evaluator.evaluate(model)
    assert [one.doc_id for one in few.documents] == [0, 1, 2]
    assert (few.metrics[0].n, evaluator.facts()[0].n_documents) == (3, 3)
    assert evaluator.identity() != whole.identity()


def test_the_same_model_twice_gives_the_same_evaluation(case, model):
    evaluator, again = made(*case.tasks), made(*case.tasks)
    evaluator.prepare(), again.prepare()
    assert evaluator.evaluate(model) == evaluator.evaluate(model) == again.evaluate(model)
    assert evaluator.identity() == again.identity()


def test_the_model_is_left_as_it_was(case, model):
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    vocabulary, evaluator = model.tokenizer.get_vocab(), made(*case.tasks)
    evaluator.prepare()
    evaluator.evaluate(model)
    assert all(before[name].equal(tensor) for name, tensor in model.module.state_dict().items())
    assert model.tokenizer.get_vocab() == vocabulary


def test_a_folder_is_scored_by_other_means_alike_or_not_at_all(case, model, model_folder):
    evaluator = made(*case.tasks)
    evaluator.prepare()
    if not evaluator.means:
        assert evaluator.unverifiable == set(names(evaluator))
        return
    ours, shares = evaluator.evaluate(model), []
    built = BuiltModel(model_folder, EvaluationBlock(), "cpu", 1)
    documents, metrics = evaluator.score_folder(
        built, shares.append, [str(metric.key) for metric in ours.metrics]
    )
    theirs = {(one.task, one.doc_id): one.values for one in documents}
    assert len(theirs) == len(ours.documents)
    for one in ours.documents:
        assert theirs[one.task, one.doc_id] == pytest.approx(one.values, rel=1e-4)
    for metric in ours.metrics:
        assert metrics[str(metric.key)] == pytest.approx(metric.value, rel=1e-4)
    assert (shares, shares[-1], evaluator.unverifiable) == (sorted(shares), 1.0, frozenset())


def test_a_wrong_task_is_refused_with_its_key(case):
    for task, sentence in case.wrong.values():
        with pytest.raises(GenomeError, match=sentence):
            made(task).prepare()


def test_a_kind_has_a_key_that_no_key_of_all_tasks_resembles_and_settings_of_its_own(case):
    task, kind = Task.model_validate(case.tasks[0]), kind_of(case)
    assert task.kind == "name" or not get_close_matches(task.kind, Task.model_fields)
    assert kind.Settings.model_validate(task.given)
    with pytest.raises(ValidationError):
        kind.Settings.model_validate({"no_such_setting": 1})


@pytest.mark.slow  # the nearest name is sought among all tasks there are
def test_an_unknown_task_is_refused_with_the_nearest():
    with pytest.raises(GenomeError, match=r"tasks\[0\].name: .*did you mean 'tiny_choice'"):
        made("tiny_chioce").prepare()


def test_tasks_of_several_kinds_are_scored_together_in_their_order(model):
    evaluator, alone = made(WAVE, CHOICE, BOWL), made(CHOICE)
    keys, order = evaluator.prepare(), ["wave", CHOICE, "low"]
    alone.prepare()
    found, theirs = evaluator.evaluate(model), alone.evaluate(model)
    assert [key.task for key in keys] == order == names(evaluator)
    assert tuple(metric.key for metric in found.metrics[:3]) == keys
    assert set(theirs.metrics) <= set(found.metrics)
    assert len({metric.key for metric in found.metrics}) == len(found.metrics)
    assert [one for one in found.documents if one.task == CHOICE] == list(theirs.documents)
    assert (found.samples, found.tallies) == (theirs.samples, theirs.tallies)
    assert tuple(one.key for one in evaluator.first_documents(model)) == keys
    assert tuple(one.key for one in evaluator.facts()) == keys
    assert list(evaluator.identity()) == order
    assert alone.identity().items() <= evaluator.identity().items()
    assert [one.task for one in evaluator.contents()] == order
    asked = [(one.task, one.document) for one in evaluator.questions(model)]
    assert asked == [(one.task, one.document) for one in alone.questions(model)] != []
    assert evaluator.warnings(model.tokenizer, model.module.config) == alone.warnings(
        model.tokenizer, model.module.config
    )
    assert (evaluator.means, evaluator.unverifiable) == ("lm-eval", {"wave", "low"})
    assert evaluator.tokens_per_pass("cpu", 7) == alone.tokens_per_pass("cpu", 7)


def test_kinds_that_score_a_folder_follow_one_another(model_folder):
    given = CASES["perplexity"].tasks
    parts = {(index,): made(one) for index, one in enumerate(given)}
    tasks, engine = [Task.model_validate(one) for one in given], ENGINES["transformers"]
    whole, shares = Composite(parts, tasks, EvaluationBlock(), engine), []
    keys = whole.prepare()
    built = BuiltModel(model_folder, EvaluationBlock(), "cpu", 1)
    documents, metrics = whole.score_folder(built, shares.append)
    assert shares == pytest.approx([*(i / 10 for i in range(6)), *(i / 10 for i in range(5, 11))])
    assert {one.task for one in documents} == {task.name for task in tasks}
    assert {str(key) for key in keys} <= set(metrics)


def test_mistakes_of_several_kinds_are_told_where_they_stand():
    wrong = {"name": CHOICE, "metric": "acc_nrom"}
    with pytest.raises(GenomeError) as raised:
        made(WAVE, wrong, BOWL, {"name": "tiny_text", "metric": "none_such"}).prepare()
    assert [one.where for one in raised.value.problems] == ["tasks[1].metric", "tasks[3].metric"]


def test_metrics_that_first_documents_named_are_read_by_each_kind(model):
    evaluator = made(WAVE, {"name": "tiny_text", "metric": "exact_match,whole"})
    evaluator.prepare()
    keys = (
        MetricKey("wave", "value", "none"),
        MetricKey("tiny_text", "exact_match", "first-letter"),
    )
    evaluator.settle(keys)
    assert tuple(metric.key for metric in evaluator.evaluate(model).metrics[:2]) == keys


def test_documents_of_two_kinds_never_share_a_name():
    taken = {"formula": {"name": CHOICE, "curve": "wave"}}
    with pytest.raises(GenomeError, match=r"tasks\[1\]: task 'tiny_choice' is also part of 'tiny_"):
        made("tiny_group", taken).prepare()


@pytest.mark.parametrize("whose", [*sorted(CASES), "several"])
def test_a_model_that_was_scored_can_be_let_go(whose, own_model, model):
    tasks = CASES[whose].tasks[:1] if whose in CASES else (CHOICE, CASES["perplexity"].tasks[0])
    evaluator = made(*tasks)
    evaluator.prepare()
    before = evaluator.evaluate(LiveModel(own_model[0], model.tokenizer))
    gone = weakref.ref(own_model.pop())
    evaluator.let_go()
    gc.collect()
    assert gone() is None
    assert evaluator.evaluate(model).metrics == before.metrics
