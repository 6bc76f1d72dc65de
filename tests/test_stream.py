"""Several workers: what is handed out when, in which order it is told, and that it is replayed."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from evomerge.compiler.start import _asked_at_once
from evomerge.foundations.errors import LedgerError
from evomerge.nouns.events import RunFinished, TrialFinished, TrialStarted
from evomerge.optimizers import OPTIMIZERS
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.proposer import Proposer
from evomerge.run.stream import IdleTime, OverError, SearchStoppedError, Stream
from tests.fake_executor import Recording
from tests.test_search import N_BASELINES, Stubborn, final, finished, history, search
from tests.thinned import thinned

ASKING = SimpleNamespace(activity="", asks_ahead=False)
AHEAD = SimpleNamespace(activity="", asks_ahead=True)
TRAINING = SimpleNamespace(activity="training", asks_ahead=False)
ANY_TIME = sorted(name for name in OPTIMIZERS if OPTIMIZERS[name].asks_any_time)
POPULATIONS = [name for name in ANY_TIME if OPTIMIZERS[name].min_population_size > 1]
BUDGET = 14
BUDGETS = {"gradient": 10}  # as many as its epochs


def stream(path, optimizer="random", *, workers=3, order=None, population=None, **settings):
    """A search with several workers, whose trials are over in an order drawn from a seed."""
    population = population or (4 if optimizer in POPULATIONS else 1)
    choose = (lambda n_out: 0) if order is None else random.Random(order).randrange
    executor = Recording(settings.pop("fails", ()), workers, choose)
    settings = {"budget": BUDGETS.get(optimizer, BUDGET), **settings}
    return search(path, optimizer=optimizer, population=population, executor=executor, **settings)


def lines(path):
    return [json.loads(line) for line in RunFolder(path).ledger.read_text().splitlines()]


def turns(path):
    return [
        (line["kind"], line["ids"]) for line in lines(path) if line["kind"] in {"asked", "told"}
    ]


@pytest.mark.parametrize("optimizer", [n for n in ANY_TIME if n != "gp"])
def test_no_slot_waits_while_there_is_budget_and_the_optimizer_can_be_asked(tmp_path, optimizer):
    run = stream(tmp_path, optimizer, order=1)
    free = []
    for event in run.run():
        is_search = len(run.ledger.trials) >= N_BASELINES and run._n_proposed < BUDGET
        if is_search and isinstance(event, TrialFinished) and not event.candidate.is_baseline:
            free.append(run.executor.free)
    assert set(free) == {1}  # the slot of the trial that is just over
    assert len(run.ledger.trials) == N_BASELINES + BUDGET


def test_the_optimizer_hears_of_a_trial_when_it_is_over(tmp_path):
    run = stream(tmp_path, order=2)
    over = [e.candidate.trial_id for e in finished(run.run())]
    searched = [trial_id for trial_id in over if trial_id >= N_BASELINES]
    assert searched != sorted(searched)
    assert run.ledger.told[1:] == [(trial_id,) for trial_id in searched]


@pytest.mark.parametrize("optimizer", POPULATIONS)
def test_generations_overlap_where_there_are_several_workers(tmp_path, optimizer):
    one = search(tmp_path / "one", optimizer=optimizer, population=4)
    list(one.run())
    first, *others = [ids for _, ids in turns(tmp_path / "one")[1:]]
    assert {len(ids) for ids in others} == {4}
    many = stream(tmp_path / "many", optimizer, order=3, population=4)
    list(many.run())
    assert all(history(many.ledger)[0][i] == history(one.ledger)[0][i] for i in first)
    told = [ids for kind, ids in turns(tmp_path / "many")[1:] if kind == "told"]
    assert {len(ids) for ids in told} == {1}
    asked = [ids[0] for kind, ids in turns(tmp_path / "many") if kind == "asked"]
    assert asked == [*range(N_BASELINES + len(first), N_BASELINES + BUDGET)]


def test_who_waits_for_what_it_asked_is_told_of_it_whole(tmp_path):
    one = search(tmp_path / "one", optimizer="llm")
    list(one.run())
    many = stream(tmp_path / "many", "llm", order=3, population=4, budget=12)
    list(many.run())
    assert history(many.ledger) == history(one.ledger)
    assert {kind for kind, _ in turns(tmp_path / "many")} == {"told"}


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n == "gp" else [])
        for n in (*ANY_TIME, "gradient")
    ],
)
@pytest.mark.parametrize("order", thinned(range(3), of=3))
def test_a_finished_run_is_replayed_whatever_came_first(tmp_path, optimizer, order):
    run = stream(tmp_path, optimizer, order=order, fails=(6,), finals=final("worst"))
    list(run.run())
    for workers in (3, 1):
        again = stream(tmp_path, optimizer, workers=workers, finals=final("worst"), resume=True)
        events = list(again.run())
        assert events[-1] == RunFinished("budget", N_BASELINES + BUDGETS.get(optimizer, BUDGET))
        assert again.executor.jobs == []
        assert history(again.ledger) == history(run.ledger)


@pytest.mark.parametrize("optimizer", ["tpe", "niches", "random", "gradient", *POPULATIONS])
@pytest.mark.parametrize("seed", thinned(range(6), of=3))
def test_a_run_left_anywhere_goes_on_from_what_it_has(tmp_path, optimizer, seed):
    """Left and continued again and again, with any number of workers and in any order."""
    chance, begun = random.Random(seed), Counter()
    population = OPTIMIZERS[optimizer].min_population_size + chance.choice([0, 0, 1])
    kept = {}
    for _ in range(40):
        run = stream(
            tmp_path,
            optimizer,
            workers=chance.randint(1, 4),
            order=chance.random(),
            population=population,
            resume=RunFolder(tmp_path).ledger.is_file(),
        )
        assert all(history(run.ledger)[0][i] == trial for i, trial in kept.items())
        events, n_more = run.run(), chance.randint(5, 60)
        last = [event for event, _ in zip(events, range(n_more), strict=False)][-1]
        events.close()
        begun.update(run.executor.jobs)
        kept = history(run.ledger)[0]
        if isinstance(last, RunFinished):
            break
    assert last == RunFinished("budget", N_BASELINES + BUDGETS.get(optimizer, BUDGET))
    again = stream(tmp_path, optimizer, population=population, resume=True)
    list(again.run())
    assert again.executor.jobs == []
    assert history(again.ledger) == history(run.ledger)
    optimizers = [one.proposer.optimizer for one in (run, again)]
    assert optimizers[0].is_finished or len({one.ask().tobytes() for one in optimizers}) == 1


def test_more_budget_and_another_number_of_workers_continue_the_same_run(tmp_path):
    list(stream(tmp_path, "tpe", order=4, population=2, budget=9).run())
    longer = stream(tmp_path, "tpe", workers=2, order=5, population=2, resume=True)
    list(longer.run())
    assert sorted(longer.ledger.trials) == list(range(N_BASELINES + BUDGET))
    assert sorted(i for ids in longer.ledger.told[1:] for i in ids) == list(
        range(N_BASELINES, N_BASELINES + BUDGET)
    )


def test_nobody_is_asked_for_while_others_wait_or_when_the_time_is_over(tmp_path):
    candidates = Stream(lambda: Recording((), 2))
    assert candidates.has_room_for(ASKING)
    candidates.take(stream(tmp_path).baselines[0])
    assert not candidates.has_room_for(TRAINING)
    candidates.give_up()
    assert not candidates.waiting
    assert not candidates.has_room_for(TRAINING)


def test_who_trains_in_a_slot_that_is_lent_needs_no_free_one(tmp_path):
    executor = Recording((), 2)
    candidates = Stream(lambda: executor)
    candidates.start()
    first, second = stream(tmp_path).baselines[:2]
    for one in (first, second):
        candidates.take(one)
        list(candidates.hand_out(None))
    assert not candidates.has_room_for(TRAINING)  # all have a trial
    executor.n_workers = 1  # one is lent, and the other has a trial
    assert candidates.has_room_for(TRAINING)
    assert not candidates.has_room_for(ASKING)


def rooms_after(candidates, proposed, optimizer):
    """Whether there is room for one more, after each that was asked for."""
    rooms = []
    for trial_id, one in enumerate(proposed):
        candidate = replace(one, trial_id=trial_id)
        candidates.begin([candidate], budget=1)
        candidates.take(candidate)
        if candidates.can_hand_out:
            list(candidates.hand_out(None))
        rooms.append(candidates.has_room_for(optimizer))
    return rooms


def test_as_many_wait_for_one_that_is_out_as_there_are_workers_and_no_more(tmp_path):
    executor = Recording((), 2)
    candidates, [first, *_] = Stream(lambda: executor), stream(tmp_path).baselines
    # One that runs, and two that are the same once more.
    assert rooms_after(candidates, [first] * 3, ASKING) == [True, True, False]
    assert executor.free == 1


def test_who_asks_ahead_needs_no_free_slot_and_repeats_no_more_than_others(tmp_path):
    executor = Recording((), 2)
    candidates, two = Stream(lambda: executor), stream(tmp_path).baselines[:2]
    assert rooms_after(candidates, [*two, *two], AHEAD) == [True, True, True, False]
    assert executor.free == 0
    assert not candidates.has_room_for(ASKING)
    candidates.generations = candidates.generations[:2]
    assert candidates.has_room_for(AHEAD)
    # An island that asks ahead, beside one that trains: no slot can be lent while none is free.
    assert not candidates.has_room_for(SimpleNamespace(activity="training", asks_ahead=True))


def test_who_stopped_a_run_is_told_so_and_not_that_its_time_is_over(tmp_path):
    executor = Recording((), 2)
    candidates = Stream(lambda: executor)
    candidates.refuse_unfinished()
    candidates.begin(stream(tmp_path).baselines, budget=2)
    with pytest.raises(OverError):
        candidates.refuse_unfinished()
    executor.stop()
    with pytest.raises(SearchStoppedError):
        candidates.refuse_unfinished()


def test_one_worker_leaves_no_turn_but_what_is_told_and_no_idle_time(tmp_path):
    list(stream(tmp_path, "tpe", workers=1).run())
    assert {kind for kind, _ in turns(tmp_path)} == {"told"}
    assert not any("idle" in line for line in lines(tmp_path))


def test_a_recipe_that_is_out_already_is_waited_for(tmp_path):
    run = stream(tmp_path, order=6, population=4)
    run.proposer.optimizer = Stubborn(run.merge_space.space, seed=0, population_size=4)
    events = finished(run.run())
    assert len(run.executor.digests) == len(set(run.executor.digests)) == N_BASELINES + 2
    assert len(events) == len(run.ledger.trials) == N_BASELINES + BUDGET
    again = stream(tmp_path, resume=True)
    again.proposer.optimizer = Stubborn(run.merge_space.space, seed=0, population_size=4)
    list(again.run())
    assert again.executor.jobs == []


def test_a_failed_trial_fails_its_twin(tmp_path):
    run = stream(tmp_path, fails=(N_BASELINES,))
    run.proposer.optimizer = Stubborn(run.merge_space.space, seed=0, population_size=4)
    states = {e.candidate.trial_id: e.outcome.state for e in finished(run.run())}
    assert states[N_BASELINES] == states[N_BASELINES + 2] != states[N_BASELINES + 1]


def test_a_stopped_run_finishes_what_runs_and_continues_later(tmp_path):
    run, running = stream(tmp_path, order=7), set()
    for event in run.run():
        if isinstance(event, TrialStarted):
            running.add(event.candidate.trial_id)
            if event.candidate.trial_id == N_BASELINES + 5:
                run.stop()
        if isinstance(event, TrialFinished):
            running.discard(event.candidate.trial_id)
    assert running == set()
    assert event == RunFinished("stopped", N_BASELINES + 6)
    again = stream(tmp_path, order=8, resume=True)
    *_, last = again.run()
    assert last == RunFinished("budget", N_BASELINES + BUDGET)
    assert len(again.executor.jobs) == BUDGET - 6


@pytest.mark.parametrize("optimizer", ["random", "cma_es"])
@pytest.mark.parametrize("cuts", [range(9, 50), range(5, 50), [7, *range(10, 50)]])
def test_what_is_out_when_the_time_is_over_is_given_up_and_the_rest_counts(
    tmp_path, cuts, optimizer
):
    settings = {"timeout": 1000.0, "budget": 50, "finals": final("worst")}
    run = stream(tmp_path, optimizer, order=9, **settings)
    run.executor.cuts = set(cuts)
    events = list(run.run())
    assert events[-1].reason == "timeout"
    assert not set(run.ledger.trials) & set(cuts)
    told = {trial_id for ids in run.ledger.told for trial_id in ids}
    assert told == set(run.ledger.trials)
    again = stream(tmp_path, optimizer, resume=True, **settings)
    replayed = list(again.run())
    assert again.executor.jobs == []
    assert replayed[-1] == events[-1]
    assert history(again.ledger) == history(run.ledger)


@pytest.mark.parametrize("optimizer", ["random", "cma_es", "swarm"])
@pytest.mark.parametrize("order", range(3))
def test_patience_counts_trials_that_are_over_and_ends_where_the_replay_does(
    tmp_path, order, optimizer
):
    run = stream(tmp_path, optimizer, order=order, budget=60, patience=6)
    *_, last = run.run()
    assert last.reason == "patience"
    best = max(run.leaderboard.best.candidate.trial_id, N_BASELINES - 1)
    assert last.n_trials - 1 - best >= 6
    again = stream(tmp_path, optimizer, budget=60, patience=6, resume=True)
    assert list(again.run())[-1] == last
    assert again.executor.jobs == []
    assert len(again.leaderboard.trials) == len(run.leaderboard.trials) == last.n_trials


@pytest.mark.parametrize("order", thinned(range(12), of=3))
def test_patience_forgets_no_trial_of_a_run_that_was_left(tmp_path, order):
    chance = random.Random(order)
    for _ in range(40):
        is_begun = RunFolder(tmp_path).ledger.is_file()
        run = stream(tmp_path, order=chance.random(), budget=30, patience=2, resume=is_begun)
        events, n_more = run.run(), chance.randint(5, 40)
        last = [event for event, _ in zip(events, range(n_more), strict=False)][-1]
        events.close()
        if isinstance(last, RunFinished):
            break
    assert len(run.leaderboard.trials) == len(run.ledger.trials) == last.n_trials
    again = stream(tmp_path, budget=30, patience=2, resume=True)
    assert list(again.run())[-1] == last
    assert len(again.leaderboard.trials) == last.n_trials


def test_a_run_left_before_a_baseline_that_is_another_once_more_goes_on(tmp_path):
    def twice(resume=False):
        run = stream(tmp_path, resume=resume)
        first = run.baselines[0]
        run.baselines += (replace(first, trial_id=N_BASELINES),)
        return run

    run = twice()
    for event in run.run():
        if isinstance(event, TrialFinished) and len(run.ledger.trials) == N_BASELINES:
            break
    *_, last = twice(resume=True).run()
    assert last == RunFinished("budget", N_BASELINES + 1 + BUDGET)


def test_whoever_is_to_run_the_trials_when_it_begins_runs_them(tmp_path):
    run, other = stream(tmp_path), Recording((), 2)
    run.executor = other
    list(run.run())
    assert len(other.jobs) == N_BASELINES + BUDGET


@pytest.mark.parametrize(("kind", "ids"), [("told", [3]), ("asked", [N_BASELINES + 9])])
def test_a_ledger_whose_turns_nobody_can_take_is_refused(tmp_path, kind, ids):
    list(stream(tmp_path, order=10).run())
    file = RunFolder(tmp_path).ledger
    text = file.read_text().splitlines()
    place = [n for n, line in enumerate(lines(tmp_path)) if line["kind"] == kind][3]
    text[place] = json.dumps({"kind": kind, "ids": ids})
    file.write_text("\n".join(text) + "\n")
    with pytest.raises(LedgerError, match="asked or told in another order"):
        list(stream(tmp_path, resume=True).run())


def test_idle_time_is_kept_with_the_trials(tmp_path):
    run = stream(tmp_path, "cma_es", workers=3, population=4)
    clock = iter(range(10_000))
    run._stream.idle = IdleTime(lambda: next(clock))
    list(run.run())
    ledger = Ledger.open(RunFolder(tmp_path), read_only=True)
    idle = [trial.idle for _, trial in sorted(ledger.trials.items())]
    assert sum(idle[N_BASELINES:]) > 0  # the last trials have no others beside them
    assert idle == [run.ledger.trials[i].idle for i in range(len(idle))]


def test_idle_time_is_that_of_all_free_slots():
    now = iter([0.0, 10.0, 13.0, 20.0, 21.0])
    idle = IdleTime(lambda: next(now))
    idle.note(2)  # at 10
    idle.note(0)  # at 13
    assert idle.taken() == 6.0  # at 20
    assert idle.taken() == 0.0


@pytest.mark.parametrize("optimizer", ["tpe", "random", *POPULATIONS])
def test_a_ledger_of_batches_is_continued(tmp_path, optimizer):
    """As of one worker; older versions told of generations so whatever the number of workers."""
    size = 4 if optimizer in POPULATIONS else 2
    batches = search(tmp_path, optimizer=optimizer, population=size, budget=8)
    list(batches.run())
    assert max(len(ids) for ids in batches.ledger.told[1:]) == size
    again = stream(tmp_path, optimizer, population=size, order=11, resume=True)
    *_, last = again.run()
    assert last == RunFinished("budget", N_BASELINES + BUDGET)
    assert min(again.executor.jobs) >= (N_BASELINES + 8, "tasks")


def eager(run, optimizer, size):
    """The run with an optimizer that learns from its second trial on, asked for so many at once."""
    kind, space = OPTIMIZERS[optimizer], run.merge_space.space
    settings = kind.Settings(n_startup_trials=2)
    made = kind(space, seed=0, population_size=size, settings=settings)
    run.proposer = Proposer(made, run.merge_space, run.ledger)
    return run


@pytest.mark.parametrize("optimizer", ["niches", pytest.param("gp", marks=pytest.mark.slow)])
def test_a_run_of_batches_that_was_killed_in_its_first_one_goes_on(tmp_path, optimizer):
    """No line tells of an ask then; of three trials two were over."""
    list(eager(search(tmp_path, optimizer=optimizer, budget=3), optimizer, 3).run())
    file, last = RunFolder(tmp_path).ledger, N_BASELINES + 2
    whole = file.read_text().splitlines(keepends=True)
    is_lost = [
        line["ids"][0] >= N_BASELINES if line["kind"] == "told" else line.get("id") == last
        for line in lines(tmp_path)
    ]
    kept = "".join(line for line, lost in zip(whole, is_lost, strict=True) if not lost)
    file.write_text(kept)
    with pytest.raises(LedgerError, match="is another one than the optimizer proposes now"):
        list(eager(stream(tmp_path, optimizer, resume=True), optimizer, 1).run())
    file.write_text(kept)
    size = _asked_at_once(Ledger.open(RunFolder(tmp_path), read_only=True), 3)
    again = eager(stream(tmp_path, optimizer, budget=6, resume=True), optimizer, size)
    *_, end = again.run()
    assert end == RunFinished("budget", N_BASELINES + 6)
    assert min(again.executor.jobs) == (last, "tasks")


def test_how_many_were_asked_for_at_once_is_what_the_ledger_tells(tmp_path):
    found = []
    run = stream(tmp_path, order=3)
    for _ in run.run():
        found.append(_asked_at_once(run.ledger, 3))
    assert set(found) == {None, 1}  # whoever asks one by one writes down that it does
