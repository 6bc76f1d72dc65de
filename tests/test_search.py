from __future__ import annotations

import signal
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose

from evomerge.cli.interrupt import stopped_by_interrupt
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import LedgerError, RunError
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.task_blocks import Task
from evomerge.merge_spaces import merge_space_for
from evomerge.nouns.evaluation import MetricKey, Sample, TrialState
from evomerge.nouns.events import (
    FinalScored,
    Notice,
    RunFinished,
    RunStarted,
    TrialFinished,
    TrialStarted,
    Warned,
)
from evomerge.nouns.objective import Objective
from evomerge.nouns.trial import Candidate
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.gradient.lessons import to_bytes
from evomerge.optimizers.search_context import Effort, Lesson
from evomerge.run.best import recipe_of
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.ledger.artifact_store import ArtifactStore
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.lines import Extension
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.limits import Limits
from evomerge.run.search import Search
from tests.contract.merge_space_cases import LLAMA
from tests.contract.optimizer_cases import extras
from tests.fake_executor import Recording, scores_of
from tests.test_ledger import HEADER

TASKS = (Task(name="near"), Task(name="small"))
KEYS = tuple(MetricKey(task.name, "acc") for task in TASKS)
MODELS = ["org/model_0", "org/model_1", "org/model_2"]
N_BASELINES = 5


def objective(name="weighted_sum"):
    return Objective(name, TASKS, KEYS)


def space_of(**fields):
    data = {
        "models": MODELS,
        "base_model": "org/base",
        "merge_method": "task_arithmetic",
        **fields,
    }
    definition = MergeDefinition.model_validate(data)
    return merge_space_for(definition)(definition, LLAMA, "float32")


def baselines(merge_space):
    models = merge_space.definition.models
    found = [
        (f"model {s.model}", merge_space.model_recipe(s.model), merge_space.source_point(i))
        for i, s in enumerate(models)
    ]
    base = merge_space.definition.base_model
    found.append((f"base {base}", merge_space.model_recipe(base), merge_space.base_point()))
    found.append(("uniform average", merge_space.average_recipe(), merge_space.average_point()))
    return [
        Candidate(
            i, origin_in(origin), recipe, point and merge_space.space.encode(point), point or {}
        )
        for i, (origin, recipe, point) in enumerate(found)
    ]


def search(
    path,
    *,
    optimizer="cma_es",
    budget=12,
    rule="weighted_sum",
    population=4,
    fails=(),
    finals=None,
    seed=0,
    resume=False,
    merge_space=None,
    executor=None,
    **limits,
):
    merge_space = merge_space or space_of()
    folder = RunFolder(path)
    return Search(
        merge_space=merge_space,
        optimizer=OPTIMIZERS[optimizer](
            merge_space.space,
            seed=seed,
            population_size=population,
            n_objectives=objective(rule).n_objectives,
            **extras(optimizer, ArtifactStore(folder)),
        ),
        objective=objective(rule),
        executor=executor or Recording(fails),
        ledger=Ledger.open(folder) if resume else Ledger.create(folder, HEADER, "genome: {}\n"),
        baselines=baselines(merge_space),
        limits=Limits(budget, **limits),
        finals=finals,
    )


class Counting:
    """A tracker that hears events until it is closed."""

    def __init__(self):
        self.n_events, self.n_closed = 0, 0

    def __call__(self, event):
        assert not self.n_closed
        self.n_events += 1
        yield Notice("heard")

    def close(self):
        self.n_closed += 1


def test_trackers_hear_every_event_and_are_closed_however_a_run_ends(tmp_path):
    whole, left = Counting(), Counting()
    run = search(tmp_path / "whole")
    run.trackers = (whole,)
    events = list(run.run())
    assert whole.n_events == events.count(Notice("heard")) == len(events) // 2
    run = search(tmp_path / "left")
    run.trackers = (left,)
    events = run.run()
    next(events)
    events.close()
    assert whole.n_closed == left.n_closed == 1


