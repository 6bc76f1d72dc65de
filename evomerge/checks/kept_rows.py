"""Whether what a geometric mixture keeps of its models has room: then trials run none of them."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.checks.need import COMPUTED_BYTES
from evomerge.foundations.findings import Finding, note
from evomerge.foundations.sizes import size_text
from evomerge.recipe.pool import ROWS_BYTES


def kept_rows(context: CheckContext) -> Iterator[Finding]:
    """Search tasks for which a geometric mean needs more than is kept: every trial runs all models.

    A row of the whole vocabulary for each model and each position that is asked for, of which
    there is at least one in every row of a pass.
    """
    space, evaluator = context.merge_space, context.evaluators.get("tasks")
    if space is None or evaluator is None:
        return
    pool = space.recipe(space.space.decode(space.space.initial)).pool
    if pool is None:
        return
    sizes = [model.text_config.get("vocab_size") for model in context.models]
    vocabulary = max((size for size in sizes if isinstance(size, int)), default=0)
    n_rows = sum(task.n_rows for task in evaluator.facts() if not task.max_new_tokens)
    n_bytes = n_rows * len(pool.weights) * vocabulary * COMPUTED_BYTES
    if pool.mean == "geometric" and n_bytes > ROWS_BYTES:
        yield note(
            f"a geometric mean takes the whole vocabulary at every position, at least"
            f" {size_text(n_bytes)} for the search tasks, and {size_text(ROWS_BYTES)} are kept:"
            f" every trial runs all {len(pool.weights)} models",
            "genome.space.mean",
            "Use mean: arithmetic or fewer documents where trials are to take no pass.",
        )
