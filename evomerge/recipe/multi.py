"""Several merges, one after the other: documents with names that ``mergekit-multi`` builds.

What one makes, later ones merge by its name; the last makes the model. mergekit-multi takes every
text that equals a name for the model, methods and all, and builds each below a folder, so the
stages get names of our own that are nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.foundations.reading import is_folder
from evomerge.genome.model_names import ModelName
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.base import Document, Hear, RecipeKind
from evomerge.recipe.file import recipe_config, stage_names, used_names
from evomerge.recipe.recipe_text import to_text
from evomerge.recipe.stage_names import multi_config, stage_name
from evomerge.recipe.walk import merged_in, with_models


class Multi(RecipeKind):
    """Stages in the order in which they are built."""

    key = "stages"
    program = "mergekit-multi"
    module = "mergekit.scripts.multimerge"

    @classmethod
    def takes(cls, documents: Sequence[YamlFile]) -> bool:
        """Several documents, the last of which merges what others are yet to make."""
        *before, last = documents
        return any(not is_folder(name) for name in used_names(last, stage_names(before)))

    @classmethod
    def read(cls, documents: Sequence[YamlFile], hear: Hear) -> dict[str, Any]:
        """The stages that the last one needs, and it."""
        order = [*_in_order(documents)]
        own = {str(stage.data["name"]): stage_name(i) for i, stage in enumerate(order[:-1])}

        def renamed(model: ModelName) -> ModelName:
            return model.model_copy(update={"path": own.get(model.path, model.path)})

        stages = [with_models(recipe_config(_nameless(one), hear), renamed) for one in order]
        config = multi_config(stages)
        try:
            cls.check(config)
        except ValueError as error:
            raise _refusal(documents[-1], str(error), "Correct it.") from error
        return config

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """Stages with the names that are given here, so that no folder is outside its own."""
        stages = config["stages"]
        if not isinstance(stages, list) or not stages:
            raise ValueError(f"stages is {stages!r}, expected a list")
        names = [*map(stage_name, range(len(stages) - 1)), None]
        for stage, name in zip(stages, names, strict=True):
            if not isinstance(stage, Mapping) or stage.get("name") != name:
                raise ValueError(f"a stage is {stage!r}, expected one with the name {name!r}")
            if not isinstance(stage.get("merge_method"), str):
                raise ValueError(f"a stage has no merge_method: {stage!r}")
        for model in merged_in(stages):
            if model.path in names and model.text != model.path:
                raise ValueError(f"{model} puts an adapter on what a stage makes")

    @classmethod
    def arguments(cls, recipe_file: str, out: str, stages: str) -> list[str]:
        """Nothing that an earlier build left among the stages is taken for one of its own."""
        return [recipe_file, "--out-path", out, "--intermediate-dir", stages, "--no-lazy"]

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


def _nameless(stage: YamlFile) -> YamlFile:
    """Its name, which mergekit-multi reads, is nothing that mergekit ignores."""
    if not isinstance(stage.data, dict):
        return stage
    return replace(stage, data={k: v for k, v in stage.data.items() if k != "name"})


def _in_order(documents: Sequence[YamlFile]) -> Iterator[YamlFile]:
    """The stages that the last one needs, each after those that it merges itself.

    Raises:
        GenomeError: two have one name, or they need each other.
    """
    *before, last = documents
    if stage_names([last]) and any(not stage_names([stage]) for stage in before):
        what = "mergekit-multi makes the model of the stage without a name, which is not the last"
        raise _refusal(last, what, "Put that stage last.")
    named: dict[str, YamlFile] = {}
    for stage in before:
        for name in stage_names([stage]):
            if name in named:
                raise _refusal(stage, f"two stages have the name {name}", "Rename one of them.")
            named[name] = stage
    done: set[str] = set()

    def needed(stage: YamlFile, above: tuple[str, ...]) -> Iterator[YamlFile]:
        for name in sorted(used_names(stage, named)):
            if name in above:
                what = f"stages need each other: {' -> '.join((*above, name))}"
                raise _refusal(stage, what, "Let each merge what those before it make.")
            if name not in done:
                yield from needed(named[name], (*above, name))
                done.add(name)
        yield stage

    return needed(last, ())


def _refusal(stage: YamlFile, what: str, fix: str) -> GenomeError:
    return GenomeError(what, where=stage.where(()), fix=fix)