def history(ledger):
    """Trials and what the optimizer heard, without the seconds."""
    trials = {
        i: (
            t.candidate.origin,
            t.candidate.recipe.digest,
            None if t.candidate.genotype is None else t.candidate.genotype.tolist(),
            t.outcome.state,
            t.outcome.evaluation,
        )
        for i, t in ledger.trials.items()
    }
    return trials, ledger.told, ledger.finals


def finished(events):
    return [event for event in events if isinstance(event, TrialFinished)]


def test_a_run_is_baselines_then_exactly_its_budget(tmp_path):
    run = search(tmp_path, budget=10, population=4)
    events = list(run.run())
    assert isinstance(events[0], RunStarted)
    assert events[-1] == RunFinished("budget", N_BASELINES + 10)
    assert sorted(run.ledger.trials) == list(range(N_BASELINES + 10))
    origins = [str(t.candidate.origin) for t in run.ledger.trials.values()]
    assert origins[:N_BASELINES] == [
        *(f"model {m}" for m in MODELS),
        "base org/base",
        "uniform average",
    ]
    assert set(origins[N_BASELINES:]) == {"optimizer"}
    assert run.executor.is_closed


@pytest.mark.parametrize("optimizer", ["random", "cma_es", "tpe"])
def test_a_run_ends_when_everything_that_its_space_holds_was_tried(tmp_path, optimizer):
    soups = space_of(space="soup", merge_method="linear")
    settings = {"merge_space": soups, "optimizer": optimizer}
    run = search(tmp_path, budget=500, **settings)
    last = list(run.run())[-1]
    recipes = {trial.candidate.recipe.digest for trial in run.ledger.trials.values()}
    assert (last.reason, len(recipes)) == ("exhausted", 7 + 4)  # soups; models and base, copied
    assert len(run.executor.jobs) == 11  # what is known is not scored again
    again = search(tmp_path, budget=501, resume=True, **settings)
    assert list(again.run())[-1] == last
    assert not again.executor.jobs


def test_the_optimizer_hears_the_baselines_and_every_whole_generation(tmp_path):
    run = search(tmp_path, budget=10, population=4)
    list(run.run())
    assert run.ledger.told == [(0, 1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12)]


def test_the_search_improves_on_its_baselines_and_writes_the_winner(tmp_path):
    run = search(tmp_path, budget=80, population=8)
    events = finished(run.run())
    best = run.leaderboard.best
    assert str(best.candidate.origin) == "optimizer"
    assert [e.candidate.trial_id for e in events if e.is_best][-1] == best.candidate.trial_id
    content = yaml.safe_load(run.ledger.folder.best.read_text())
    assert recipe_of(content) == best.candidate.recipe
    assert content["trial"] == best.candidate.trial_id
    assert content["objective"]["weighted_sum"]["n"] == 20


def test_the_winner_is_on_disk_at_each_improvement(tmp_path):
    run = search(tmp_path, budget=20)
    for event in run.run():
        if isinstance(event, TrialFinished) and event.is_best:
            content = yaml.safe_load(run.ledger.folder.best.read_text())
            assert content["trial"] == event.candidate.trial_id


def test_a_failed_candidate_is_recorded_and_the_run_goes_on(tmp_path):
    run = search(tmp_path, budget=8, fails=[1, 6])
    events = finished(run.run())
    failed = [e for e in events if e.outcome.state is TrialState.FAILED]
    assert [e.candidate.trial_id for e in failed] == [1, 6]
    assert all(e.scores == () and not e.is_best for e in failed)
    assert len(run.ledger.trials) == N_BASELINES + 8


def test_a_run_whose_baselines_all_fail_stops_and_says_why(tmp_path):
    run = search(tmp_path, fails=range(N_BASELINES))
    with pytest.raises(RunError, match=r"every model failed, the first with: evaluate: on purpose"):
        list(run.run())
    assert run.executor.is_closed


