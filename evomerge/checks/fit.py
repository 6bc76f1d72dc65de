"""Whether the models' tokenizer fits the texts of the search tasks."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.findings import Finding, error, warning


def tokenizer_and_texts(context: CheckContext) -> Iterator[Finding]:
    """Missing BOS, texts that do not survive encoding."""
    evaluator = context.evaluators.get("tasks")
    if evaluator is None or context.tokenizer is None or context.config is None:
        return
    try:
        sentences = evaluator.warnings(context.tokenizer, context.config)
    except GenomeError as problems:
        yield from (error(p.what, p.where, p.fix) for p in problems.problems)
        return
    yield from map(warning, sentences)
