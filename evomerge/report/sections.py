"""What a run tells of its tasks and its optimizers: one line here adds a section.

What kinds of tasks and optimizers tell of themselves are lines beside their tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from evomerge.evaluators import SECTIONS as OF_TASKS
from evomerge.genome.words import SPLITS
from evomerge.nouns.section import Section
from evomerge.optimizers import SECTIONS as OF_OPTIMIZERS
from evomerge.report.answers_section import answers_section
from evomerge.report.limits_section import limits_section
from evomerge.report.lost_section import lost_section
from evomerge.report.stages_section import stages_section
from evomerge.report.steering_section import steering_section
from evomerge.report.tensors_section import tensors_section
from evomerge.report.workers_section import workers_section
from evomerge.run.recorded_run import RecordedRun

Make = Callable[[RecordedRun], Section | None]


def sections_of(run: RecordedRun) -> list[Section]:
    """The sections of a run; none where there is nothing to tell.

    Raises:
        LedgerError: what an optimizer kept is broken.
    """
    return [section for make in _sections(run) if (section := make(run)) is not None]


def _sections(run: RecordedRun) -> Iterator[Make]:
    yield stages_section
    yield limits_section
    yield steering_section
    yield answers_section
    kinds = {task.kind for split in SPLITS for task in run.genome.split(split)}
    yield from (OF_TASKS[name] for name in OF_TASKS if name in kinds)
    searched = {link.name for link in run.genome.optimizer.links}
    yield from (OF_OPTIMIZERS[name] for name in OF_OPTIMIZERS if name in searched)
    yield tensors_section
    yield workers_section
    yield lost_section  # the last: it tells what the others met
