"""What the best trial answered to a few documents of each task, for people to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from evomerge.genome.words import SPLITS
from evomerge.nouns.evaluation import Sample
from evomerge.nouns.section import Section
from evomerge.run.recorded_run import RecordedRun
from evomerge.run.steering import sample_text


def answers_section(run: RecordedRun) -> Section | None:
    """A row per answer that was kept whole; nothing where none was."""
    if not run.winners:
        return None
    trial_id = run.winners[0].candidate.trial_id
    found = [*_kept(run, trial_id)]
    if not found:
        return None
    return Section(
        "answers",
        f"what trial {trial_id} answered, the first documents",
        ("split", "task", "document"),
        tuple((split, one.task, str(one.doc_id)) for split, one in found),
        (
            *(sample_text(one) for _, one in found),
            f"Every answer of a trial: `evomerge show RUN --answers {trial_id}`.",
        ),
        {"trial": trial_id, "samples": [{"split": split, **asdict(one)} for split, one in found]},
    )


def _kept(run: RecordedRun, trial_id: int) -> Iterator[tuple[str, Sample]]:
    for split in SPLITS:
        evaluation = run.evaluation(split, trial_id)
        yield from ((split, one) for one in (evaluation.samples if evaluation else ()))