class Stubborn(OPTIMIZERS["random"]):
    """Proposes the same points over and over."""

    def _ask(self):
        return np.tile([[0.5] * self.space.n_dims, [0.25] * self.space.n_dims], (2, 1))


def test_no_recipe_is_evaluated_twice(tmp_path):
    run = search(tmp_path, budget=11, population=4)
    run.proposer.optimizer = Stubborn(run.merge_space.space, seed=0, population_size=4)
    events = finished(run.run())
    assert len(run.executor.digests) == len(set(run.executor.digests)) == N_BASELINES + 2
    assert len(run.ledger.trials) == N_BASELINES + 11
    twins = [e for e in events if str(e.candidate.origin) == "optimizer"]
    assert len({e.scores for e in twins}) == 2
    timed = [trial for trial in run.ledger.trials.values() if trial.outcome.seconds]
    assert len(timed) == N_BASELINES + 2  # hours are counted once


@pytest.mark.parametrize("patience", [5, 6, 7, 8])
def test_patience_ends_a_run_after_the_generation_in_which_it_is_over(tmp_path, patience):
    run = search(tmp_path, budget=50, population=4, patience=patience)
    run.proposer.optimizer = Stubborn(run.merge_space.space, seed=0, population_size=4)
    *events, last = run.run()
    assert last.reason == "patience"
    found = [event for event in events if isinstance(event, TrialFinished)]
    best = max(event.candidate.trial_id for event in found if event.is_best)
    n_without = last.n_trials - max(best + 1, N_BASELINES)
    assert n_without - 4 < patience <= n_without


def cut_search(path, cuts, **settings):
    """A search whose time is over while some trials run."""
    run = search(path, **{"budget": 50, "timeout": 1000.0, **settings})
    run.executor.cuts = set(cuts)
    return run


@pytest.mark.parametrize(
    ("cuts", "left"),
    [
        (range(10, 50), range(10)),
        (range(9, 50), range(9)),
        # Several workers: what was slower than its neighbours is given up.
        ([6, 8], [0, 1, 2, 3, 4, 5, 7]),
        (range(5, 50), range(5)),
        ([1, 4], [0, 2, 3]),
    ],
)
def test_what_runs_when_the_time_is_over_is_not_recorded_and_the_rest_counts(tmp_path, cuts, left):
    run = cut_search(tmp_path, cuts, finals=final("worst"))
    events = list(run.run())
    assert events[-1] == RunFinished("timeout", len(left))
    assert sorted(run.ledger.trials) == list(left)
    assert {split for split, _ in run.ledger.finals} == {"validation", "holdout"}
    assert not any(set(cuts) & set(ids) for ids in run.ledger.told)
    best = run.ledger.folder.best.read_text()
    again = search(tmp_path, budget=50, timeout=1000.0, finals=final("worst"), resume=True)
    replayed = list(again.run())
    assert again.executor.jobs == []
    assert replayed[-1] == events[-1]
    assert history(again.ledger) == history(run.ledger)
    assert run.ledger.folder.best.read_text() == best


def test_a_search_over_before_a_model_was_scored_says_so_and_may_be_tried_again(tmp_path):
    run = cut_search(tmp_path, range(N_BASELINES))
    with pytest.raises(RunError, match=r"optimizer.timeout: .* before a single model was scored"):
        list(run.run())
    again = search(tmp_path, budget=4, timeout=1000.0, resume=True)
    *_, last = again.run()
    assert last == RunFinished("budget", N_BASELINES + 4)


class Sleepless(OPTIMIZERS["random"]):
    """Proposes nothing, for ever."""

    def _ask(self):
        signal.pause()


def test_an_optimizer_that_ponders_when_the_time_is_over_is_interrupted(tmp_path):
    run = search(tmp_path, budget=50, timeout=1000.0)
    run.proposer.optimizer = Sleepless(run.merge_space.space, seed=0)
    for event in run.run():
        if isinstance(event, TrialFinished) and event.candidate.trial_id == N_BASELINES - 1:
            run.proposer.tell = lambda *_: vars(run).update(_deadline=nearly_over())
    assert event == RunFinished("timeout", N_BASELINES)


