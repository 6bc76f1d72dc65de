"""Replies of lm-eval's tasks that count only in the wanted language."""

from __future__ import annotations

import pytest

from evomerge.compiler.task_kinds import task_problems
from evomerge.evaluators.asking import language_gate
from evomerge.evaluators.built_model import BuiltModel
from evomerge.foundations.errors import GenomeError
from evomerge.genome.source import parse_yaml
from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.inference.base import Written

ENGLISH, JAPANESE = "there are so many of them that nobody counts", "りんごは全部で 18 個あります"
TEXT = {"name": "tiny_text", "metric": "exact_match,first-letter", "language": "ja"}


@pytest.fixture
def odd_texts_are_foreign(monkeypatch):
    """A tiny model's texts are in no language."""
    tell = lambda text, wanted: "en" if len(text) % 2 else None  # noqa: E731
    monkeypatch.setattr(language_gate, "other_language", tell)


def test_a_reply_in_another_language_is_scored_as_none_at_all(make, live_model):
    evaluator = make({**TEXT, "limit": 4})
    (leaf,) = evaluator.loaded()[0].leaves
    evaluator.evaluate(live_model)  # its requests are built
    targets = [leaf.task.doc_to_target(one) for one in leaf.task.eval_docs][:4]
    replies = [f"{targets[0]} {JAPANESE}", f"{targets[1]} {ENGLISH}", f"{targets[2]}", "0"]
    (hearing,) = evaluator.hearings(
        live_model, evaluator.language_model_for(live_model).engine, [0]
    )
    hearing.responses = {leaf.task: [Written(one, (1,)) for one in replies]}
    found = evaluator.evaluation([hearing])
    share = next(one for one in found.metrics if one.key.metric == "in_language")
    assert (share.value, share.n, share.higher_is_better) == (0.75, 4, True)
    assert [one.values["exact_match,first-letter"] for one in found.documents] == [1, 0, 1, 0]
    assert [one.values["exact_match,whole"] for one in found.documents] == [0, 0, 1, 0]
    assert [one.values["in_language,none"] for one in found.documents] == [1, 0, 1, 1]
    assert found.documents[1].answer == f"{replies[1]} (in en, expected ja)"
    assert not any("expected ja" in found.documents[place].answer for place in (0, 2, 3))


def test_lm_eval_itself_scores_a_folder_with_the_same_gate(
    make, live_model, model_folder, odd_texts_are_foreign
):
    evaluator = make(TEXT)
    ours = evaluator.evaluate(live_model)
    built = BuiltModel(model_folder, EvaluationBlock(), "cpu", 1)
    documents, metrics = evaluator.score_folder(built, lambda share: None)
    assert {one.doc_id: one.values for one in documents} == {
        one.doc_id: one.values for one in ours.documents
    }
    assert [one.answer for one in documents] == [one.answer for one in ours.documents]
    foreign = [one.answer for one in documents if not one.values["in_language,none"]]
    assert foreign
    assert all(len(one) > len(" (in en, expected ja)") for one in foreign)
    assert all(one.endswith(" (in en, expected ja)") for one in foreign)
    assert 0 < metrics["tiny_text/in_language,none"] < 1
    for metric in ours.metrics:
        assert metrics[str(metric.key)] == pytest.approx(metric.value)


def test_the_language_is_part_of_what_scores_stand_on(make):
    plain = make({**TEXT, "language": None})
    gated, both = make(TEXT), make({**TEXT, "language": ["ja", "en"]})
    digests = {one.identity()["tiny_text"] for one in (plain, gated, both)}
    assert len(digests) == 3


def test_tasks_that_compare_likelihoods_and_unknown_codes_are_refused(make):
    with pytest.raises(GenomeError) as raised:
        make({"name": "tiny_choice", "language": "ja"}, {**TEXT, "language": "jp"}).prepare()
    first, second = raised.value.problems
    assert (first.where, second.where) == ("tasks[0].language", "tasks[1].language")
    assert "'tiny_choice' has no reply written" in first.what
    assert "got 'jp', expected a code" in second.what


def test_other_kinds_have_it_under_their_own_key():
    text = "tasks:\n  - {exact: q.json, language: ja}\n  - {perplexity: a.txt, language: ja}\n"
    first, second = task_problems(parse_yaml(text, "g.yml"))
    assert (first.fix, second.fix) == ("Write it under exact.", "Leave it out.")
