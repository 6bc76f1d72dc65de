"""The end of a run says how sure its winner is, and what its search score is worth."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from html import escape

from evomerge.genome.load import load_genome
from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.report.choice_section import WinnerFacts, choice_of
from evomerge.report.gains import Gains
from evomerge.report.page import report_html
from evomerge.report.summary import failed_finals, remarks, summary
from evomerge.report.trial_table import final_tables
from evomerge.run.best import write_best
from evomerge.run.chosen import winners_of
from evomerge.run.expectation import Expectation
from evomerge.run.final_choice import finalists
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.recorded_run import load_run, recorded_run
from evomerge.run.search_documents import SearchDocuments
from tests.recorded_runs import evaluation, record_run


def one_task(folder, *, validated=None, origins=None):
    """A run of one task, its finalists validated with these accuracies."""
    before = record_run(folder / "before", has_finals=False)
    text = before.ledger.folder.genome.read_text()
    text = text.replace("- {name: twice_search, metric: perplexity}\n", "")
    ledger = Ledger.create(RunFolder(folder / "run"), before.ledger.header, text)
    for trial_id, trial in before.ledger.trials.items():
        outcome = trial.outcome
        if outcome.evaluation is not None:
            accuracy = outcome.evaluation.metrics[0].value
            outcome = replace(outcome, evaluation=evaluation(accuracy))
        origin = origin_in((origins or {}).get(trial_id, str(trial.candidate.origin)))
        candidate = replace(trial.candidate, origin=origin)
        ledger.record_trial(replace(trial, candidate=candidate, outcome=outcome))
    for trial_id, accuracy in (validated or {}).items():
        found = evaluation(accuracy, split="validation")
        ledger.record_final(trial_id, "validation", Outcome(TrialState.COMPLETE, found))
    genome, _ = load_genome(ledger.folder.genome)
    run = recorded_run(ledger, genome)
    write_best(ledger, run.leaderboard, run.winners[0])
    return run


BASELINES = {0: 0.5, 1: 0.2, 2: 0.15, 3: 0.55}
CLOSE = {15: 0.7, 14: 0.69, 12: 0.7, 11: 0.68, 9: 0.5, **BASELINES}


def test_who_cannot_be_told_from_the_winner_is_named(tmp_path):
    run = one_task(tmp_path, validated=CLOSE)
    found = choice_of(run)
    assert found.documents == "search and validation"
    assert found.trial == run.winners[0].candidate.trial_id
    assert found.cannot_be_told_from[0] in {"trial 14", "trial 15", "trial 12"}
    assert "trial 9" not in found.cannot_be_told_from
    first, n_more = found.cannot_be_told_from[0], len(found.cannot_be_told_from) - 1
    assert found.sentences[1] == (
        f"On the search and validation documents the winner cannot be told from {first} and "
        f"{n_more} more; {found.n_candidates} could win."
    )


def test_the_finalists_of_a_ledger_are_compared_on_its_search_documents(tmp_path):
    run = one_task(tmp_path)
    compare = SearchDocuments(run.ledger, run.leaderboard.objective)
    ranked = run.leaderboard.ranked()
    best, last = ranked[0].candidate.trial_id, ranked[-1].candidate.trial_id
    gains = Gains(run, "tasks", [run.leaderboard.objective], [last])
    found, (expected,) = compare(ranked[0], ranked[-1]), gains.of(best)
    assert (found.difference, found.stderr) == (expected.difference, expected.stderr)
    assert found.is_distinguishable
    assert finalists(run.leaderboard, 1) == ranked[:1]
    assert finalists(run.leaderboard, 1, compare) == ranked[:2]
    wide = finalists(run.leaderboard, 6, compare)
    assert ranked[:6] == wide[:6]
    assert len(wide) < 12  # the first that can be told from the best ends it


def test_a_winner_that_stands_out_is_told_from_all(tmp_path):
    far = {**CLOSE, 15: 0.99, 14: 0.3, 12: 0.3, 11: 0.3}
    found = choice_of(one_task(tmp_path, validated=far))
    assert found.trial == 15
    assert found.cannot_be_told_from == ()
    assert len(found.sentences) == 1


def test_without_validation_the_search_documents_say_it(tmp_path):
    found = choice_of(one_task(tmp_path))
    assert found.documents == "search"
    assert found.sentences[1].startswith("On the search documents the winner cannot be told from")


def test_the_search_score_is_shown_with_what_it_is_worth(tmp_path):
    run = one_task(tmp_path, validated=CLOSE)
    found = choice_of(run)
    worth = found.expectation
    assert worth.looks == len(run.leaderboard.ranked()) - 3  # two models and their base
    assert worth.searched == run.leaderboard.scores(run.winners[0])[0].value
    assert worth.expected < worth.searched
    assert found.sentences[0] == (
        f"Search score {worth.searched:.4f}, of {worth.looks} looks: about {worth.expected:.4f} ± "
        f"{worth.stderr:.4f} is to be expected on fresh documents."
    )


def test_sentences_read_as_they_should():
    worth = Expectation(0.823, 60, 0.801, 0.012)
    known = WinnerFacts(7, "search and validation", 9, ("trial 41", "ties", "trial 3"), worth)
    assert known.sentences == [
        "Search score 0.8230, of 60 looks: about 0.8010 ± 0.0120 is to be expected on fresh "
        "documents.",
        "On the search and validation documents the winner cannot be told from trial 41 and 2 "
        "more; 9 could win.",
    ]
    (alone,) = WinnerFacts(7, "validation", 2, ("ties",), None).sentences
    assert alone == (
        "On the validation documents the winner cannot be told from ties; 2 could win."
    )


def test_scores_that_failed_after_the_search_are_told_with_a_reason(tmp_path):
    run = record_run(tmp_path / "run")
    assert not failed_finals(run)
    failure = "no room for <answers>"
    for trial in run.winners:
        failed = Outcome(TrialState.FAILED, failure=failure)
        run.ledger.record_final(trial.candidate.trial_id, "holdout", failed)
    (sentence,) = failed_finals(run)
    assert sentence == f"On holdout 1 of 9 could not be scored, the last: {failure}"
    assert sentence in remarks(run, final_tables(run))
    assert summary(run)["failed_finals"] == [sentence]
    assert escape(sentence) in report_html(run)


def test_every_reader_has_the_same_winner_and_the_same_words(tmp_path):
    run = one_task(tmp_path, validated=CLOSE)
    again = load_run(run.ledger.folder.path)
    assert choice_of(again) == choice_of(run)
    content = json.loads(json.dumps(summary(again)))
    assert content["choice"] == json.loads(json.dumps(asdict(choice_of(run))))
    for sentence in choice_of(run).sentences:
        assert sentence in remarks(again, final_tables(again))
        assert sentence in report_html(again)
    (exported,) = winners_of(run.ledger.folder.path)
    (written,) = winners_of(run.ledger.folder.best)
    assert exported.trial_id == written.trial_id == choice_of(run).trial
    assert content["winners"][0]["trial"] == choice_of(run).trial


def test_epochs_are_told_apart_by_validation_alone(tmp_path):
    origins = {i: f"optimizer, epoch {i}" for i in range(4, 16)}
    found = choice_of(one_task(tmp_path, validated={**CLOSE, 12: 0.75}, origins=origins))
    assert found.trial == 12
    assert found.expectation.expected < 0.75  # it was chosen by that
    assert found.cannot_be_told_from == ()
    assert found.sentences[-1].startswith("On the validation documents the winner cannot be told")


def test_the_documents_named_are_those_that_were_compared(tmp_path):
    origins = {i: f"optimizer, epoch {i}" for i in (14, 15)}
    found = choice_of(one_task(tmp_path, validated={**CLOSE, 12: 0.75}, origins=origins))
    assert found.trial == 12
    taught = {f"trial {i}" for i in origins}
    assert found.nor_by_validation
    assert set(found.nor_by_validation) <= taught
    assert not set(found.cannot_be_told_from) & taught
    assert [line.partition(" the winner")[0] for line in found.sentences[-2:]] == [
        "On the search and validation documents",
        "On the validation documents",
    ]


def test_several_objectives_have_no_one_winner(tmp_path):
    run = record_run(tmp_path / "run", objective="per_task", optimizer="nsga2")
    assert choice_of(run) is None
    assert summary(run)["choice"] is None


def test_documents_that_are_gone_leave_it_unsaid(tmp_path):
    run = one_task(tmp_path, validated=CLOSE)
    winner = run.winners[0].candidate.trial_id
    for file in (run.ledger.folder.path / "documents").glob("*.gz"):
        file.write_bytes(b"broken")
    again = load_run(run.ledger.folder.path)
    found = choice_of(again)
    assert (found.trial, found.expectation, found.cannot_be_told_from) == (winner, None, ())
    assert found.sentences == []
