"""The tasks of a run that cannot steer it, with what the models read and answered."""

from __future__ import annotations

from dataclasses import asdict

from evomerge.nouns.section import Section
from evomerge.run.recorded_run import RecordedRun
from evomerge.run.steering import doubts, sample_text


def steering_section(run: RecordedRun) -> Section | None:
    """One row per task that tells no merge from another; nothing where all of them do."""
    found = doubts(
        run.leaderboard.objective, run.leaderboard.trials, run.documents, run.members("tasks")
    )
    if not found:
        return None
    return Section(
        "cannot_steer",
        "tasks that cannot steer the search",
        ("task", "what is seen"),
        tuple((doubt.task, "; ".join(doubt.reasons)) for doubt in found),
        tuple(sample_text(doubt.sample) for doubt in found if doubt.sample is not None),
        {"tasks": [asdict(doubt) for doubt in found]},
    )
