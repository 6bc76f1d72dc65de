"""Merge methods that packages register, of which nothing but their own word is known."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.checks.extremes import extreme_points
from evomerge.foundations.findings import Finding, error, note

_WHERE = "genome.merge_method"


def unknown_method(context: CheckContext) -> Iterator[Finding]:
    """Says that nothing is known of such a method; what it refuses itself at the space's ends."""
    merge_space = context.merge_space
    if merge_space is None or not merge_space.method.packages:
        return
    from evomerge.merging.refusals import refusals  # loads mergekit

    method = merge_space.method
    yield note(
        f"nothing is known of {method.name}, which {' or '.join(method.packages)} registers with "
        "mergekit: no range, no good value, no point of its space beforehand; mergekit's own "
        "kernel merges",
        _WHERE,
    )
    recipes = map(merge_space.recipe, extreme_points(merge_space.space))
    architecture = merge_space.architecture
    refused = (why for recipe in recipes for why in refusals(recipe, architecture))
    for why in dict.fromkeys(refused):
        yield error(f"mergekit would refuse merges: {why}", _WHERE, "Give what it takes.")
