"""Larger limits that a search was given, and whether its final scores were known by then."""

from __future__ import annotations

from evomerge.nouns.section import Section
from evomerge.run.recorded_run import RecordedRun


def limits_section(run: RecordedRun) -> Section | None:
    """One row per limit that was raised; nothing where none was."""
    rows = [
        (name, _shown(extension.was[name]), _shown(extension.now[name]))
        for extension in run.ledger.extensions
        for name in extension.raised
    ]
    if not rows:
        return None
    told = (
        "Final scores were known when the search was given more: where they are why, holdout "
        "has steered it."
    )
    is_seen = any(extension.knew_finals for extension in run.ledger.extensions)
    return Section(
        "limits",
        "limits that were raised while the search went on",
        ("limit", "was", "then"),
        tuple(rows),
        (told,) if is_seen else (),
        {"raised": [list(row) for row in rows], "knew_finals": is_seen},
    )


def _shown(limit: float | None) -> str:
    return "none" if limit is None else f"{limit:g}"
