"""Replies that count only in the wanted language, told by the real classifier."""

from __future__ import annotations

import json
import sys

import pytest

from evomerge.evaluators.asking import language_gate
from evomerge.evaluators.asking.asked import AskText
from evomerge.evaluators.asking.language_gate import other_language
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


SENTENCES = {
    "en": "There are so many of them that the answer is 18 apples.",
    "ja": JAPANESE,
    "de": "Die Antwort ist 18, denn so viele sind es.",
    "ko": "정답은 열여덟 개입니다.",
    "zh": "这个问题的答案是十八个苹果",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_sentences_are_in_one_language(code):
    for wanted in SENTENCES:
        expected = None if wanted == code else code
        assert other_language(SENTENCES[code], [wanted]) == expected, wanted
    assert other_language(SENTENCES[code], SENTENCES) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Paris", "en"),
        ("Tokyo", "ja"),
        ("yes", "en"),
        ("Answer: 18", "en"),
        ("B) Rome", "en"),
        ("Buenos Aires", "en"),
        ("18 km", "en"),
        ("3 x 5 = 15 eggs. 15 - 3 = 12 eggs.", "en"),
        ("東京", "ja"),
        ("東京都千代田区永田町一丁目七番一号", "ja"),
        ("答: 十八個", "ja"),
        ("北京", "zh"),
        ("18ドル", "ja"),
        (r"$\text{the sum of all the numbers is } \frac{1}{2}$", "ja"),
        (r"\boxed{the answer is eighteen} です", "ja"),
        ("```\nfor word in the_words: print(word)\n```", "ja"),
    ],
)
def test_what_is_too_short_to_tell_counts_as_any_language(text, wanted):
    assert other_language(text, [wanted]) is None


def test_prices_are_no_formulas_and_long_ideographs_no_names():
    text = "$10 for each of the hours that she works, so she earns $50"
    assert other_language(text, ["ja"]) == "en"
    assert (
        other_language("臺灣的首都是台北市、人口眾多、交通便利、是全國的政治經濟文化中心", ["ja"])
        == "zh"
    )


def test_of_an_answer_and_the_check_of_it_the_answer_alone_has_to_be_in_the_language():
    choices = {"A": "りんご", "B": "みかん"}
    row = {"question": "果物は", "choices": choices, "answer": "B"}
    with open("ja.json", "w") as file:
        json.dump({"dev": [row]}, file)
    doubt = "True, I do believe that this answer is right."
    for reply, worth, fits in (("B: みかん", 1.0, 1.0), ("B, as an orange is a fruit", -1.0, 0.0)):
        evaluator = made("abstain", language="ja")
        evaluator.prepare()
        (hearing,) = evaluator._loaded()[0].hearings()
        (first,) = hearing.go_on({})
        (check,) = hearing.go_on({first: Written(reply, (1,))})
        assert hearing.go_on({check: Written(doubt, (1,))}) == ()
        values = hearing.judgements[0].values
        assert (values["effective_reliability"], values["in_language"]) == (worth, fits)


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
