"""Recipe: one complete configuration, of any kind; its digest and its YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evomerge.foundations.canonical import canonical_json, digest
from evomerge.genome.model_names import ModelName
from evomerge.recipe import RECIPE_KINDS, walk
from evomerge.recipe.base import Command, Document, RecipeKind, Use
from evomerge.recipe.pool import Pool

_DTYPES = ("dtype", "out_dtype")
_OF_A_COPY = {"merge_method", "models", *_DTYPES}
PLAIN = "merge"  # the kind whose recipes are one merge
SIGNIFICANT_DIGITS = 6  # float32, in which recipes compute, resolves seven


def rounded(value: float) -> float:
    """The value as a recipe writes it: six significant digits."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


@dataclass(frozen=True)
class Recipe:
    """A plain mergekit configuration; equal configurations have equal digests.

    The models stand in it as the user named them, so that it builds anywhere.

    Args:
        config: The configuration as mergekit's YAML holds it: mappings, lists, text,
            numbers. Not to be changed afterwards.
    """

    config: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the content; independent of key order."""
        return digest(self.config)

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def kind(self) -> str:
        """Its kind, by name."""
        return next((name for name, k in RECIPE_KINDS.items() if k.key in self.config), PLAIN)

    @property
    def _kind(self) -> type[RecipeKind]:
        kind: type[RecipeKind] = RECIPE_KINDS[self.kind]
        return kind

    @property
    def is_plain(self) -> bool:
        """Whether it is one merge and nothing else."""
        return self.kind == PLAIN

    def check(self) -> None:
        """Looks at what a stranger may have written.

        Raises:
            ValueError: it has not the shape of its kind.
        """
        self._kind.check(self.config)

    @property
    def documents(self) -> tuple[Document, ...]:
        """Its merges as mergekit reads them, in the order in which they are made."""
        return self._kind.documents(self.config)

    @property
    def is_stage(self) -> bool:
        """Whether mergekit-multi makes it for other merges."""
        return self._kind.is_stage

    @property
    def runs_code(self) -> bool:
        """Whether its program runs code of the models it names without being told to trust it."""
        return self._kind.runs_code

    @property
    def parts(self) -> tuple[tuple[Document, ...], Document]:
        """The merges that are made for others first, and what makes the model."""
        return self._kind.parts(self.config)

    def of_parts(self, before: Sequence[Document], last: Document) -> Recipe:
        """A recipe like it, of other :attr:`parts`."""
        return Recipe(self._kind.whole(before, last))

    @property
    def made(self) -> tuple[str, ...]:
        """What it calls the models that its merges make for one another, in order."""
        return self._kind.made(self.config)

    @cached_property
    def models(self) -> tuple[ModelName, ...]:
        """Those it merges and bases, once each, in the order in which it names them."""
        return self._given(walk.merged_in(self.config))

    @property
    def named(self) -> tuple[ModelName, ...]:
        """The same with those that only give tokens."""
        return self._given(walk.named_in(self.config))

    def _given(self, models: list[ModelName]) -> tuple[ModelName, ...]:
        made = self.made
        return tuple(model for model in models if model.path not in made)

    @property
    def copied(self) -> ModelName | None:
        """The model that it gives back as it is; None where it does something to it."""
        before, last = self.parts
        is_copy = not before and last.get("merge_method") == "passthrough"
        if not is_copy or set(last) - _OF_A_COPY:
            return None
        entries = last.get("models") or []
        return walk.merged_in(entries)[0] if [*map(set, entries)] == [{"model"}] else None

    @property
    def whole_model(self) -> ModelName | None:
        """The model that it gives back with every bit; a dtype rounds, which mergekit has to do."""
        is_rounded = any(self.parts[1].get(key) is not None for key in _DTYPES)
        return None if is_rounded else self.copied

    @property
    def whole_models(self) -> frozenset[ModelName]:
        """The models that answer as they are, of which no merge in it takes anything."""
        alone = self.whole_model
        if alone is not None:
            return frozenset((alone,))
        members = tuple(map(Recipe, self.documents)) if self.pool else ()
        merged = {model for one in members if not one.copied for model in one.models}
        return frozenset(one.copied for one in members if one.copied) - merged

    @property
    def methods(self) -> tuple[str, ...]:
        """The merge methods it names."""
        return tuple(dict.fromkeys(str(one.get("merge_method", "")) for one in self.documents))

    @property
    def dtype(self) -> str | None:
        """That of the weights of its model; None: that of the models it is made of."""
        return self._kind.dtype(self.config)

    @property
    def uses(self) -> tuple[Use, ...]:
        """The merges that its model is made of; those that are made for these are theirs to say."""
        return self._kind.uses(self.config)

    @property
    def pool(self) -> Pool | None:
        """How the models of its documents answer together; None: it makes one model."""
        return self._kind.pool(self.config)

    @property
    def drawn(self) -> tuple[str, ...]:
        """What of its model mergekit draws at random, beside what its methods do."""
        return self._kind.drawn(self.config)

    @property
    def structure_key(self) -> str:
        """Equal for recipes that differ in values of parameters only."""
        return canonical_json(walk.with_settings(self.config, lambda _: None))

    def with_models(self, change: walk.Change) -> Recipe:
        """The same merge of other models.

        Args:
            change: From a model to the one in its place, or to itself.
        """
        made = self.made
        return Recipe(walk.with_models(self.config, lambda m: m if m.path in made else change(m)))

    def to_yaml(self) -> str:
        """YAML of all of it, in one text; equal recipes give equal text."""
        return self._kind.text(self.config)

    @property
    def unbuilt(self) -> str:
        """Why no command of mergekit builds it; empty where one does."""
        return self._kind.unbuilt

    @property
    def unadapted(self) -> str:
        """Why no adapter of a base makes its model; empty where one may."""
        return self._kind.unadapted

    @property
    def program(self) -> str:
        """The command of mergekit that makes its model; empty where none does."""
        return self._kind.program

    def files(self, stages: Path | str) -> Mapping[str, str]:
        """What its commands read: a file's name -> its text.

        Args:
            stages: A folder for what is built on the way.
        """
        return self._kind.files(self.config, str(stages))

    def commands(
        self, files: Sequence[Path | str], out: Path | str, stages: Path | str
    ) -> tuple[Command, ...]:
        """What builds it, one after the other.

        Args:
            files: Where :meth:`files` are, in their order.
            out: The folder to be built.
            stages: A folder for what is built on the way.
        """
        return self._kind.commands(self.config, tuple(map(str, files)), str(out), str(stages))