def nearly_over():
    return Deadline(search_end=time.monotonic() + 0.1)


def final(name):
    return {split: objective(name) for split in ("validation", "holdout")}


def test_validation_picks_the_winner_and_holdout_looks_at_it_once(tmp_path):
    run = search(tmp_path, budget=8, finals=final("worst"))
    events = [e for e in run.run() if isinstance(e, FinalScored)]
    on_holdout = [e.candidate for e in events if e.split == "holdout"]
    assert sum(not c.is_baseline for c in on_holdout) <= 1
    assert {c.trial_id for c in on_holdout if c.is_baseline} == set(range(N_BASELINES))
    validated = {e.candidate.trial_id: e.scores[0].value for e in events if e.split == "validation"}
    finalists = [t.candidate.trial_id for t in run.leaderboard.ranked()[:5]]
    content = yaml.safe_load(run.ledger.folder.best.read_text())
    assert validated[content["trial"]] == max(validated[i] for i in finalists)
    assert set(content["holdout"]) == {"near/acc,none", "small/acc,none"}


@pytest.mark.parametrize("finalists", [1, 3])
def test_as_many_finalists_are_validated_as_the_limits_say(tmp_path, finalists):
    run = search(tmp_path, budget=8, finals=final("worst"), finalists=finalists)
    events = [e for e in run.run() if isinstance(e, FinalScored)]
    validated = {e.candidate.trial_id for e in events if e.split == "validation"}
    best = {t.candidate.trial_id for t in run.leaderboard.ranked()[:finalists]}
    assert validated == best | set(range(N_BASELINES))


def test_normalized_finals_are_scaled_by_the_baselines_on_their_split(tmp_path):
    run = search(tmp_path, budget=8, rule="normalized", finals=final("normalized"))
    events = [e for e in run.run() if isinstance(e, FinalScored) and e.split == "holdout"]
    last = events[-1]
    assert not last.candidate.is_baseline
    anchors = run.leaderboard.objective.anchors  # the formula gives every split the same scores
    scaled = Objective("normalized", TASKS, KEYS, anchors)
    evaluation = run.ledger.finals["holdout", last.candidate.trial_id].evaluation
    assert last.scores == scaled.scores(evaluation)
    assert last.scores != objective("normalized").scores(evaluation)


# Resuming

WHOLE = {"budget": 11, "population": 4, "fails": (2, 7), "finals": None}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run = search(folder, **{**WHOLE, "finals": final("worst")})
    n_events = sum(1 for _ in run.run())
    return history(run.ledger), n_events, run.executor.jobs, run.ledger.folder.best.read_text()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.45, 0.6, 0.8, 0.97, 1.0])
def test_a_run_stopped_anywhere_becomes_the_uninterrupted_run(tmp_path, uninterrupted, share):
    expected, n_events, jobs, best = uninterrupted
    settings = {**WHOLE, "finals": final("worst")}
    first = search(tmp_path, **settings)
    events = first.run()
    for _ in range(max(int(share * n_events), 1)):
        next(events)
    events.close()
    assert first.executor.is_closed
    second = search(tmp_path, resume=True, **settings)
    n_recorded = len(second.ledger.trials)
    resumed = list(second.run())
    assert history(second.ledger) == expected
    assert history(Ledger.open(RunFolder(tmp_path), read_only=True)) == expected
    assert resumed[0].n_recorded == n_recorded
    assert sum(e.was_recorded for e in finished(resumed)) == n_recorded
    repeated = set(first.executor.jobs) & set(second.executor.jobs)
    assert len(repeated) <= 1  # the one that was cut off in the middle
    assert sorted({*first.executor.jobs, *second.executor.jobs}) == sorted(jobs)
    assert second.ledger.folder.best.read_text() == best


