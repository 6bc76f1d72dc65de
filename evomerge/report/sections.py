"""What a run tells of its tasks and its optimizers: one line here adds a section."""

from __future__ import annotations

from collections.abc import Callable

from evomerge.report.dialogues import dialogues_section
from evomerge.report.lost_section import lost_section
from evomerge.report.section import Section
from evomerge.report.steering_section import steering_section
from evomerge.report.swarm_section import swarm_section
from evomerge.report.training_section import training_section
from evomerge.run.recorded_run import RecordedRun

_SECTIONS: tuple[Callable[[RecordedRun], Section | None], ...] = (
    steering_section,
    swarm_section,
    training_section,
    dialogues_section,
    lost_section,  # the last: it tells what the others met
)


def sections_of(run: RecordedRun) -> list[Section]:
    """The sections of a run; none where there is nothing to tell.

    Raises:
        LedgerError: what an optimizer kept is broken.
    """
    return [section for make in _SECTIONS if (section := make(run)) is not None]
