"""Short names of trials for people: ``sort`` for ``model experts/sort``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from evomerge.nouns.origin import OriginKind
from evomerge.nouns.trial import Trial
from evomerge.recipe.path_text import path_text


def short_origins(trials: Iterable[Trial]) -> dict[int, str]:
    """Trial id -> a short name of where a baseline comes from.

    A model goes by the last part of its path where that is unique, the base by ``base``.
    """
    origins = {t.candidate.trial_id: t.candidate.origin for t in trials if t.candidate.is_baseline}
    count = Counter(origin.tail for origin in origins.values())
    return {
        trial_id: origin.name
        if origin.kind is OriginKind.MODEL and count[origin.tail] > 1
        else origin.short
        for trial_id, origin in origins.items()
    }


def trial_notes(trials: Iterable[Trial]) -> dict[int, str]:
    """Trial id -> what stands beside it: where a baseline comes from, which layers a stack runs."""
    listed = list(trials)
    paths = {t.candidate.trial_id: path_text(t.candidate.recipe) for t in listed}
    return {**paths, **short_origins(listed)}
