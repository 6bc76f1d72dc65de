"""Several merges, one after the other: documents with names that ``mergekit-multi`` builds.

What one makes, later ones merge by its name; the last makes the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.foundations.reading import is_folder
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.base import Command, Document, Hear, RecipeKind
from evomerge.recipe.file import recipe_config, stage_names, used_names
from evomerge.recipe.recipe_text import to_text
from evomerge.recipe.stages import (
    check_adapters,
    check_stages,
    checked,
    in_order,
    multi,
    named_stages,
    nameless,
    renamed,
)


class Multi(RecipeKind):
    """Stages in the order in which they are built."""

    key = "stages"
    program = "mergekit-multi"

    @classmethod
    def takes(cls, documents: Sequence[YamlFile]) -> bool:
        """Several documents, the last of which merges what others are yet to make."""
        *before, last = documents
        return any(not is_folder(name) for name in used_names(last, stage_names(before)))

    @classmethod
    def read(cls, documents: Sequence[YamlFile], hear: Hear) -> dict[str, Any]:
        """The stages that the last one needs, and it."""
        *before, last = in_order(documents)
        ours = renamed(before)
        made = ours.of(recipe_config(nameless(last), hear))
        config = {"stages": [*named_stages(before, ours, hear), made]}
        return checked(config, cls.check, documents[-1])

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """Stages with the names that are given here, so that no folder is outside its own."""
        stages = config["stages"]
        if not isinstance(stages, list) or not stages:
            raise ValueError(f"stages is {stages!r}, expected a list")
        names = check_stages(stages[:-1])
        last = stages[-1]
        if not isinstance(last, Mapping) or last.get("name") is not None:
            raise ValueError(f"a stage is {last!r}, expected one with the name None")
        if not isinstance(last.get("merge_method"), str):
            raise ValueError(f"a stage has no merge_method: {last!r}")
        check_adapters(config, names)

    @classmethod
    def commands(
        cls, config: Mapping[str, Any], files: Sequence[str], out: str, stages: str
    ) -> tuple[Command, ...]:
        """Nothing that an earlier build left among the stages is taken for one of its own."""
        return (multi(*files, "--out-path", out, stages=stages),)

    @classmethod
    def documents(cls, config: Mapping[str, Any]) -> tuple[Document, ...]:
        """The stages without their names."""
        return tuple({k: v for k, v in one.items() if k != "name"} for one in config["stages"])

    @classmethod
    def made(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of all but the last."""
        return tuple(stage["name"] for stage in config["stages"][:-1])

    @classmethod
    def text(cls, config: Mapping[str, Any]) -> str:
        """One document per stage."""
        return "---\n".join(map(to_text, config["stages"]))