def test_a_larger_budget_continues_the_same_run(tmp_path):
    list(search(tmp_path / "short", budget=8).run())
    longer = search(tmp_path / "short", budget=16, resume=True)
    list(longer.run())
    whole = search(tmp_path / "long", budget=16)
    list(whole.run())
    assert history(longer.ledger) == history(whole.ledger)
    assert len(longer.executor.jobs) == 8


def test_a_folder_of_another_search_is_refused(tmp_path):
    list(search(tmp_path, budget=4).run())
    other = search(tmp_path, budget=8, resume=True, seed=1)
    with pytest.raises(LedgerError, match="trial 5 is another one than the optimizer proposes"):
        list(other.run())


def test_a_folder_with_other_models_is_refused(tmp_path):
    list(search(tmp_path, budget=4).run())
    other = search(tmp_path, resume=True, merge_space=space_of(models=["org/x", *MODELS[1:]]))
    with pytest.raises(LedgerError, match=r"trial 0 is another one .*start a new run folder"):
        list(other.run())


# Several objectives


def test_several_objectives_leave_one_recipe_per_point_of_the_front(tmp_path):
    run = search(tmp_path, optimizer="nsga2", rule="per_task", budget=24, population=8)
    events = finished(run.run())
    front = run.leaderboard.front()
    assert len(front) > 1
    files = {path.name: yaml.safe_load(path.read_text()) for path in tmp_path.glob("front/*.yml")}
    assert set(files) == {f"trial-{t.candidate.trial_id:05d}.yml" for t in front}
    for trial in front:
        content = files[f"trial-{trial.candidate.trial_id:05d}.yml"]
        assert recipe_of(content) == trial.candidate.recipe
        assert set(content["objective"]) == {"near", "small"}
    assert not any(event.is_best for event in events)
    assert yaml.safe_load(run.ledger.folder.best.read_text())["trial"] in {
        t.candidate.trial_id for t in front
    }


def test_the_front_on_disk_is_never_behind(tmp_path):
    run = search(tmp_path, optimizer="nsga2", rule="per_task", budget=12, population=4)
    for event in run.run():
        if isinstance(event, TrialFinished):
            files = {path.name for path in tmp_path.glob("front/*.yml")}
            front = run.leaderboard.front()
            assert files == {f"trial-{t.candidate.trial_id:05d}.yml" for t in front}


def test_holdout_scores_stand_in_every_file_of_the_front(tmp_path):
    finals = {"holdout": objective("per_task")}
    run = search(
        tmp_path, optimizer="nsga2", rule="per_task", budget=8, population=4, finals=finals
    )
    list(run.run())
    for path in tmp_path.glob("front/*.yml"):
        assert "holdout" in yaml.safe_load(path.read_text())


# Stopping


def test_a_run_that_is_stopped_finishes_the_running_trial_and_continues_later(tmp_path):
    first = search(tmp_path, budget=8)
    for event in first.run():
        if isinstance(event, TrialStarted) and event.candidate.trial_id == 6:
            first.stop()
    assert event == RunFinished("stopped", 7)
    assert sorted(first.ledger.trials) == list(range(7))
    second = search(tmp_path, budget=8, resume=True)
    list(second.run())
    whole = search(tmp_path / "whole", budget=8)
    list(whole.run())
    assert history(second.ledger) == history(whole.ledger)


def test_a_run_that_is_stopped_after_its_last_trial_has_ended_by_itself(tmp_path):
    run = search(tmp_path, budget=4)
    for event in run.run():
        if isinstance(event, TrialFinished) and event.candidate.trial_id == N_BASELINES + 3:
            run.stop()
    assert event == RunFinished("budget", N_BASELINES + 4)


@contextmanager
def interrupting(run, n_times):
    """Ctrl-C, so many times, while trial 6 is being evaluated."""

    def interrupt(recipe):
        if recipe.digest == wanted.get(6):
            for _ in range(n_times):
                signal.raise_signal(signal.SIGINT)
        return scores_of(recipe)

    wanted = {}
    with mock.patch("tests.fake_executor.scores_of", interrupt), stopped_by_interrupt(run.stop):
        yield wanted


