"""Whether the models' tokenizer fits the texts of the search tasks."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.findings import Finding, warning
from evomerge.preflight.subject import Subject


def tokenizer_and_texts(subject: Subject) -> Iterator[Finding]:
    """Missing BOS, texts that do not survive encoding."""
    evaluator = subject.evaluators.get("tasks")
    if evaluator is None or subject.tokenizer is None or subject.config is None:
        return
    for sentence in evaluator.warnings(subject.tokenizer, subject.config):
        yield warning(sentence)
