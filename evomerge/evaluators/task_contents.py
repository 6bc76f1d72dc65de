"""What a task is made of, as far as rules about its documents ask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TaskContents:
    """Documents of one task; a group has one of these for each member.

    Attributes:
        task: Which entry of the genome it belongs to, by name.
        name: What its documents go by: ``task``, or the member of a group.
        documents: Digests of each document that is scored, in order: of what it asks, and of
            its row in the data. Documents that share one of them are the same.
        examples: Digests of the documents that worked examples are drawn from.
        hides_own: Whether a document is never an example in its own prompt.
        benchmark: The public test or validation split that it is, as ``test of openai/gsm8k``;
            empty for a training split and for a task of the user's own.
    """

    task: str
    name: str
    documents: tuple[tuple[str, ...], ...]
    examples: frozenset[str] = frozenset()
    hides_own: bool = True
    benchmark: str = ""


def digests_of(documents: Iterable[tuple[str, ...]]) -> frozenset[str]:
    """All digests of some documents."""
    return frozenset(digest for document in documents for digest in document)


def members_of(contents: Iterable[TaskContents]) -> dict[str, list[str]]:
    """Task -> the names its documents go by, for groups."""
    members: dict[str, list[str]] = {}
    for part in contents:
        members.setdefault(part.task, []).append(part.name)
    return {task: names for task, names in members.items() if names != [task]}