@pytest.mark.parametrize(("n_times", "n_trials"), [(1, 7), (2, 6)])
def test_ctrl_c_once_finishes_the_running_trial_and_twice_leaves_now(tmp_path, n_times, n_trials):
    run = search(tmp_path, budget=8)
    before = signal.getsignal(signal.SIGINT)
    with interrupting(run, n_times) as wanted:
        try:
            for event in run.run():
                if isinstance(event, TrialStarted):
                    wanted[event.candidate.trial_id] = event.candidate.recipe.digest
            assert n_times == 1
            assert event == RunFinished("stopped", 7)
        except KeyboardInterrupt:
            assert n_times == 2
    assert len(run.ledger.trials) == n_trials
    assert run.executor.is_closed
    assert signal.getsignal(signal.SIGINT) is before


# Tasks that cannot steer


def twin_models(merge_space):
    """Baselines whose models are all the same recipe."""
    first, *_ = found = baselines(merge_space)
    return [
        replace(c, recipe=first.recipe) if str(c.origin).startswith("model ") else c for c in found
    ]


def warned(events):
    return [event.message for event in events if isinstance(event, Warned)]


def test_models_that_all_score_the_same_are_a_warning_and_the_run_goes_on(tmp_path):
    run = search(tmp_path, budget=8)
    run.baselines = tuple(twin_models(run.merge_space))
    near, small = warned(run.run())
    assert near.startswith("near: every model scores the same (acc,none")
    assert small.startswith("small: every model scores 0")
    assert len(run.ledger.trials) == N_BASELINES + 8


def test_a_strict_run_stops_there_and_goes_on_without(tmp_path):
    strict = search(tmp_path, budget=8)
    strict.baselines, strict.is_strict = tuple(twin_models(strict.merge_space)), True
    events = strict.run()
    with pytest.raises(RunError, match="--strict: near, small cannot steer the search"):
        deque(events)
    assert len(strict.ledger.trials) == N_BASELINES
    again = search(tmp_path, budget=8, resume=True)
    again.baselines = strict.baselines
    assert len(warned(again.run())) == 2
    assert len(again.ledger.trials) == N_BASELINES + 8


def test_the_prompt_target_and_answer_of_a_task_that_cannot_steer_are_shown(tmp_path):
    run = search(tmp_path, budget=4)
    run.executor.samples = (Sample("small", 7, "What is 7?", "It is 8.", "seven"),)
    (small,) = warned(run.run())
    for text in ("small, document 7", "'What is 7?'", "'It is 8.'", "'seven'"):
        assert text in small


# Where a search starts


@pytest.mark.parametrize("first", [1, 4])
def test_the_search_starts_at_the_best_baseline(tmp_path, first):
    """Of the parents and the average, whichever scores more than the others."""
    run = search(tmp_path, budget=4)
    run.leaderboard = Leaderboard(Objective("weighted_sum", TASKS[:1], KEYS[:1]))
    best = run.baselines[first]
    with mock.patch("tests.fake_executor.TARGET", best_weights(best)):
        list(run.run())
    assert_allclose(run.proposer.optimizer.space.initial, best.genotype)


def best_weights(candidate):
    own = candidate.recipe.config["models"]
    default = 1.0 if len(own) == 1 else 0.0
    return {
        **dict.fromkeys(MODELS, 0.0),
        **{m["model"]: m.get("parameters", {}).get("weight", default) for m in own},
    }


# Memory


def test_a_batch_that_was_too_large_once_stays_smaller_also_after_a_break(tmp_path):
    run = search(tmp_path, budget=8)
    run.executor.short_of_memory = 5
    events = list(run.run())
    divisors = [t.outcome.batch_divisor for t in run.ledger.trials.values()]
    assert divisors == [1] * 5 + [2] * 8
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert notice.message.startswith("memory ran out: the batch is divided by 2 from now on")
    again = search(tmp_path, budget=9, resume=True)
    list(again.run())
    assert again.ledger.trials[N_BASELINES + 8].outcome.batch_divisor == 2


