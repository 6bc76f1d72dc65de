"""A language that the replies of lm-eval's tasks have to be in, as one more of lm-eval's filters.

It goes before the task's own filters, so that whoever scores the task applies it, and every
metric has its own word on a reply that says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.filter import Filter

from evomerge.evaluators.asking.language_gate import IN_LANGUAGE, LanguageGate
from evomerge.foundations.errors import Problem
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import Document, Metric, MetricKey


class ReplyLanguage(Filter):  # type: ignore[misc]  # lm_eval ships no types
    """Has a reply in another language be read as none at all.

    Args:
        gate: The languages that are wanted.

    Attributes:
        others: Each reply that was looked at last -> the language it is in; None: it counts.
        were_in: Of each of these, whether it counts.
    """

    def __init__(self, gate: LanguageGate) -> None:
        super().__init__()
        self.gate = gate
        self.others: dict[str, str | None] = {}
        self.were_in: list[bool] = []

    def __call__(self) -> ReplyLanguage:
        """Itself, where lm-eval makes a filter anew each time."""
        return self

    def apply(self, resps: Sequence[Sequence[str]], docs: Sequence[Any]) -> list[list[str]]:
        """See lm-eval."""
        replies = [reply for own in resps for reply in own]
        self.others = {reply: self.gate.other(reply) for reply in dict.fromkeys(replies)}
        self.were_in = [self.others[reply] is None for reply in replies]
        return [["" if self.others[reply] else reply for reply in own] for own in resps]

    def marked(self, document: Document, replies: Sequence[str]) -> Document:
        """A document that says whether its replies counted, and keeps what was written if not.

        Args:
            document: As it was scored.
            replies: To it, before any filter; they were looked at last.
        """
        others = [self.others[reply] for reply in replies]
        share = others.count(None) / len(others)
        answer = document.answer if share else replies[0].strip()
        note = self.gate.note([*dict.fromkeys(one for one in others if one is not None)])
        return document._replace(
            values={**document.values, f"{IN_LANGUAGE.name},none": share},
            answer=f"{answer}{note}" if note else answer,
        )

    def metric(self, task: str) -> Metric:
        """The share of replies that counted.

        Args:
            task: Whose replies they are.
        """
        n, key = len(self.were_in), MetricKey(task, IN_LANGUAGE.name, "none")
        share = sum(self.were_in) / n if n else 0.0
        error = math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else None
        return Metric(key, share, error, n, IN_LANGUAGE.higher_is_better)


def reply_language_of(task: Task) -> ReplyLanguage | None:
    """What the replies of a task have to be in; None: in any language."""
    given = task.language
    languages = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    return ReplyLanguage(LanguageGate(languages)) if languages else None


def unfit(language: ReplyLanguage, objects: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """What keeps it from being looked at.

    Args:
        language: What is wanted.
        objects: lm-eval's tasks, by name.
        where: Key path of the task in the genome.
    """
    for problem in language.gate.unknown():
        yield Problem(problem.what, f"{where}.{problem.where}", problem.fix)
    for name, item in objects.items():
        if item.OUTPUT_TYPE != "generate_until":
            what = f"task {name!r} has no reply written that could be in a language: it compares "
            yield Problem(f"{what}likelihoods", f"{where}.language", "Leave language out.")


def put_first(language: ReplyLanguage, item: Any) -> None:
    """Puts it before the filters of a task."""
    for ensemble in item._filters:  # no public name; `Task.apply_filters` runs these
        ensemble.filters.insert(0, language)
