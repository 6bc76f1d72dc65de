"""Files of a run's documents that are broken, and count as missing."""

from __future__ import annotations

from evomerge.nouns.section import Section
from evomerge.run.recorded_run import RecordedRun

_MEANING = (
    "They count as missing: what these trials gained is told without an error, or not at all. "
    "Restore the files from a copy."
)


def lost_section(run: RecordedRun) -> Section | None:
    """One row per file that was looked into and is broken; nothing where none was."""
    if not run.lost:
        return None
    return Section(
        "broken_documents",
        "documents of trials that cannot be read",
        ("file", "what is there"),
        tuple(run.lost.items()),
        (_MEANING,),
        {"broken": dict(run.lost)},
    )