def test_the_batch_of_a_resumed_run_grows_smaller_where_that_of_the_whole_run_did(tmp_path):
    run = search(tmp_path, budget=8)
    run.executor.short_of_memory = 5
    for event in run.run():
        if isinstance(event, TrialFinished) and event.candidate.trial_id == 3:
            run.stop()
    resumed = search(tmp_path, budget=8, resume=True)
    resumed.executor.short_of_memory = 5
    list(resumed.run())
    divisors = [t.outcome.batch_divisor for t in resumed.ledger.trials.values()]
    assert divisors == [1] * 5 + [2] * 8


# The end


def test_a_run_that_ended_by_its_timeout_has_ended(tmp_path):
    list(cut_search(tmp_path, range(N_BASELINES, 50)).run())
    again = search(tmp_path, budget=50, timeout=1e9, resume=True)
    *_, last = again.run()
    assert last == RunFinished("timeout", N_BASELINES)
    assert again.executor.jobs == []


def test_a_run_that_ended_by_its_timeout_goes_on_with_more_time(tmp_path):
    list(cut_search(tmp_path / "cut", range(N_BASELINES + 2, 50)).run())
    longer = search(tmp_path / "cut", budget=8, timeout=1e9, resume=True)
    was = {"budget": 8, "patience": None, "timeout": 1000.0}
    longer.ledger.record_extension(Extension("digest", was, {**was, "timeout": 1e9}), "genome")
    *_, last = longer.run()
    assert last == RunFinished("budget", N_BASELINES + 8)
    whole = search(tmp_path / "whole", budget=8)
    list(whole.run())
    assert history(longer.ledger) == history(whole.ledger)
    read = Ledger.open(RunFolder(tmp_path / "cut"), read_only=True)
    assert (read.ended, read.genome_digest, len(read.extensions)) == ("", "digest", 1)


def test_time_spent_before_a_break_counts(tmp_path):
    list(search(tmp_path, budget=4).run())
    ledger = RunFolder(tmp_path).ledger
    lines = [line for line in ledger.read_text().splitlines() if '"kind":"ended"' not in line]
    spent = [line.replace('"seconds":{"merge":0.0}', '"seconds":{"merge":60.0}') for line in lines]
    ledger.write_text("\n".join(spent) + "\n")
    *_, last = search(tmp_path, budget=50, timeout=500, resume=True).run()
    assert last == RunFinished("timeout", N_BASELINES + 4)


def test_time_of_training_before_a_break_counts(tmp_path):
    list(search(tmp_path, budget=4).run())
    folder = RunFolder(tmp_path)
    lines = folder.ledger.read_text().splitlines()
    folder.ledger.write_text("\n".join(x for x in lines if '"kind":"ended"' not in x) + "\n")
    lesson = Lesson(np.zeros(2), b"", {}, effort=Effort(seconds=600.0))
    ArtifactStore(folder).keep("0-gradient/epoch-1.npz", to_bytes(lesson))
    *_, last = search(tmp_path, budget=50, timeout=500, resume=True).run()
    assert last == RunFinished("timeout", N_BASELINES + 4)
    ArtifactStore(folder).keep("0-gradient/epoch-2.npz", b"damaged")
    with pytest.raises(LedgerError, match=r"epoch-2.npz: not what an epoch .* or remove it"):
        list(search(tmp_path, budget=50, timeout=500, resume=True).run())


def test_the_winner_on_disk_is_mended_as_soon_as_a_run_goes_on(tmp_path):
    first = search(tmp_path, budget=40)
    for event in first.run():
        if isinstance(event, TrialFinished) and event.candidate.trial_id == N_BASELINES + 20:
            first.stop()
    best = first.ledger.folder.best
    expected = best.read_text()
    best.write_text("from before the kill")
    again = search(tmp_path, budget=40, resume=True)
    for event in again.run():
        if isinstance(event, TrialStarted):
            assert best.read_text() == expected
            break
