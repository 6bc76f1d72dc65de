"""Kinds of recipes that end in something else than a merge, and may have merges before it.

Their configuration has the merges, with names, as ``merges``, and under the kind's own key what
the last document says; that takes models and what the merges make.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.genome.model_names import ModelName
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.base import Command, Document, Hear, RecipeKind
from evomerge.recipe.recipe_text import to_text
from evomerge.recipe.stage_names import with_names
from evomerge.recipe.stages import (
    check_adapters,
    check_stages,
    checked,
    in_order,
    multi,
    named_stages,
    renamed,
)
from evomerge.recipe.walk import merged_in, with_models

_MERGES, _FILE = "merges", "merges.yml"


class OnMerges(RecipeKind):
    """Merges that mergekit-multi builds, if any, and what is made of them."""

    is_stage = False

    @classmethod
    @abstractmethod
    def said(cls, document: YamlFile, hear: Hear) -> Mapping[str, Any]:
        """What the last document says.

        Args:
            document: It.
            hear: Takes a finding about every key that mergekit ignores.
        """

    @classmethod
    @abstractmethod
    def flaws(cls, last: Mapping[str, Any]) -> Iterator[str]:
        """Why its command would stop, as far as what is said shows."""

    @classmethod
    def written(cls, last: Mapping[str, Any]) -> Document:
        """The last document of its file."""
        return last

    @classmethod
    def read(cls, documents: Sequence[YamlFile], hear: Hear) -> dict[str, Any]:
        """The merges that the last document needs, and what it says."""
        *before, last = in_order(documents)
        ours = renamed(before)
        config = {_MERGES: named_stages(before, ours, hear), cls.key: ours.of(cls.said(last, hear))}
        return checked(config, cls.check, last)

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """Whatever its command refuses before it reads a model, and folders outside its own."""
        merges, last = config.get(_MERGES), config[cls.key]
        if not isinstance(merges, list):
            raise ValueError(f"{_MERGES} is {merges!r}, expected a list")
        names = check_stages(merges)
        if not isinstance(last, Mapping):
            raise ValueError(f"{cls.key} is {last!r}, expected a mapping")
        check_adapters(config, names)
        for index, merge in enumerate(merges):
            later = [model.path for model in merged_in(merge) if model.path in names[index:]]
            if later:
                raise ValueError(f"{names[index]} merges {', '.join(later)}, made after it")
        wrong = [*cls.flaws(last)]
        if wrong:
            raise ValueError("; ".join(wrong))

    @classmethod
    def files(cls, config: Mapping[str, Any], stages: str) -> dict[str, str]:
        """The merges, where there are some."""
        return {_FILE: "---\n".join(map(to_text, config[_MERGES]))} if config[_MERGES] else {}

    @classmethod
    def built_before(cls, files: Sequence[str], stages: str) -> tuple[Command, ...]:
        """What builds the merges of these files into a folder of stages."""
        return tuple(multi(file, stages=stages) for file in files)

    @classmethod
    def placed(cls, config: Mapping[str, Any], stages: str) -> Mapping[str, Any]:
        """What the last document says, with the folders in which the merges are built."""
        names = cls.made(config)

        def built(model: ModelName) -> ModelName:
            path = f"{stages}/{model.path}" if model.path in names else model.path
            return model.model_copy(update={"path": path})

        placed: Mapping[str, Any] = with_models(config[cls.key], built)
        return placed

    @classmethod
    def documents(cls, config: Mapping[str, Any]) -> tuple[Document, ...]:
        """The merges without their names."""
        return tuple({k: v for k, v in one.items() if k != "name"} for one in config[_MERGES])

    @classmethod
    def parts(cls, config: Mapping[str, Any]) -> tuple[tuple[Document, ...], Document]:
        """The merges, and what the last document says."""
        return cls.documents(config), config[cls.key]

    @classmethod
    def whole(cls, before: Sequence[Document], last: Document) -> dict[str, Any]:
        """The merges, and what is made of them."""
        return {_MERGES: with_names(before), cls.key: dict(last)}

    @classmethod
    def made(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the merges."""
        return tuple(merge["name"] for merge in config[_MERGES])

    @classmethod
    def dtype(cls, config: Mapping[str, Any]) -> str | None:
        """That of what is made of the merges."""
        found: str | None = config[cls.key].get("dtype")
        return found

    @classmethod
    def text(cls, config: Mapping[str, Any]) -> str:
        """One document per merge, and the last."""
        return "---\n".join(map(to_text, (*config[_MERGES], cls.written(config[cls.key]))))
