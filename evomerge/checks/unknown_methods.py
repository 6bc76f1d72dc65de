"""What only mergekit knows of a genome: methods that packages register, blocks of tokens."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.checks.extremes import end_points
from evomerge.foundations.findings import Finding, error, note

_METHOD, _TOKENIZER = "genome.merge_method", "tokenizer"


def unknown_method(context: CheckContext) -> Iterator[Finding]:
    """Says that nothing is known of such a method."""
    merge_space = context.merge_space
    if merge_space is not None and merge_space.method.packages:
        method = merge_space.method
        yield note(
            f"nothing is known of {method.name}, which {' or '.join(method.packages)} registers "
            "with mergekit: no range, no good value, no point of its space beforehand; mergekit's "
            "own kernel merges",
            _METHOD,
        )


def refused_merges(context: CheckContext) -> Iterator[Finding]:
    """What mergekit itself would refuse at ends and in choices, where no table knows it."""
    merge_space, tokenizer = context.merge_space, context.genome.genome.tokenizer
    has_tokens = tokenizer is not None and bool(tokenizer.tokens)
    if merge_space is None or not (merge_space.method.packages or has_tokens):
        return
    from evomerge.merging.refusals import refusals  # loads mergekit

    recipes = map(merge_space.recipe, end_points(merge_space.space))
    architecture = merge_space.architecture
    refused = (why for recipe in recipes for why in refusals(recipe, architecture))
    for why in dict.fromkeys(refused):
        where = f"genome.{_TOKENIZER}" if why.startswith(_TOKENIZER) else _METHOD
        yield error(f"mergekit would refuse merges: {why}", where, "Give what it takes.")
