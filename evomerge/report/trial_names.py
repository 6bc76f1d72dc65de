"""Short names of trials for people: ``sort`` for ``model experts/sort``."""

from __future__ import annotations

from collections.abc import Iterable

from evomerge.nouns.trial import Trial


def short_origins(trials: Iterable[Trial]) -> dict[int, str]:
    """Trial id -> a short name of where a baseline comes from.

    A model goes by the last part of its path where that is unique, the base by ``base``.
    """
    origins = {t.candidate.trial_id: t.candidate.origin for t in trials if t.candidate.is_baseline}
    tails = {trial_id: _tail(origin) for trial_id, origin in origins.items()}
    names = {}
    for trial_id, origin in origins.items():
        kind, _, model = origin.partition(" ")
        if kind == "base":
            names[trial_id] = "base"
        elif kind == "model":
            is_unique = list(tails.values()).count(tails[trial_id]) == 1
            names[trial_id] = tails[trial_id] if is_unique else model
        else:
            names[trial_id] = origin
    return names


def _tail(origin: str) -> str:
    return origin.partition(" ")[2].rstrip("/").rpartition("/")[2]
