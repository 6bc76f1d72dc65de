"""Whether the models' tokenizer fits the texts of the tasks."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.evaluators.base import problems_of_split
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.findings import Finding, error, warning


def tokenizer_and_texts(context: CheckContext) -> Iterator[Finding]:
    """Missing BOS, texts that do not survive encoding, no room for an answer."""
    if context.tokenizer is None or context.config is None:
        return
    told: dict[str, None] = {}  # splits say much alike
    for split, evaluator in context.evaluators.items():
        try:
            told |= dict.fromkeys(evaluator.warnings(context.tokenizer, context.config))
        except GenomeError as problems:
            of_split = problems_of_split(problems, split)
            yield from (error(p.what, p.where, p.fix) for p in of_split)
    yield from map(warning, told)
