"""The contract of every kind of recipe: what it is made of, how it is written, what builds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from evomerge.foundations.findings import Finding
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.pool import Pool
from evomerge.recipe.recipe_text import to_text
from evomerge.recipe.stage_names import with_names

Hear = Callable[[Finding], None]
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """One command of mergekit.

    Attributes:
        program: Its name.
        module: What it runs.
        arguments: What follows its name.
    """

    program: str
    module: str
    arguments: tuple[str, ...]


def none_dropped(architecture: str, name: str) -> str:
    """Of a merge that reaches its model with every tensor."""
    return ""


@dataclass(frozen=True)
class Use:
    """A merge that a model is made of.

    Attributes:
        document: It, as mergekit reads it.
        dropped: From the models' architecture and a tensor's name to why it reaches the model no
            more; empty where it does.
    """

    document: Document
    dropped: Callable[[str, str], str] = none_dropped


class RecipeKind(ABC):
    """What recipes of one kind have in common; it is never made.

    A recipe's configuration is what a ledger and a best.yml hold of it, whatever its kind.

    Attributes:
        key: What configurations of this kind, and of no other, have at their top.
        unbuilt: Why no command of mergekit builds it; empty where one does.
        unadapted: Why no adapter of a base makes its model; empty where one may.
        program: The command of mergekit that makes its model; empty where none does.
        is_stage: Whether mergekit-multi makes it for other merges.
        runs_code: Whether that command runs code of the models it is given without being told to
            trust it, and reads weights of those that only give tokens.
    """

    key: ClassVar[str]
    unbuilt: ClassVar[str] = ""
    unadapted: ClassVar[str] = ""
    program: ClassVar[str] = ""
    is_stage: ClassVar[bool] = True
    runs_code: ClassVar[bool] = False

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
    def commands(
        cls, config: Mapping[str, Any], files: Sequence[str], out: str, stages: str
    ) -> tuple[Command, ...]:
        """What builds it, one after the other; nothing of what is not built.

        Args:
            config: What is built.
            files: Where :meth:`files` are, in their order.
            out: The folder to be built.
            stages: A folder for what is built on the way.
        """
        return ()

    @classmethod
    def files(cls, config: Mapping[str, Any], stages: str) -> dict[str, str]:
        """What the commands read: a file's name -> its text; one file for most kinds.

        Args:
            config: What is built.
            stages: The folder for what is built on the way, as the commands have it.
        """
        return {"recipe.yml": cls.text(config)}

    @classmethod
    def documents(cls, config: Mapping[str, Any]) -> tuple[Document, ...]:
        """Its merges as mergekit reads them, in the order in which they are made."""
        return (config,)

    @classmethod
    def parts(cls, config: Mapping[str, Any]) -> tuple[tuple[Document, ...], Document]:
        """The merges that are made for others first, and what makes the model."""
        *before, last = cls.documents(config)
        return tuple(before), last

    @classmethod
    def whole(cls, before: Sequence[Document], last: Document) -> dict[str, Any]:
        """The configuration of :meth:`parts`, of which there may be more or fewer than there were.

        Args:
            before: Merges that call one another as stages are called here.
            last: What makes the model of theirs.
        """
        return {"stages": [*with_names(before), dict(last)]} if before else dict(last)

    @classmethod
    def made(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What it calls the models that its merges make for one another, in order."""
        return ()

    @classmethod
    def uses(cls, config: Mapping[str, Any]) -> tuple[Use, ...]:
        """The merges that its model is made of; those that are made for these are theirs to say."""
        return (Use(cls.documents(config)[-1]),)

    @classmethod
    def pool(cls, config: Mapping[str, Any]) -> Pool | None:
        """How the models of its :meth:`documents` answer together; None: it makes one model.

        Such a recipe comes to life and is verified member by member, and nothing builds it.
        """
        return None

    @classmethod
    def dtype(cls, config: Mapping[str, Any]) -> str | None:
        """That of the weights of its model; None: that of the models it is made of."""
        last = cls.documents(config)[-1]
        return last.get("out_dtype") or last.get("dtype")

    @classmethod
    def drawn(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What of its model mergekit draws at random, beside what the methods of its merges do."""
        return ()

    @classmethod
    def text(cls, config: Mapping[str, Any]) -> str:
        """YAML that :meth:`read` takes back; equal configurations give equal text."""
        return to_text(config)
