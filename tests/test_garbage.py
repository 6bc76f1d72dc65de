"""Garbage is looked for seldom while trials make thousands of tuples."""

from __future__ import annotations

import gc

import pytest

from evomerge.foundations.garbage import collect_again, collecting_later


@pytest.fixture
def counted():
    """How often garbage was looked for; the settings of the suite come back."""
    before, looks = gc.get_threshold(), []

    def note(phase, info):
        looks.append(phase)

    gc.callbacks.append(note)
    yield looks
    gc.callbacks.remove(note)
    gc.set_threshold(*before)


def test_the_documents_of_a_trial_are_no_reason_to_look(counted):
    gc.set_threshold(700, 10, 10)  # Python's own
    collect_again()
    counted.clear()
    kept = [(number, number) for number in range(5_000)]
    assert (len(kept), counted) == (5_000, [])


def test_nobody_looks_while_a_command_starts(counted):
    with collecting_later():
        counted.clear()
        kept = [(number, number) for number in range(100_000)]
        assert (len(kept), counted) == (100_000, [])
    assert gc.isenabled()
