"""The final tables compare with the best parent, and a sentence says whether searching pays."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from evomerge.genome.model_names import ModelName
from evomerge.nouns.comparison import FEW, LEAST_DIFFERING, Comparison
from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.nouns.objective import Score
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.nouns.score_text import gain_text, score_text, with_error
from evomerge.report.split_table import WINNER, Column, Contest, SplitTable, side_by_side
from evomerge.report.summary import summary
from evomerge.report.trial_table import final_tables
from evomerge.report.verdict import verdict, verdicts
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.recorded_run import load_run, recorded_run
from tests.recorded_runs import evaluation, record_run


def table(title, *gains, baseline="ties", columns=("mean",)):
    """A table whose contests ended with these gains; None: a baseline won."""
    found = tuple(Column(name) for name in columns)
    winner = "trial 7" if len(columns) > 1 else WINNER
    won = tuple(Contest(winner, baseline, gain) for gain in gains)
    return SplitTable(title, found, (), (None,) * len(columns), won)


@pytest.fixture
def run(tmp_path):
    return record_run(tmp_path / "run")


SURE = Comparison(0.04, 0.01, 300, 100)
UNSURE = Comparison(0.01, 0.01, 300, 100)
LOST = Comparison(-0.04, 0.01, 300, 100)


@pytest.mark.parametrize(
    ("gain", "answer", "sentence"),
    [
        (
            SURE,
            "pays",
            "Searching pays: +0.0400 ± 0.0100 over ties, the best baseline, on 300 holdout "
            "documents, more than 1.96 standard errors.",
        ),
        (
            UNSURE,
            "cannot be told",
            "Whether searching pays cannot be told: +0.0100 ± 0.0100 over ties, the best baseline, "
            "on 300 holdout documents, not more than 1.96 standard errors.",
        ),
        (
            LOST,
            "does not pay",
            "Searching does not pay: -0.0400 ± 0.0100 over ties, the best baseline, on 300 holdout "
            "documents, more than 1.96 standard errors.",
        ),
        (
            None,
            "does not pay",
            "Searching does not pay: ties is the best, and it was there before the search.",
        ),
        (
            Comparison(0.02, 0.0099, 200, 4),
            "cannot be told",
            "Whether searching pays cannot be told: +0.0200 ± 0.0099 over ties, the best baseline, "
            "on 200 holdout documents, of which 4 differ: too few to tell it from noise.",
        ),
        (
            Comparison(0.04, None, 0, 0, reason="no documents"),
            "cannot be told",
            "Whether searching pays cannot be told: +0.0400 over ties, the best baseline, on the "
            "holdout tasks, but no documents.",
        ),
    ],
)
def test_it_is_said_in_words_whether_searching_pays(gain, answer, sentence):
    assert [one.answer for one in verdicts([table("holdout", gain)])] == [answer]
    assert verdict([table("holdout", gain)]) == [
        sentence,
        "Scores on the search tasks are biased upward: they made the choice.",
    ]


def test_a_winner_that_one_baseline_may_equal_does_not_pay_over_another():
    table_of = table("search", SURE)
    (contest,) = table_of.contests
    found = replace(table_of, contests=(replace(contest, untold=("slerp 0.5", "average")),))
    assert [one.answer for one in verdicts([found])] == ["cannot be told"]
    assert verdict([found])[0] == (
        "Whether searching pays cannot be told: +0.0400 ± 0.0100 over ties, the best baseline, on "
        "300 search documents, more than 1.96 standard errors, but they cannot tell slerp 0.5 and "
        "1 more from it, which were there before, too."
    )
    lost = replace(contest, gain=LOST, untold=("slerp 0.5",))
    assert [one.answer for one in verdicts([replace(found, contests=(lost,))])] == ["does not pay"]


def test_few_documents_make_the_rule_rough():
    for n, is_rough in [(12, True), (FEW - 1, True), (FEW, False)]:
        (sentence, _) = verdict([table("holdout", Comparison(0.04, 0.01, n, 12))])
        assert sentence.endswith("With so few documents the rule is rough.") == is_rough


@pytest.mark.parametrize(
    ("n", "sentence"),
    [
        (1, "1 differs: too few"),
        (LEAST_DIFFERING - 1, f"{LEAST_DIFFERING - 1} differ: too few"),
        (LEAST_DIFFERING, "holdout documents, more than 1.96"),
    ],
)
def test_a_few_documents_that_differ_tell_nothing(n, sentence):
    assert sentence in verdict([table("holdout", Comparison(0.04, 0.01, 300, n))])[0]


def test_holdout_decides_then_validation_then_the_search_tasks():
    search, validation = table("search", SURE), table("validation", UNSURE)
    unscored = replace(table("holdout", SURE), contests=(None,))
    for tables, split, bias in [
        ([search], "search", "These tasks made the choice, so this is biased upward;"),
        ([search, validation], "validation", "These tasks had a say in the choice"),
        ([search, validation, unscored], "validation", "These tasks had a say"),
        ([search, validation, table("holdout", SURE)], "holdout", "Scores on the search tasks"),
    ]:
        sentence, last = verdict(tables)
        assert f"on 300 {split} documents" in sentence
        assert last.startswith(bias)


def test_nothing_is_said_before_there_is_a_winner():
    assert verdict([]) == []
    assert verdict([replace(table("search", SURE), contests=(None,))]) == []


def test_without_a_baseline_there_is_nothing_to_beat():
    (sentence, _) = verdict([table("holdout", None, baseline=None)])
    assert sentence == (
        "Whether searching pays cannot be told: no baseline has a score on the holdout tasks."
    )


def test_several_objectives_get_a_sentence_each():
    math, text, _ = verdict([table("holdout", SURE, LOST, columns=("math", "text"))])
    assert math.startswith("Searching pays on math (trial 7): +0.0400")
    assert text.startswith("Searching does not pay on text (trial 7): -0.0400")


def test_a_baseline_that_did_better_on_holdout_is_heard(run):
    (contest,) = table("holdout", UNSURE).contests
    beaten = replace(table("holdout", SURE), contests=(replace(contest, gain=SURE, better=("a",)),))
    (found,) = verdicts([beaten])
    assert found.answer == "cannot be told"
    assert found.sentence.endswith("more than 1.96 standard errors. a did better there.")


def test_baselines_of_one_score_have_won_together(run):
    search = final_tables(run)[0].contests[0].baseline
    best = next(t for t in run.leaderboard.trials if str(t.candidate.origin).endswith(search))
    for trial in run.leaderboard.trials:
        own = trial.candidate
        outcome = best.outcome if own.is_baseline else Outcome(TrialState.FAILED, failure="no")
        run.ledger.trials[own.trial_id] = replace(trial, outcome=outcome)
    run.ledger.finals.clear()
    (found,) = verdicts(final_tables(recorded_run(run.ledger, run.genome)))
    assert found.answer == "does not pay"
    assert found.sentence == (
        "Searching does not pay: sort and 3 more have the same score, and were there before the "
        "search."
    )


def test_the_best_baseline_is_chosen_where_the_winner_was(run):
    search, validation, holdout = final_tables(run)
    for chosen_on, compared_on in [(search, search), (validation, validation)]:
        (contest, *_) = compared_on.contests
        rows = {row.name: row for row in chosen_on.rows if not row.is_winner}
        assert contest.baseline == max(rows, key=lambda name: rows[name].scores[0].value)
    assert holdout.contests[0].baseline == validation.contests[0].baseline


def test_holdout_has_no_say_in_which_baseline_is_the_best(run):
    finals = run.ledger.finals
    best = final_tables(run)[2].contests[0]
    other = next(
        t for t in run.leaderboard.trials if str(t.candidate.origin) == "base experts/base"
    )
    better = Outcome(TrialState.COMPLETE, evaluation(0.95, None, "holdout"))
    del finals[("holdout", other.candidate.trial_id)]
    run.ledger.record_final(other.candidate.trial_id, "holdout", better)
    again = final_tables(recorded_run(run.ledger, run.genome))[2]
    assert again.parents == ("base",)
    assert best.better == ()
    assert again.contests[0] == replace(best, better=("base",))


def test_the_gain_is_taken_document_by_document_and_can_be_negative(run):
    table = final_tables(run)[2]
    (contest,) = table.contests
    rows = {row.name: row.scores[0].value for row in table.rows}
    winner = table.rows[0]
    difference = winner.scores[0].value - rows[contest.baseline]
    assert contest.gain.difference == pytest.approx(difference)
    assert contest.gain.n == winner.scores[0].n
    assert contest.gain.stderr < winner.scores[0].stderr


def test_a_baseline_that_wins_is_named(tmp_path):
    run = record_run(tmp_path / "run", n_trials=1, has_finals=False)
    assert run.winners[0].candidate.is_baseline
    (one,) = verdicts(final_tables(run))
    assert (one.answer, one.gain) == ("does not pay", None)
    assert run.winners[0].candidate.origin.name.endswith(one.baseline)


def test_what_an_earlier_stage_found_was_not_there_before_the_search(tmp_path):
    run = record_run(tmp_path / "run", n_trials=1, has_finals=False)
    winner, stage = run.winners[0].candidate, ModelName(path="sums", is_stage=True)
    found = replace(winner, origin=Origin(OriginKind.MODEL, stage.text))
    run.ledger.trials[winner.trial_id] = replace(run.winners[0], candidate=found)
    definition = run.genome.genome
    sources = [definition.models[0].model_copy(update={"model": stage}), *definition.models[1:]]
    definition = definition.model_copy(update={"models": sources})
    staged = recorded_run(run.ledger, run.genome.model_copy(update={"genome": definition}))
    (one,) = verdicts(final_tables(staged))
    assert staged.winners[0].candidate is found
    assert one.baseline == "sort"
    assert one.gain is not None
    assert "it was there before the search" not in one.sentence


def test_the_best_baseline_alone_does_not_make_a_search_pay(run):
    (contest, *_) = final_tables(run)[0].contests
    told = verdicts(final_tables(run)[:1])[0]
    assert (told.answer == "pays") == (contest.gain.is_distinguishable and not contest.untold)


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
        candidate = replace(trials[trial_id].candidate, origin=origin_in(origin))
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


@pytest.mark.slow
def test_with_several_objectives_each_task_is_one(tmp_path):
    run = record_run(tmp_path / "run", objective="per_task", optimizer="nsga2")
    search, _, holdout = final_tables(run)
    assert [column.is_objective for column in search.columns] == [False, True, True]
    assert [column.is_objective for column in holdout.columns] == [True]
    assert search.contests[0] is None
    points = {f"trial {trial.candidate.trial_id}" for trial in run.winners}
    assert {contest.winner for contest in (*search.contests[1:], *holdout.contests)} <= points
    assert len(verdict(final_tables(run))) == 2
    only_searched = verdict(final_tables(run)[:1])
    assert [" on sort (trial " in only_searched[0], " on twice (trial " in only_searched[1]]


@pytest.mark.slow
def test_programs_read_the_sentence_too(run):
    content = json.loads(json.dumps(summary(run)))
    assert content["verdict"] == verdict(final_tables(run))
    found = [asdict(one) for one in verdicts(final_tables(run))]
    assert content["searching"] == json.loads(json.dumps(found))
    assert content["searching"][0]["split"] == "holdout"
    gain = content["tables"][2]["rows"][0]["gains"][0]
    assert set(gain) == {"difference", "stderr", "n", "n_differing", "reason"}
