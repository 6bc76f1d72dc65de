"""One merge: a document that ``mergekit-yaml`` builds. Of a file of several stages it is the last.

Nobody builds the stages before it: what they make has to be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.foundations.reading import is_folder
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.base import Command, Hear, RecipeKind
from evomerge.recipe.file import recipe_config, stage_names, used_names


class Merge(RecipeKind):
    """Models, slices or modules, merged by one method."""

    key = "merge_method"
    program = "mergekit-yaml"

    @classmethod
    def takes(cls, documents: Sequence[YamlFile]) -> bool:
        """Whatever no other kind takes."""
        return True

    @classmethod
    def read(cls, documents: Sequence[YamlFile], hear: Hear) -> dict[str, Any]:
        """The last document; keys that mergekit ignores are told and left out."""
        *before, last = documents
        names = stage_names(before)
        missing = sorted(name for name in used_names(last, names) if not is_folder(name))
        if missing:
            raise GenomeError(
                f"holds {len(documents)} stages of mergekit-multi, and the last merges what others "
                f"make: {', '.join(missing)}",
                where=last.where(()),
                fix="Build those with mergekit-multi and put the last stage, with their folders, "
                "into a file of its own; or give a file with one of the stages before.",
            )
        return recipe_config(last, hear)

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """Its method is a name, if it has one; the rest is left to mergekit."""
        method = config.get("merge_method", "")
        if not isinstance(method, str):
            raise ValueError(f"merge_method is {method!r}, expected a name")

    @classmethod
    def commands(
        cls, config: Mapping[str, Any], files: Sequence[str], out: str, stages: str
    ) -> tuple[Command, ...]:
        """The recipe and the folder."""
        return (Command(cls.program, "mergekit.scripts.run_yaml", (*files, out)),)
