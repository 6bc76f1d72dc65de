"""Where the time of a trial goes, phase by phase.

A phase is the time inside some functions without that of the phases called from them.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from evomerge.foundations.garbage import collect_again
from evomerge.nouns.events import TrialFinished
from evomerge.run.search import Search

KERNELS, FORWARD = "merge: kernels", "score: forward passes"
MERGE, SCORE = "merge: around the kernels", "score: around the forward passes"
LOOP = "search and events"
# Module, name in it, phase.
WATCHED = (
    ("evomerge.merging.kernels.engine", "ByKernel.write", KERNELS),
    ("evomerge.merging.kernels.engine", "ByMergekit.write", KERNELS),
    ("evomerge.merging.resident", "ResidentMerger.merge", MERGE),
    ("evomerge.merging.path_merger", "PathMerger.merge", MERGE),
    ("transformers", "PreTrainedModel.__call__", FORWARD),
    ("evomerge.evaluators.lm_eval.evaluator", "LmEval.evaluate", SCORE),
    ("evomerge.evaluators.lm_eval.evaluator", "score", "filters, metrics, standard errors"),
    ("evomerge.optimizers.base", "Optimizer.ask", "ask"),
    ("evomerge.optimizers.base", "Optimizer.tell", "tell"),
    ("evomerge.nouns.space", "Space.decode", "render: point, recipe, digest"),
    (
        "evomerge.merge_spaces.parameter_space",
        "ParameterSpace.recipe",
        "render: point, recipe, digest",
    ),
    ("evomerge.recipe.plain", "digest", "render: point, recipe, digest"),
    ("evomerge.nouns.objective", "Objective.losses", "objective and leaderboard"),
    ("evomerge.nouns.objective", "Objective.scores", "objective and leaderboard"),
    ("evomerge.run.leaderboard", "Leaderboard.with_trial", "objective and leaderboard"),
    ("evomerge.run.ledger.store", "write_documents", "ledger: documents"),
    ("evomerge.run.ledger.history", "trial_line", "ledger: lines"),
    ("evomerge.run.ledger.history", "canonical_json", "ledger: lines"),
    ("evomerge.run.ledger.store", "LedgerFile.append", "ledger: lines"),
    ("evomerge.run.search", "write_best", "best.yml"),
    ("os", "fsync", "waiting for the disk"),
)
Spent = Counter[str]  # phase -> seconds


class Phases:
    """Seconds of each phase since the clock was made."""

    def __init__(self) -> None:
        self.spent: Spent = Counter()
        self._inside = [LOOP]
        self._since = time.perf_counter()

    def around(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, as a part of a phase."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.lap()
            self._inside.append(phase)
            try:
                return function(*args, **kwargs)
            finally:
                self.lap()
                self._inside.pop()

        return timed

    def lap(self) -> Spent:
        """What was spent up to now."""
        now = time.perf_counter()
        self.spent[self._inside[-1]] += now - self._since
        self._since = now
        return self.spent.copy()


@contextmanager
def watched() -> Iterator[Phases]:
    """Measures every phase inside."""
    phases = Phases()
    undo: list[tuple[Any, str, Any]] = []
    for module, path, phase in WATCHED:
        *parents, name = path.split(".")
        owner = functools.reduce(getattr, parents, importlib.import_module(module))
        undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, phases.around(phase, undo[-1][2]))
    try:
        yield phases
    finally:
        for owner, name, function in reversed(undo):
            setattr(owner, name, function)


def trials_of(search: Search) -> list[Spent]:
    """What each trial of the optimizer took, from the end of the one before to its own."""
    found = []
    collect_again()  # as `evomerge run` does
    with watched() as phases:
        before = phases.lap()
        for event in search.run():
            if isinstance(event, TrialFinished):
                now = phases.lap()
                if not event.candidate.is_baseline:
                    found.append(now - before)
                before = now
    return found
