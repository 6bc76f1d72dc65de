"""What a worker process started ends with it, whatever ended the worker."""

from __future__ import annotations

import os

import pytest

from evomerge.executors.base import Job, JobFinished
from evomerge.executors.processes import Processes
from evomerge.nouns.evaluation import TrialState
from tests.contract.test_executors import job
from tests.fake_executor import Hosting
from tests.test_lifetime import comes, is_gone


@pytest.fixture
def run(tmp_path):
    """Runs jobs in a process that starts programs; gives their ids, by the group of each."""
    executors = []

    def run(*jobs, trial_timeout=None, closes=False):
        started = tmp_path / "started"
        executor = Processes(Hosting(str(started)), 1, trial_timeout)
        executors.append(executor)
        done = [event for event in executor.run(jobs) if isinstance(event, JobFinished)]
        if closes:
            executor.close()
        pids = [tuple(map(int, line.split())) for line in started.read_text().splitlines()]
        return done, pids

    yield run
    for executor in executors:
        executor.close()


def test_a_worker_leads_a_group_of_its_own_with_the_programs_it_starts(run):
    _, [(worker, own), (_, first), (_, bare), (_, apart)] = run(job(0))
    assert worker == own == first == bare
    assert len({own, apart, os.getpgid(0)}) == 3


@pytest.mark.parametrize("stage", ["merge", "evaluate"])
def test_they_end_with_a_worker_that_is_killed_for_being_late(run, stage):
    [done], pids = run(Job(job(0, hangs=stage).candidate), trial_timeout=2.0)
    assert done.outcome.state is TrialState.FAILED
    assert len(pids) == 4
    assert comes(lambda: all(is_gone(pid) for pid, _ in pids))


def test_they_end_with_a_worker_that_dies(run):
    [done], pids = run(job(0, dies=True))
    assert "exit code 3" in done.outcome.failure
    assert len(pids) == 2 * 4  # it is tried twice
    assert comes(lambda: all(is_gone(pid) for pid, _ in pids))


def test_they_end_with_a_worker_that_leaves(run):
    _, pids = run(job(0), closes=True)
    assert comes(lambda: all(is_gone(pid) for pid, _ in pids))
