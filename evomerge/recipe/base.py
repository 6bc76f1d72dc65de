"""The contract of every kind of recipe: what it is made of, how it is written, what builds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from evomerge.foundations.findings import Finding
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.recipe_text import to_text

Hear = Callable[[Finding], None]
Document = Mapping[str, Any]


class RecipeKind(ABC):
    """What recipes of one kind have in common; it is never made.

    A recipe's configuration is what a ledger and a best.yml hold of it, whatever its kind.

    Attributes:
        key: What configurations of this kind, and of no other, have at their top.
        unbuilt: Why no command of mergekit builds it; empty where one does.
        program: The command of mergekit that builds it; empty where none does.
        module: The module that the command runs; likewise.
    """

    key: ClassVar[str]
    unbuilt: ClassVar[str] = ""
    program: ClassVar[str] = ""
    module: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def takes(cls, documents: Sequence[YamlFile]) -> bool:
        """Whether a file that holds these, at least one, is a recipe of this kind."""

    @classmethod
    @abstractmethod
    def read(cls, documents: Sequence[YamlFile], hear: Hear) -> dict[str, Any]:
        """The configuration that a file holds.

        Args:
            documents: Of a file that it takes.
            hear: Takes a finding about every key that mergekit ignores.

        Raises:
            GenomeError: it is no recipe, or has keys that are known ones misspelt.
        """

    @classmethod
    @abstractmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """Looks at what a ledger or a best.yml holds, which may be a stranger's.

        Raises:
            ValueError: it has not the shape of this kind, so that others could not read it.
        """

    @classmethod
    def arguments(cls, recipe_file: str, out: str, stages: str) -> list[str]:
        """What follows the program's name; of kinds that have one.

        Args:
            recipe_file: The recipe as :meth:`text` writes it.
            out: The folder to be built.
            stages: A folder for what is built on the way.
        """
        raise NotImplementedError(f"nothing builds it: {cls.unbuilt}")

    @classmethod
    def documents(cls, config: Mapping[str, Any]) -> tuple[Document, ...]:
        """Its merges as mergekit reads them, in the order in which they are made."""
        return (config,)

    @classmethod
    def made(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What its merges call the models that those before them make, in order."""
        return ()

    @classmethod
    def text(cls, config: Mapping[str, Any]) -> str:
        """YAML that the program builds; equal configurations give equal text."""
        return to_text(config)
