"""lm-eval alone, on a folder, gives the documents and metrics that an evaluator gives."""

from __future__ import annotations

import lm_eval.models.huggingface as huggingface
import pytest

from evomerge.evaluators.built_model import BuiltModel
from evomerge.evaluators.lm_eval.hf_model import open_model
from evomerge.foundations.errors import RunError
from evomerge.genome.task_blocks import EvaluationBlock

METRIC = {"tiny_text": "exact_match,whole", "tiny_rolling": "word_perplexity"}


JUDGE = """
def sides(doc, results):
    return {"hit@1": float(doc["answer"] % 2), "hit@2": 0.5}
"""


def named(name: str, **more) -> dict:
    return {"name": name, "metric": METRIC.get(name), **more}


@pytest.fixture
def compare(make, task_folder, model_folder, live_model):
    """Scores both ways and compares; gives what the reference reported of its progress."""

    def both(*tasks, model=live_model, search_path=(), **settings):
        evaluator = make(*tasks, **settings)
        evaluator.search_path = [str(task_folder), *search_path]
        ours = evaluator.evaluate(model)
        built = BuiltModel(model_folder, evaluator.settings, "cpu", 1)
        built.opened_by(open_model).tokenizer.chat_template = model.tokenizer.chat_template
        shares: list[float] = []
        recorded = [str(metric.key) for metric in ours.metrics]
        documents, metrics = evaluator.score_folder(built, shares.append, recorded)
        theirs = {(d.task, d.doc_id): d for d in documents}
        assert len(theirs) == len(ours.documents)
        for document in ours.documents:
            other = theirs[document.task, document.doc_id]
            assert document.answer == other.answer
            assert document.values == pytest.approx(other.values, rel=1e-4)
        for metric in ours.metrics:
            assert metrics[str(metric.key)] == pytest.approx(metric.value, rel=1e-4)
        return shares

    return both


def test_every_kind_of_task_scores_as_in_a_run(compare, capfd):
    tasks = ("tiny_choice", "tiny_text", "tiny_likelihood", "tiny_rolling")
    shares = compare(*map(named, tasks))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert capfd.readouterr() == ("", "")


def test_groups_worked_examples_and_limits_score_as_in_a_run(compare):
    compare(named("tiny_group"), named("tiny_text", num_fewshot=2, limit=7), batch_size=3)


@pytest.mark.parametrize("name", ["pooled", "tagged"])
def test_pooled_tasks_whose_code_names_their_metrics_score_as_in_a_run(
    compare, task_folder, tmp_path, name
):
    (tmp_path / "judge.py").write_text(JUDGE)
    text = (task_folder / "choice.yaml").read_text().replace("tag: tiny_choices", "tag: tagged")
    text = text.partition("metric_list:")[0] + "process_results: !function judge.sides\n"
    metric = "  - {metric: METRIC, aggregation: mean, higher_is_better: true}\n"
    both = metric.replace("METRIC", "hit@1") + metric.replace("METRIC", "hit@2")
    for task, metrics in (("one", both), ("other", metric.replace("METRIC", "hit@2"))):
        own = text.replace("task: tiny_choice", f"task: {task}")
        (tmp_path / f"{task}.yaml").write_text(f"{own}metric_list:\n{metrics}")
    (tmp_path / "group.yaml").write_text("group: pooled\ntask: [one, other]\n")
    compare({"name": name, "metric": "hit@1"}, search_path=[str(tmp_path)])


def test_drawn_documents_score_as_in_a_run(compare):
    compare(named("tiny_choice", samples=5), named("tiny_text", samples=[17, 3]))


def test_a_chat_scores_as_in_a_run(compare, chat_model):
    tasks = (named("tiny_choice", num_fewshot=2), named("tiny_text", num_fewshot=2))
    compare(*tasks, model=chat_model, system_instruction="jump")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "rows"),
    [({}, 20), ({"batch_size": 3}, 3), ({"gen_kwargs": {"num_beams": 2}}, 1)],
)
def test_passes_hold_many_documents_where_padding_has_no_say(compare, monkeypatch, settings, rows):
    """All documents under "auto": they are short. Rows of a beam search feel the padding."""
    seen: list[int] = []
    plain = huggingface.HFLM._model_generate

    def counting(self, context, **given):
        seen.append(len(context))
        return plain(self, context, **given)

    monkeypatch.setattr(huggingface.HFLM, "_model_generate", counting)
    compare(named("tiny_text"), **settings)
    assert max(seen) == rows


def test_passes_of_likelihoods_grow_smaller_where_memory_runs_out(compare, monkeypatch):
    seen: list[int] = []
    plain = huggingface.HFLM._model_call

    def short_of_memory(self, inps, **given):
        seen.append(len(inps))
        if len(inps) > 10:
            raise RuntimeError("out of memory")
        return plain(self, inps, **given)

    monkeypatch.setattr(huggingface.HFLM, "_model_call", short_of_memory)
    compare(named("tiny_choice"))
    assert max(seen) > 10
    assert max(size for size in seen if size <= 10) > 5


def test_a_folder_that_is_no_model_is_told(tmp_path):
    with pytest.raises(RunError, match=r"cannot be loaded by lm-eval \("):
        open_model(BuiltModel(tmp_path, EvaluationBlock(), "cpu", 1))


def test_sampled_tasks_are_named(make):
    sampled = make(
        named("tiny_choice"),
        named("tiny_text"),
        gen_kwargs={"do_sample": True, "temperature": 1.0},
    )
    assert [part.is_sampled for facts in sampled.facts() for part in facts.parts] == [False, True]
