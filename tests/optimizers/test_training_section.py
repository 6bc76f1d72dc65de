"""Losses and score of each epoch side by side, and where they part."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.nouns.trial import Candidate, Trial
from evomerge.optimizers.gradient.training_section import TrainedEpoch, _parting, _rows, _with_kept
from evomerge.optimizers.search_context import Lesson
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.old_origins import origin_in

TRIAL = Trial(
    Candidate(0, origin_in("optimizer, epoch 1"), Recipe({})), Outcome(TrialState.COMPLETE)
)


def epochs(*told):
    """Each with the epoch it went on from, its loss, its score, and the score it had to beat."""
    found = []
    for number, (after, loss, score, best) in enumerate(told, 1):
        to_beat = None if best is None else -best
        lesson = Lesson(np.zeros(1), b"", {"nll": loss}, to_beat=to_beat, after=after)
        found.append(TrainedEpoch(0, number, lesson, TRIAL, loss, score))
    return _with_kept(found)


def test_what_was_taken_back_stands_beside_loss_and_score():
    told = epochs(
        (0, 2.0, 0.5, 0.4), (1, 1.5, 0.3, 0.5), (2, 1.4, None, 0.5), (1, 1.8, 0.4, 0.5),
        (4, 1.7, 0.6, 0.5), (5, 1.6, 0.5, 0.6),
    )  # fmt: skip
    assert [row[:4] for row in _rows(told, ["nll"])] == [
        ("1", "2", "0.5000", ""),
        ("2", "1.5", "0.3000", "taken back"),
        ("3", "1.4", "failed", "taken back"),
        ("4", "1.8", "0.4000", ""),  # the way to the best leads through it
        ("5", "1.7", "0.6000", ""),
        ("6", "1.6", "0.5000", "taken back"),
    ]


def test_an_epoch_that_began_before_a_better_one_was_scored_takes_nothing_back():
    found = epochs((0, 2.0, 0.5, 0.4), (1, 1.5, 0.45, 0.4))
    assert [one.is_kept for one in found] == [True, False]


def test_where_nothing_beats_the_start_all_of_it_is_taken_back():
    assert not any(one.is_kept for one in epochs((0, 2.0, 0.3, 0.4), (1, 1.0, 0.3, 0.4)))
    assert all(one.is_kept for one in epochs((None, 2.0, 0.3, None), (None, 1.0, 0.2, None)))


@pytest.mark.parametrize(
    ("told", "first"),
    [
        ([(0, 2.0, 0.5, 0.4), (1, 1.5, 0.3, 0.5), (2, 1.4, 0.2, 0.5)], 2),
        ([(0, 2.0, 0.5, 0.4), (1, 1.9, 0.6, 0.5), (2, 1.5, 0.3, 0.6), (2, 1.4, 0.4, 0.6)], 3),
        ([(0, 2.0, 0.5, 0.4), (1, 1.5, 0.3, 0.5), (2, 1.4, 0.6, 0.5)], None),  # once is chance
        ([(0, 2.0, 0.5, 0.4), (1, 2.5, 0.3, 0.5), (2, 2.6, 0.2, 0.5)], None),  # both are worse
    ],
)
def test_it_is_said_when_loss_and_score_part(told, first):
    found = list(_parting(epochs(*told)))
    assert len(found) == (first is not None)
    assert all(one.startswith(f"From epoch {first} on the loss falls") for one in found)
