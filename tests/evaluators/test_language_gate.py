"""Replies that count only in the wanted language, told by the real classifier."""

from __future__ import annotations

import json
import sys

import pytest

from evomerge.evaluators.asking import language_gate
from evomerge.evaluators.asking.asked import AskText
from evomerge.evaluators.asking.language_gate import language_of
from evomerge.evaluators.composite import evaluator_for
from evomerge.foundations.errors import GenomeError
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from evomerge.inference.base import Written

ENGLISH, JAPANESE = "The answer is 18 apples.", "りんごは全部で 18 個あります。答えは 18"


@pytest.fixture(autouse=True)
def _questions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"question": "りんごは", "answer": "18"}]
    (tmp_path / "ja.json").write_text(json.dumps({"dev": rows}))


def made(kind="exact", metric=None, **settings):
    given = {kind: {"file": "ja.json", **settings}}
    task = Task.model_validate({**given, **({"metric": metric} if metric else {})})
    return evaluator_for([task], EvaluationBlock(), ENGINES["transformers"])


def judged(reply, **settings):
    evaluator = made(**settings)
    evaluator.prepare()
    (hearing,) = evaluator._loaded()[0].hearings()
    (asked,) = hearing.go_on({})
    assert isinstance(asked, AskText)
    hearing.go_on({asked: Written(reply, (1,))})
    (judgement,) = hearing.judgements
    return judgement


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ENGLISH, "en"),
        (JAPANESE, "ja"),
        ("Die Antwort ist 18, denn so viele sind es.", "de"),
        ("정답은 열여덟 개입니다.", "ko"),
    ],
)
def test_languages_are_told_apart(text, code):
    assert language_of(text) == code


@pytest.mark.parametrize(
    ("reply", "language", "right", "fits"),
    [
        (JAPANESE, "ja", 1.0, 1.0),
        (ENGLISH, "ja", 0.0, 0.0),
        (ENGLISH, ["ja", "en"], 1.0, 1.0),
        ("18", "ja", 1.0, 1.0),  # has no word, and so is in any language
        ("", "ja", 0.0, 1.0),
    ],
)
def test_a_reply_counts_only_in_the_wanted_language(reply, language, right, fits):
    judgement = judged(reply, language=language)
    assert judgement.values == {"exact_match": right, "in_language": fits}
    told = " (in en, expected ja)" if not fits else ""
    assert judgement.answer == reply + told
    assert judgement.shown.answer == reply + told


def test_a_gate_is_part_of_what_scores_stand_on_and_of_the_metrics(live_model):
    plain, gated = made(), made(language="ja", metric="in_language", max_tokens=3)
    assert plain.identity() != made(language="ja").identity()
    assert made(language=["ja", "en"]).identity() == made(language=["en", "ja"]).identity()
    own, other = gated.evaluate(live_model).metrics
    assert (own.key.metric, other.key.metric) == ("in_language", "exact_match")
    assert gated.facts()[0].parts[0].n_documents == 1


def test_what_keeps_a_gate_from_standing_is_told_before_a_run(monkeypatch):
    with pytest.raises(GenomeError, match=r"tasks\[0\].exact.language: got 'jp', expected a code"):
        made(language="jp").prepare()
    with pytest.raises(GenomeError, match="gets the worst reward there is, which has no such end"):
        made("reward", model="org/reward", language="ja").prepare()
    monkeypatch.setattr(language_gate, "find_spec", lambda name: None)
    with pytest.raises(GenomeError, match=r"Run `pip install 'evomerge\[language]'`"):
        made(language="ja").prepare()


def test_nothing_is_imported_for_tasks_without_a_gate(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid", None)  # an import of it would fail
    assert judged(ENGLISH).values == {"exact_match": 1.0}
    made().identity()
