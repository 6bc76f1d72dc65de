"""A recipe's file -> what mergekit reads of it; what it ignores is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.errors import GenomeError, Problem
from evomerge.foundations.findings import Finding, note, warning
from evomerge.genome.source import Source
from evomerge.recipe.keys import Ignored, ignored_keys, without

Hear = Callable[[Finding], None]


def recipe_config(source: Source, hear: Hear) -> dict[str, Any]:
    """What mergekit reads of a recipe.

    Args:
        source: The recipe's file.
        hear: Takes a finding about every key that mergekit ignores: a warning, or a note where
            such a key is common. Helpers, whose anchors are used elsewhere, are not told.

    Raises:
        GenomeError: it is no recipe, or has keys that are known ones misspelt.
    """
    content, file = source.data, Path(source.name)
    if not isinstance(content, dict) or "merge_method" not in content:
        raise GenomeError(
            f"{file} is neither a recipe nor a best.yml: it names no merge_method",
            fix=_other_kind(content),
        )
    try:
        canonical_json(content)
    except ValueError as error:  # YAML has .nan and .inf
        raise GenomeError(
            f"{file} holds what no recipe can ({error})", fix="Write finite numbers."
        ) from error
    ignored = sorted(ignored_keys(content), key=lambda one: source.lines.get(one.path, 0))
    told = [one for one in ignored if one.meant or not source.is_helper(one.path)]
    misspelt = [_misspelt(one, source) for one in told if one.meant]
    if misspelt:
        raise GenomeError.of(misspelt)
    for one in told:
        hear(_finding(one, source))
    return without(content, ignored)


def _misspelt(one: Ignored, source: Source) -> Problem:
    what = f"mergekit ignores {one.path[-1]!r}; did you mean {one.meant!r}?"
    return Problem(what, source.where(one.path), "Mend or remove it.")


def _finding(one: Ignored, source: Source) -> Finding:
    report = note if one.is_known else warning
    what = f"mergekit ignores {one.path[-1]!r}: {one.why}; it is left out"
    return report(what, source.where(one.path))


def _other_kind(content: Any) -> str:
    if isinstance(content, dict) and "experts" in content:
        return "Build this recipe of mergekit-moe with mergekit-moe; it is no merge to search."
    return "Name a mergekit recipe, a best.yml, or a run folder."
