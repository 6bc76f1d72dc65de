"""What can be known of a judge before a run: whether it can be asked, and what is odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from evomerge.endpoint.presence import key_obstacles, overheard, unlisted, unreachable
from evomerge.evaluators.judge.judge_settings import (
    OTHERWISE,
    REFERENCED,
    TEMPERATURES,
    JudgeSettings,
)
from evomerge.evaluators.judge.question_file import JudgedQuestion
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import nearest
from evomerge.foundations.findings import Finding, Severity, note, warning
from evomerge.foundations.text_safety import one_name


def findings_of(
    settings: JudgeSettings, questions: Sequence[JudgedQuestion], n_judgments: int
) -> Iterator[Finding]:
    """Everything; the server is asked for a sign of life where nothing else is in the way.

    Args:
        settings: Of the task.
        questions: That are asked, with the references that the judge is shown.
        n_judgments: Of one trial that is asked all of them.
    """
    yield from _categories(settings, questions)
    yield from _references(settings, questions)
    yield note(
        f"{settings.judge_name} judges all questions once by "
        f"{counted(n_judgments, 'request')}, less those of answers that it has judged before",
        "local_model" if settings.model is None else "model",
    )
    if settings.model is not None:
        yield from _endpoint(settings)


def _endpoint(settings: JudgeSettings) -> Iterator[Finding]:
    """Whether the judge can be reached."""
    keys = [*key_obstacles(settings)]
    may_ask = settings.probe and not keys
    silent = [*unreachable(settings, "a run begins without it")] if may_ask else []
    yield from (Finding(Severity.ERROR, one) for one in (*keys, *silent))
    odd = [*overheard(settings)]
    if may_ask and not silent:
        odd += unlisted(settings)
    yield from (Finding(Severity.WARNING, one) for one in odd)


def _categories(settings: JudgeSettings, questions: Sequence[JudgedQuestion]) -> Iterator[Finding]:
    """Categories that nobody has given a temperature, and settings of no category."""
    counts = Counter(one.category for one in questions)
    places = [(one, f"temperatures.{one_name(one)}") for one in settings.temperatures]
    for place, one in enumerate(settings.referenced):
        if one not in REFERENCED:  # FastChat's are there by default
            places.append((one, f"referenced[{place}]"))
    for category, where in places:
        if category not in counts:
            yield warning(
                f"no question has the category {one_name(category)!r}"
                f"{nearest(category, [*counts])}",
                where,
                "Leave it out.",
            )
    for category, n in counts.items():
        if category not in {**TEMPERATURES, **settings.temperatures}:
            yield warning(
                f"{counted(n, 'question')} of the category {one_name(category)!r}, which FastChat "
                f"does not know{nearest(category, [*TEMPERATURES])}, "
                f"{'is' if n == 1 else 'are'} answered at temperature {OTHERWISE:g}",
                "questions",
                "Mend the category, or name it under temperatures.",
            )


def _references(settings: JudgeSettings, questions: Sequence[JudgedQuestion]) -> Iterator[Finding]:
    """Questions whose judge should see a right answer, and has none."""
    bare = [one for one in questions if one.category in settings.referenced and not one.references]
    if bare:
        names = ", ".join(dict.fromkeys(one_name(one.category) for one in bare))
        yield warning(
            f"{counted(len(bare), 'question')} of {names} {'has' if len(bare) == 1 else 'have'} "
            "no reference answer, and the judge is shown none",
            "questions",
            "Name a file under references, or add a `reference` to each.",
        )
