"""What a swarm did is read from its run folder alone: utilities, the two ends, the votes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from evomerge.cli.main import main
from evomerge.foundations.errors import LedgerError
from evomerge.genome.load import load_genome
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey, Outcome, TrialState
from evomerge.nouns.space import Real, Space, to_data
from evomerge.nouns.trial import Candidate, Trial
from evomerge.optimizers.swarm.particles import START
from evomerge.optimizers.swarm.swarm_section import swarm_section
from evomerge.optimizers.swarm.swarm_tracks import SwarmHistory, swarm_of
from evomerge.optimizers.swarm.swarm_vote import vote
from evomerge.recipe.plain import Recipe
from evomerge.report.page import report_html
from evomerge.run.ledger.artifact_store import ArtifactStore
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.recorded_run import RecordedRun, load_run, recorded_run
from tests.recorded_runs import record_run

GENOME = """\
genome: {models: [experts/sort, experts/twice], merge_method: linear, granularity: model}
tasks: [quiz]
holdout: [exam]
optimizer: OPTIMIZER
"""
SPACE = Space((Real("weight", 0.0, 1.0),))
HEADER = {
    "evomerge": "0.1.0",
    "genome": "genomes/quiz.yml",
    "genome_digest": "0",
    "seed": 0,
    "merge_seed": 0,
    "threads": 1,
    "device": "cpu",
    "models": {},
    "tasks": {},
    "versions": {},
    "optimizer": "swarm",
    "objective": "weighted_sum",
    "space": to_data(SPACE),
}
GOLD = "aabb"  # the right answer of each of four documents

# Origin, coordinate, and what it answers; None where it failed.
TRIALS: list[tuple[str, float, str | None]] = [
    ("model experts/sort", 1.0, "aaaa"),  # 0.5
    ("model experts/twice", 0.0, "bbbb"),  # 0.5
    ("uniform average", 0.5, "cccc"),  # 0.0
    ("optimizer, particle 2, iteration 0", 0.7, "aabc"),  # 0.75
    ("optimizer, particle 0, iteration 1", 0.9, "aabb"),  # 1.0
    ("optimizer, particle 2, iteration 1", 0.8, None),
    # iteration 2 was dropped as a whole, particle 0 in iteration 3
    ("optimizer, particle 1, iteration 3", 0.1, "bbbc"),  # 0.25
    ("optimizer, particle 2, iteration 3", 0.6, "accc"),  # 0.25
]
STARTS = {"0": [1.0], "1": [0.0]}


def evaluation(answers: str, task: str = "quiz") -> Evaluation:
    credits = [float(answer == gold) for answer, gold in zip(answers, GOLD, strict=True)]
    metric = Metric(MetricKey(task, "acc"), float(np.mean(credits)), None, len(GOLD), True)
    documents = (
        Document(task, doc_id, {"acc,none": credit}, answers[doc_id])
        for doc_id, credit in enumerate(credits)
    )
    return Evaluation((metric,), tuple(documents))


def outcome(answers: str | None, task: str = "quiz") -> Outcome:
    if answers is None:
        return Outcome(TrialState.FAILED, failure="merge: none")
    return Outcome(TrialState.COMPLETE, evaluation(answers, task))


def record_swarm(
    folder: Path,
    *,
    chain: bool = False,
    finals: tuple[int, ...] = (),
    trials: Sequence[tuple[str, float, str | None]] = TRIALS,
) -> RecordedRun:
    optimizer = "{chain: [swarm, swarm]}" if chain else "{name: swarm, budget: 8}"
    ledger = Ledger.create(RunFolder(folder), HEADER, GENOME.replace("OPTIMIZER", optimizer))
    for trial_id, (origin, place, answers) in enumerate(trials):
        recipe = Recipe({"merge_method": "linear", "models": [{"model": f"m{trial_id}"}]})
        genotype = np.array([place])
        whose = replace(origin_in(origin), link=int(chain))
        candidate = Candidate(trial_id, whose, recipe, genotype, SPACE.decode(genotype))
        ledger.record_trial(Trial(candidate, outcome(answers)))
    for trial_id in finals:
        answers = TRIALS[trial_id][2]
        ledger.record_final(trial_id, "holdout", outcome(answers, "exam"))
    name = f"1-swarm/{START}" if chain else START
    ArtifactStore(ledger.folder).keep(name, json.dumps(STARTS).encode())
    genome, _ = load_genome(ledger.folder.genome)
    return recorded_run(ledger, genome)


def history_of(run: RecordedRun) -> SwarmHistory:
    history = swarm_of(run)
    assert history is not None
    return history


@pytest.mark.parametrize("chain", [False, True])
def test_each_particle_has_a_utility_per_iteration_or_none(tmp_path: Path, chain: bool) -> None:
    history = history_of(record_swarm(tmp_path / "run", chain=chain))
    assert history.utilities == (
        (0.5, 1.0, None, None),
        (0.5, None, None, 0.25),
        (0.75, None, None, 0.25),
    )
    assert history.best_so_far == (0.75, 1.0, 1.0, 1.0)


def test_the_scratchpad_has_the_keys_of_the_authors_code(tmp_path: Path) -> None:
    assert history_of(record_swarm(tmp_path / "run")).scratchpad() == {
        "g": 1.0,
        "g_worst": 0.0,
        "g_history": [0.75, 1.0, 1.0, 1.0],
        "particle_0_now": None,
        "particle_0_best": 1.0,
        "particle_0_history": [0.5, 1.0, None, None],
        "particle_1_now": 0.25,
        "particle_1_best": 0.5,
        "particle_1_history": [0.5, None, None, 0.25],
        "particle_2_now": 0.25,
        "particle_2_best": 0.75,
        "particle_2_history": [0.75, None, None, 0.25],
    }


def test_the_ends_are_the_best_particles_with_their_scores_on_every_split(tmp_path: Path) -> None:
    history = history_of(record_swarm(tmp_path / "run", finals=(0, 1, 4)))
    assert [trial.candidate.trial_id for trial in history.starting] == [3, 0, 1]
    assert [trial.candidate.trial_id for trial in history.ending] == [4, 3, 1]
    assert {s: score.value for s, score in history.scores(history.starting[0]).items()} == {
        "search": 0.75
    }
    assert {s: score.value for s, score in history.scores(history.ending[0]).items()} == {
        "search": 1.0,
        "holdout": 1.0,
    }


def test_the_ends_begin_and_close_the_history_of_the_best(tmp_path: Path) -> None:
    # What was known before, and joined no particle, counts in both.
    trials = [*TRIALS]
    trials[2] = ("uniform average", 0.5, "aabb")
    run = record_swarm(tmp_path / "run", trials=trials)
    history = history_of(run)
    ends = history.starting_best, history.ending_best
    assert [end and end.candidate.trial_id for end in ends] == [2, 2]
    assert [history.utility(end) for end in ends] == [1.0, 1.0]
    assert (history.best_so_far[0], history.best_so_far[-1]) == (1.0, 1.0)
    section = swarm_section(run)
    assert section is not None
    assert "starting best: trial 2 (known before the swarm), search 1.0000" in section.notes[1]


def test_the_vote_is_the_accuracy_of_what_most_answer(tmp_path: Path) -> None:
    history = history_of(record_swarm(tmp_path / "run", finals=(0, 1, 4)))
    # aabc, aaaa, bbbb: a a b?, and the last one each for himself: the best of them is heard, c
    start = vote(history, history.starting, "tasks")
    assert start.voters == (3, 0, 1)
    assert start.score is not None
    assert start.score.value == 0.75
    # aabb, aabc, bbbb
    end = vote(history, history.ending, "tasks")
    assert end.score is not None
    assert (end.score.value, end.score.n) == (1.0, 4)


def test_of_equally_many_votes_the_larger_sum_of_utilities_wins(tmp_path: Path) -> None:
    history = history_of(record_swarm(tmp_path / "run"))
    trials = history.run.leaderboard.trials
    # aabb (1.0) and bbbb (0.5): two answers, one vote each
    assert getattr(vote(history, [trials[4], trials[1]], "tasks").score, "value", None) == 1.0
    assert getattr(vote(history, [trials[1], trials[4]], "tasks").score, "value", None) == 1.0


def test_only_those_vote_that_were_scored_on_the_split(tmp_path: Path) -> None:
    history = history_of(record_swarm(tmp_path / "run", finals=(0, 1, 4)))
    assert vote(history, history.ending, "holdout").voters == (4, 1)
    alone = vote(history, history.starting[:2], "holdout")
    assert (alone.voters, alone.score) == ((0,), None)
    assert alone.reason == (
        "of the 2 best particles only trial 0 was scored there; "
        "of what it found a run scores the winner alone on holdout"
    )
    assert vote(history, history.ending[:1], "holdout").reason == "it takes two particles"


def test_a_metric_that_answers_do_not_fix_has_no_vote(tmp_path: Path) -> None:
    text = GENOME.replace("OPTIMIZER", "{name: swarm, budget: 8}")
    ledger = Ledger.create(RunFolder(tmp_path / "run"), HEADER, text)
    for trial_id, value in enumerate((0.25, 0.75)):
        recipe = Recipe({"merge_method": "linear", "models": [{"model": f"m{trial_id}"}]})
        metric = Metric(MetricKey("quiz", "acc"), value, None, 1, True)
        document = Document("quiz", 0, {"acc,none": value}, "a")
        done = Outcome(TrialState.COMPLETE, Evaluation((metric,), (document,)))
        origin = f"optimizer, particle {trial_id}, iteration 0"
        candidate = Candidate(
            trial_id, origin_in(origin), recipe, np.array([value]), {"weight": value}
        )
        ledger.record_trial(Trial(candidate, done))
    history = history_of(load_run(tmp_path / "run"))
    result = vote(history, history.ending, "tasks")
    assert result.score is None
    assert result.reason == "equal answers of quiz are worth different acc,none"


def test_a_broken_start_is_one_sentence(tmp_path: Path) -> None:
    run = record_swarm(tmp_path / "run")
    ArtifactStore(run.ledger.folder).keep(START, b'{"one": 1}')
    with pytest.raises(LedgerError, match="not what a swarm keeps of its start"):
        swarm_of(run)


def test_another_run_has_no_swarm(tmp_path: Path) -> None:
    assert swarm_of(record_run(tmp_path / "run")) is None


def test_show_draws_the_swarm_and_writes_its_file(tmp_path: Path) -> None:
    record_swarm(tmp_path / "run", finals=(0, 1, 4))
    out = tmp_path / "scratchpad.json"
    result = CliRunner().invoke(main, ["show", str(tmp_path / "run"), "--swarm", str(out)])
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["particle_0_history"] == [0.5, 1.0, None, None]
    assert "swarm: score on the search tasks per iteration" in result.output
    assert "failed" in result.output
    assert "ending best: trial 4, search 1.0000 ± ? (n=4), holdout 1.0000 ± ? (n=4)" in (
        result.output
    )
    assert "ending vote, holdout: 1.0000 ± 0.0000 (n=4) by 2 particles" in result.output


def test_the_report_and_programs_have_the_swarm_too(tmp_path: Path) -> None:
    run = record_swarm(tmp_path / "run", finals=(0, 1, 4))
    page = report_html(run)
    assert "<h2>Swarm: score on the search tasks per iteration</h2>" in page
    assert '<td class="bad">failed</td>' in page
    assert "ending vote, holdout: 1.0000 ± 0.0000 (n=4) by 2 particles" in page
    result = CliRunner().invoke(main, ["show", str(tmp_path / "run"), "--json"])
    swarm = json.loads(result.output)["swarm"]
    assert swarm["scratchpad"] == history_of(run).scratchpad()
    assert swarm["ending"]["trial"] == 4
    assert swarm["ending"]["scores"]["holdout"]["score"] == 1.0
    assert swarm["ending"]["votes"]["holdout"]["voters"] == [4, 1]
    assert swarm["starting"]["votes"]["holdout"]["voters"] == [0, 1]


def test_show_says_that_there_was_no_swarm(tmp_path: Path) -> None:
    record_run(tmp_path / "run")
    result = CliRunner().invoke(
        main, ["show", str(tmp_path / "run"), "--swarm", str(tmp_path / "out.json")]
    )
    assert "no swarm has searched here" in str(result.exception)
