"""Several trials at once, each in a process of its own that ends with it.

Nothing that a trial leaves behind reaches the next one: memory of the machine or of a GPU that is
never given back, what merge methods and judges of others change in their process. It costs the
loading of a worker for every job, and no worker knows what another one scored before.
"""

from __future__ import annotations

import time

from evomerge.executors.processes import SECONDS_TO_LEAVE, Processes
from evomerge.executors.slot import Slot


class Isolated(Processes):
    """Runs up to ``n_workers`` jobs at once, each in a new process.

    The process is gone before its job is told to be over, so that what it held is free for the
    next one: it is asked to leave, and killed where it does not.
    """

    def _set_free(self, slot: Slot) -> None:
        super()._set_free(slot)
        self._slots.remove(slot)
        slot.dismiss()
        slot.end(time.monotonic() + SECONDS_TO_LEAVE)
