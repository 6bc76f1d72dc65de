from __future__ import annotations

import math
import pickle

import pytest

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import SearchTimeoutError, TrialTimeoutError


def test_a_deadline_is_over_when_its_seconds_are():
    now = [10.0]
    deadline = Deadline(5, clock=lambda: now[0])
    deadline.check()
    now[0] = 15.0
    deadline.check()
    now[0] = 15.1
    with pytest.raises(TrialTimeoutError, match="took longer than 5 seconds"):
        deadline.check()


def test_without_seconds_it_is_never_over():
    now = [0.0]
    deadline = Deadline(clock=lambda: now[0])
    now[0] = 1e9
    deadline.check()
    assert deadline.moment == math.inf


@pytest.mark.parametrize(
    ("seconds", "search_end", "now", "error"),
    [
        (5, None, 15.1, TrialTimeoutError),
        (5, 12.0, 12.0, None),
        (5, 12.0, 12.1, SearchTimeoutError),
        (5, 12.0, 99.0, SearchTimeoutError),
        (5, 20.0, 15.1, TrialTimeoutError),
        (5, 20.0, 99.0, TrialTimeoutError),
        (None, 12.0, 12.1, SearchTimeoutError),
        (None, 9.0, 10.0, SearchTimeoutError),
    ],
)
def test_of_two_limits_the_first_to_come_counts(seconds, search_end, now, error):
    times = [10.0]
    deadline = Deadline(seconds, lambda: times[0], search_end)
    times[0] = now
    assert type(deadline.missed()) is (error or type(None))
    assert deadline.missed(by=1000.0) is None


def test_a_deadline_travels_to_another_process():
    deadline = Deadline(5, search_end=7.0)
    assert pickle.loads(pickle.dumps(deadline)) == deadline
