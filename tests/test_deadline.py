from __future__ import annotations

import pytest

from evomerge.deadline import Deadline
from evomerge.errors import TrialTimeoutError


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
