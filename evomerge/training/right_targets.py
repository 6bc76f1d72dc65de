"""Which targets the tasks themselves would give full marks, each asked once in the life of a run.

A metric of lm-eval's own is asked for nothing. The own code of a task may be a judge that costs
money and is of another mind tomorrow: what it said is kept in the run folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from evomerge.evaluators.questions import Question
from evomerge.foundations.errors import LedgerError
from evomerge.optimizers.search_context import Artifacts

NAME = "targets.json"


class RightTargets:
    """Asks when a target is to be learned, not before.

    Args:
        artifacts: Where it is kept what tasks' own code said.
        tell: Tells people that it is asked.

    Raises:
        LedgerError: what was kept is broken.
    """

    def __init__(self, artifacts: Artifacts, tell: Callable[[str], None]) -> None:
        self._artifacts, self._tell = artifacts, tell
        self._judged: dict[str, bool] = {}  # document -> what was said of its target
        self._known: dict[str, bool] = {}  # the same of lm-eval's metrics, which nobody keeps
        self._is_new = False
        self._told: set[str] = set()  # tasks whose own code people know to be asked
        kept = artifacts.recall(NAME)
        if kept is not None:
            try:
                self._judged = {str(key): bool(said) for key, said in json.loads(kept).items()}
                self._told = {json.loads(key)[0] for key in self._judged}
            except (ValueError, AttributeError, TypeError, LookupError) as error:
                raise LedgerError(
                    f"not what tasks said of their targets ({error})",
                    where=f"optimizer/{NAME}",
                    fix="Restore the file from a copy, or start a new run folder.",
                ) from error

    def holds(self, question: Question) -> bool:
        """Whether the target of a document is right."""
        target = question.target
        if target is None:
            return False
        name, doc_id = question.document
        key = json.dumps([name, doc_id, question.metric])
        known = self._judged if target.is_judged else self._known
        if key not in known:
            if target.is_judged and name not in self._told:
                self._told.add(name)
                self._tell(
                    f"{name}: its own code is asked, once for each target that may be learned, "
                    "whether that is right"
                )
            known[key] = target.is_right()
            self._is_new |= target.is_judged
        return known[key]

    def keep(self) -> None:
        """Keeps what was said since the last time."""
        if self._is_new:
            self._artifacts.keep(NAME, json.dumps(self._judged, sort_keys=True).encode())
            self._is_new = False
