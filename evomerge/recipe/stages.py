"""Merges that are made for others: named documents, in the order in which they are built.

mergekit-multi takes every text that equals a name for the model, methods and all, and builds each
below a folder, so the stages get names of our own that are nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.genome.model_names import ModelName
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.base import Command, Hear
from evomerge.recipe.file import recipe_config, stage_names, used_names
from evomerge.recipe.stage_names import stage_name
from evomerge.recipe.walk import merged_in, with_models


@dataclass(frozen=True)
class Renamed:
    """The names of ours that stages get.

    Attributes:
        own: Name in the file -> ours, in order.
    """

    own: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Ours."""
        return tuple(self.own.values())

    def of(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """A document that names what the stages make by these."""

        def ours(model: ModelName) -> ModelName:
            return model.model_copy(update={"path": self.own.get(model.path, model.path)})

        return dict(with_models(part, ours))


def renamed(stages: Sequence[YamlFile]) -> Renamed:
    """Names of ours for stages that have names."""
    names = [str(stage.data["name"]) for stage in stages]
    return Renamed({name: stage_name(index) for index, name in enumerate(names)})


def named_stages(stages: Sequence[YamlFile], ours: Renamed, hear: Hear) -> list[dict[str, Any]]:
    """What each stage merges, under its name of ours.

    Args:
        stages: Those that got the names, in their order.
        ours: The names.
        hear: Takes a finding about every key that mergekit ignores.
    """
    return [
        {"name": name, **ours.of(recipe_config(nameless(stage), hear))}
        for name, stage in zip(ours.names, stages, strict=True)
    ]


def check_stages(stages: Sequence[Any]) -> tuple[str, ...]:
    """The names of stages that a stranger may have written.

    Raises:
        ValueError: one has another name than :func:`renamed` gives, or is no merge.
    """
    names = tuple(map(stage_name, range(len(stages))))
    for stage, name in zip(stages, names, strict=True):
        if not isinstance(stage, Mapping) or stage.get("name") != name:
            raise ValueError(f"a stage is {stage!r}, expected one with the name {name!r}")
        if not isinstance(stage.get("merge_method"), str):
            raise ValueError(f"a stage has no merge_method: {stage!r}")
    return names


def check_adapters(config: Mapping[str, Any], names: Collection[str]) -> None:
    """Nothing but the name itself means what a stage makes.

    Raises:
        ValueError: an adapter or a revision stands beside one.
    """
    for model in merged_in(config):
        if model.path in names and model.text != model.path:
            raise ValueError(f"{model} puts an adapter on what a stage makes")


def multi(*arguments: str, stages: str) -> Command:
    """mergekit-multi; nothing that an earlier build left is taken for one of its own."""
    options = ("--intermediate-dir", stages, "--no-lazy")
    return Command("mergekit-multi", "mergekit.scripts.multimerge", (*arguments, *options))


def nameless(stage: YamlFile) -> YamlFile:
    """A stage without its name, which is nothing that mergekit ignores."""
    if not isinstance(stage.data, dict):
        return stage
    return replace(stage, data={k: v for k, v in stage.data.items() if k != "name"})


def in_order(documents: Sequence[YamlFile]) -> Iterator[YamlFile]:
    """The documents that the last one needs, each after those that it merges itself, and it.

    Raises:
        GenomeError: two have one name, or they need each other.
    """
    *before, last = documents
    if stage_names([last]) and any(not stage_names([stage]) for stage in before):
        what = "mergekit-multi makes the model of the stage without a name, which is not the last"
        raise refusal(last, what, "Put that stage last.")
    named: dict[str, YamlFile] = {}
    for stage in before:
        for name in stage_names([stage]):
            if name in named:
                raise refusal(stage, f"two stages have the name {name}", "Rename one of them.")
            named[name] = stage
    done: set[str] = set()

    def needed(stage: YamlFile, above: tuple[str, ...]) -> Iterator[YamlFile]:
        for name in sorted(used_names(stage, named)):
            if name in above:
                what = f"stages need each other: {' -> '.join((*above, name))}"
                raise refusal(stage, what, "Let each merge what those before it make.")
            if name not in done:
                yield from needed(named[name], (*above, name))
                done.add(name)
        yield stage

    return needed(last, ())


def checked(
    config: dict[str, Any], check: Callable[[Mapping[str, Any]], None], document: YamlFile
) -> dict[str, Any]:
    """A configuration that a check of its kind has passed; what it says is told of a document.

    Raises:
        GenomeError: the check did not pass.
    """
    try:
        check(config)
    except ValueError as error:
        raise refusal(document, str(error), "Correct it.") from error
    return config


def refusal(stage: YamlFile, what: str, fix: str) -> GenomeError:
    """A mistake of a document, with its place."""
    return GenomeError(what, where=stage.where(()), fix=fix)
