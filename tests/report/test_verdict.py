"""The final tables compare with the best parent, and a sentence says what that is worth."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evomerge.comparison import Comparison
from evomerge.objective import Score
from evomerge.report.run import load_run, recorded_run
from evomerge.report.summary import summary
from evomerge.report.table import Column, Row, SplitTable, final_tables, side_by_side
from evomerge.report.text import gain_text, score_text, with_error
from evomerge.report.verdict import verdict
from tests.recorded_runs import record_run


def table(title, *gains, parent="math-7b", is_winner=True, columns=1):
    """A table of winners with one objective, or with one gain each for several."""
    names = ("math", "text")[:columns]
    rows = [
        Row(
            f"trial {i}" if columns > 1 else f"winner (trial {i})",
            i,
            is_winner,
            tuple(Score(0.5, 0.01, 300) for _ in names),
            gain if isinstance(gain, tuple) else (gain,),
        )
        for i, gain in enumerate(gains)
    ]
    found = tuple(Column(name) for name in names)
    return SplitTable(title, found, tuple(rows), (parent,) * columns)


def unscored(title):
    found = table(title, None)
    return replace(found, rows=(replace(found.rows[0], scores=(None,)),))


@pytest.fixture
def run(tmp_path):
    return record_run(tmp_path / "run")


SURE = Comparison(0.04, 0.01, 300, 100)
UNSURE = Comparison(0.01, 0.01, 300, 100)


def test_a_gain_beyond_noise_is_said_to_be_one():
    assert verdict([table("holdout", SURE)]) == [
        "On the holdout tasks the winner is 0.0400 ± 0.0100 better than math-7b, the best parent "
        "(n=300): more than 1.96 standard errors, so it can be told from noise.",
        "Scores on the search tasks are biased upward: they made the choice.",
    ]


def test_a_gain_within_noise_is_said_to_be_none():
    (sentence, _) = verdict([table("holdout", UNSURE)])
    assert sentence.endswith("not more than 1.96 standard errors, so it cannot be told from noise.")


def test_a_loss_is_called_one():
    (sentence, _) = verdict([table("holdout", Comparison(-0.04, 0.01, 300, 100))])
    assert "the winner is 0.0400 ± 0.0100 worse than math-7b" in sentence


def test_few_documents_make_the_rule_rough():
    (sentence, _) = verdict([table("holdout", Comparison(0.04, 0.01, 12, 12))])
    assert sentence.endswith("With so few documents the rule is rough.")


def test_holdout_decides_then_validation_then_the_search_tasks():
    search, validation = table("search", SURE), table("validation", UNSURE)
    for tables, split, bias in [
        ([search], "search", "These tasks made the choice, so this is biased upward;"),
        ([search, validation], "validation", "These tasks had a say in the choice"),
        ([search, validation, unscored("holdout")], "validation", "These tasks had a say"),
        ([search, validation, table("holdout", SURE)], "holdout", "Scores on the search tasks"),
    ]:
        sentence, last = verdict(tables)
        assert sentence.startswith(f"On the {split} tasks")
        assert last.startswith(bias)


def test_nothing_is_said_before_there_is_a_winner():
    assert verdict([]) == []
    assert verdict([unscored("search")]) == []


def test_a_parent_that_wins_is_named():
    (sentence, _) = verdict([table("holdout", None)])
    assert sentence == (
        "On the holdout tasks the winner is math-7b, the best parent: no merge was found to be "
        "better."
    )


def test_without_a_parent_there_is_nothing_to_beat():
    (sentence, _) = verdict([table("holdout", None, parent=None)])
    assert sentence == "On the holdout tasks no parent has a score to compare with."


def test_without_an_error_the_reason_is_given():
    (sentence, _) = verdict([table("holdout", Comparison(0.04, None, 0, 0, reason="no documents"))])
    assert sentence.endswith("whether that is noise cannot be told: no documents.")


def test_several_objectives_get_a_sentence_each():
    front = [(SURE, UNSURE), (Comparison(-0.1, 0.01, 300, 100), SURE), (SURE, None)]
    math, text, _ = verdict([table("holdout", *front, columns=2)])
    assert math.startswith(
        "On the holdout tasks, math, of 3 points of the front 2 score higher and 1 lower than "
        "math-7b, the best parent, by more than 1.96 standard errors"
    )
    assert "text, of 3 points of the front 1 score higher and 0 lower" in text


def test_numbers_are_read_with_their_error_and_their_documents():
    assert score_text(Score(0.848, 0.012, 300)) == "0.8480 ± 0.0120 (n=300)"
    assert score_text(Score(0.848, None, 300)) == "0.8480 ± ? (n=300)"
    assert with_error(Score(-1.5e11, 2.0e9, 3)) == "-1.5e+11 ± 2e+09"
    assert gain_text(Comparison(0.04, 0.01, 300, 100)) == "+0.0400 ± 0.0100"
    assert gain_text(Comparison(-0.04, None, 0, 0)) == "-0.0400 ± ?"


def test_every_row_is_measured_from_the_best_parent_of_its_split(run):
    search, validation, _ = final_tables(run)
    assert search.parents == ("twice", "sort", "twice")
    assert validation.parents == ("sort",)
    for split in (search, validation):
        best = {row.name: row.scores[0] for row in split.rows}[split.parents[0]]
        for row in split.rows:
            if row.name == split.parents[0]:
                assert row.gains[0] is None
            else:
                difference = row.scores[0].value - best.value
                assert row.gains[0].difference == pytest.approx(difference)
                assert row.gains[0].stderr > 0
                assert row.gains[0].n == row.scores[0].n


def test_paired_errors_are_smaller_than_those_of_the_scores(run):
    validation = final_tables(run)[1]
    winner = validation.rows[0]
    assert winner.gains[0].stderr < winner.scores[0].stderr


def test_what_is_read_twice_is_the_same(run):
    again = load_run(run.ledger.folder.path)
    assert final_tables(again) == final_tables(run)


def test_the_base_counts_as_a_parent(run):
    trials = run.ledger.trials
    for trial_id, origin in [(0, "base experts/sort"), (2, "model experts/base")]:
        candidate = replace(trials[trial_id].candidate, origin=origin)
        trials[trial_id] = replace(trials[trial_id], candidate=candidate)
    again = recorded_run(run.ledger, run.genome)
    assert final_tables(again)[2].parents == ("base",)


def test_normalized_is_scaled_by_what_the_baselines_score_on_each_split(tmp_path):
    run = record_run(tmp_path / "run", objective="normalized")
    for split in final_tables(run):
        scores = {row.name: row.scores[0].value for row in split.rows}
        assert scores["base"] == pytest.approx(0.0)
        assert split.columns[0].name == "normalized"
    assert side_by_side(final_tables(run)).rows[0].gains[2].stderr > 0


def test_with_several_objectives_each_task_is_one(tmp_path):
    run = record_run(tmp_path / "run", objective="per_task", optimizer="nsga2")
    search, _, holdout = final_tables(run)
    assert [column.is_objective for column in search.columns] == [False, True, True]
    assert [column.is_objective for column in holdout.columns] == [True]
    (sentence, _) = verdict(final_tables(run))
    assert sentence.startswith("On the holdout tasks, of 5 points of the front")


def test_programs_read_the_sentence_too(run):
    content = json.loads(json.dumps(summary(run)))
    assert content["verdict"] == verdict(final_tables(run))
    gain = content["tables"][2]["rows"][0]["gains"][0]
    assert set(gain) == {"difference", "stderr", "n", "n_differing", "reason"}


def test_a_gain_made_of_a_few_documents_cannot_be_told_from_noise():
    (sentence, _) = verdict([table("holdout", Comparison(0.02, 0.0099, 200, 4))])
    assert sentence.endswith("(n=200): only 4 documents differ, too few to tell it from noise.")
