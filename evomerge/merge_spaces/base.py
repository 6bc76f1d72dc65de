"""The contract of every merge space: what varies, and what a point means as a recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.block import Block
from evomerge.genome.merge_block import SPACE_KEYS, MergeDefinition
from evomerge.genome.methods import method_named
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.genome.yaml_file import dotted
from evomerge.merge_spaces.idle import IdleParameter
from evomerge.merge_spaces.learnable import Learnable
from evomerge.models.architecture import Architecture
from evomerge.nouns.space import Point, Space
from evomerge.recipe.kept_stages import Made, unfolded
from evomerge.recipe.plain import Recipe


class SpaceSettings(Block):
    """Settings of one merge space, which stand under ``genome.space``; subclasses add fields."""

    model_config = ConfigDict(allow_inf_nan=False)


class MergeSpace(ABC):
    """Turns a genome into a space, and points of it into recipes.

    Subclasses write ``_build``, ``recipe`` and the known points. What others may ask of a space
    beyond that has an answer here, which says that it cannot.

    Args:
        definition: The ``genome:`` block.
        architecture: What the models have in common.
        out_dtype: Dtype of merged models where the genome does not say.
        tasks: Names of the tasks, those that judge the same in each split together.

    Attributes:
        name: Its name in the table.
        Settings: Its own settings.
        reads: Keys of ``genome:`` that say what varies and may stand beside it.
        merge_method: The one of its recipes; empty: the genome names it.
        folds_adapters: Whether LoRA adapters are folded into their bases before anything else.
        mixes: Whether its recipes are mixtures: all models answer, token by token.
        unlearned: Why it has no weights that could be learned; empty where it has.
        unadapted: Why no adapter of a base makes any model of it; empty where one may.
        reads_modules: Whether its recipes merge parts of models, each with models of its own.
        writes_slices: Whether its recipes always have slices, which mergekit cuts of one part only.
        mixes_depths: Whether its models may have different numbers of layers.
        one_vocabulary: Why its models have one and none is chosen; empty where one may be.
        idle: Parameters that are left out because they would change nothing.
        made: Of its models those that earlier stages made, by folder, and how.
        conditional: Names of coordinates that act only where others say so.
        longest_path: Layers of the deepest model it makes, where that is its own to say.
        tops: Models of which one alone gives final norm and head, where it is never a merge.
        scaled_tensors: Names of the tensors of a layer that it may scale; see `Architecture`.
        reads_prompts: Whether a merge of it reads prompts before a candidate is whole.

    Raises:
        GenomeError: nothing varies, or the genome asks for what the space cannot do.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[SpaceSettings]] = SpaceSettings
    reads: ClassVar[frozenset[str]] = SPACE_KEYS
    merge_method: ClassVar[str] = ""
    folds_adapters: ClassVar[bool] = True
    mixes: ClassVar[bool] = False
    unlearned: ClassVar[str] = ""
    unadapted: str = ""
    reads_modules: ClassVar[bool] = False
    mixes_depths: ClassVar[bool] = False
    one_vocabulary: ClassVar[str] = ""
    writes_slices: ClassVar[bool] = False
    idle: Sequence[IdleParameter] = ()
    made: Made = MappingProxyType({})
    conditional: Collection[str] = ()
    longest_path: int | None = None
    tops: tuple[ModelName, ...] = ()
    scaled_tensors: tuple[str, ...] = ()
    reads_prompts: bool = False

    def __init__(
        self,
        definition: MergeDefinition,
        architecture: Architecture,
        out_dtype: str,
        tasks: Sequence[Sequence[str]] = (),
    ) -> None:
        misfits = [*self.misfits(definition)]
        if misfits:
            raise GenomeError.of(
                [Problem(str(one), dotted(("genome", *one.path)), one.fix) for one in misfits]
            )
        self.definition = definition = self.settled(definition)
        self.settings = self.Settings.model_validate(
            definition.space.settings if definition.space else {}
        )
        self.architecture = architecture
        if self.writes_slices and architecture.parts:
            raise GenomeError(
                f"space {self.name} cuts models into slices, {architecture.name} has several parts"
                f" ({', '.join(architecture.parts)})",
                where="genome.space",
                fix=f"Search parts with `modules: {{{architecture.language}: {{}}}}`.",
            )
        self.method = method_named(definition.merge_method)
        self.out_dtype = definition.out_dtype or out_dtype
        self.tasks = tuple(map(tuple, tasks))
        self.space = self._build()

    @classmethod
    def settled(cls, definition: MergeDefinition) -> MergeDefinition:
        """The ``genome:`` block with the space's merge method where the file names none."""
        if definition.merge_method or not cls.merge_method:
            return definition
        return definition.model_copy(update={"merge_method": cls.merge_method})

    @classmethod
    def misfits(cls, definition: MergeDefinition) -> Iterator[MisfitError]:
        """Everything in the ``genome:`` block that the space cannot do; needs no model."""
        yield from cls._unfit(definition)
        settled = cls.settled(definition)
        if settled is not definition:  # nobody could hold it against its method before
            yield from settled.misfits()

    @classmethod
    def _unfit(cls, definition: MergeDefinition) -> Iterator[MisfitError]:
        """The same, of what the space itself knows; subclasses add to it."""
        method = definition.merge_method
        if cls.merge_method and method not in ("", cls.merge_method):
            yield MisfitError(
                f"space {cls.name} merges by {cls.merge_method}, got {method}",
                "merge_method",
                fix="Leave it out, or use space: parameters.",
            )
        elif not (method or cls.merge_method):
            yield MisfitError(
                f"is missing: space {cls.name} has no merge method of its own",
                "merge_method",
                fix="Add it.",
            )
        adapters = "delta" if cls.folds_adapters else "factors"
        if definition.adapters != adapters and "adapters" in definition.model_fields_set:
            what = f"space {cls.name} has adapters: {adapters}, got {definition.adapters}"
            yield MisfitError(what, "adapters", fix="Remove it, or use another space.")
        if bool(definition.modules) != cls.reads_modules:
            what = f"space {cls.name} does not read modules"
            if cls.reads_modules:
                what = "is missing: it says which parts are merged"
            yield MisfitError(
                what, "modules", fix="Name parts with space: modules, and only there."
            )
        for key in ("tokenizer", "tokenizer_source") if cls.one_vocabulary else ():
            if getattr(definition, key) is not None:
                fix = "Remove it, or use space: parameters."
                yield MisfitError(cls.one_vocabulary, key, fix=fix)
        for key in sorted(SPACE_KEYS - cls.reads - {"merge_method", "adapters"}):
            field = type(definition).model_fields[key]
            if getattr(definition, key) not in (field.get_default(call_default_factory=True), []):
                what = f"space {cls.name} does not read {key}"
                yield MisfitError(what, key, fix="Remove it, or use another space.")
        for index, source in enumerate(definition.models):
            if source.parameters and "parameters" not in cls.reads:
                what = f"space {cls.name} has no settings of one model"
                yield MisfitError(what, "models", index, "parameters", fix="Remove them.")

    @classmethod
    def n_copies(cls, definition: MergeDefinition, tensor: str) -> int:
        """How often a candidate holds what its models hold once, for the room that it takes.

        Args:
            definition: The ``genome:`` block.
            tensor: A name.
        """
        return 1

    @abstractmethod
    def _build(self) -> Space:
        """The space; sets whatever ``recipe`` needs."""

    @abstractmethod
    def recipe(self, point: Point) -> Recipe:
        """What a point of the space means; a pure function."""

    def beyond_models(self) -> MergeSpace:
        """The same in a box whose inside holds sums of the models that lie beyond them.

        Itself where the genome gives the box, or no sum of models is a point.
        """
        return self

    def files(self, point: Point) -> Mapping[str, str]:
        """Small files that the recipe of a point needs: name below the run folder -> text."""
        return {}

    @abstractmethod
    def source_point(self, index: int) -> dict[str, Any] | None:
        """The point that gives back model ``index``, None where no point does."""

    @abstractmethod
    def average_point(self) -> dict[str, Any] | None:
        """The point of the uniform average of the models, None where there is none."""

    @abstractmethod
    def base_point(self) -> dict[str, Any] | None:
        """The point that gives back the base, None where no point does."""

    def point_of(self, recipe: Recipe) -> dict[str, Any] | None:
        """The point whose recipe this is, None where there is none or nobody can tell."""
        return None

    def places(self) -> NDArray[np.intp] | None:
        """Per coordinate the number of its place, first layers first, shape (n_dims,).

        Coordinates of one place set the same tensors: the weights of several models, say. None
        where the space has one place, or its coordinates follow the layers anyway.
        """
        return None

    def experts(self) -> NDArray[np.float64] | None:
        """Genotypes of the models that are points of it, shape (k, n_dims); None without any."""
        points = [self.source_point(index) for index in range(len(self.definition.models))]
        known = [self.space.encode(point) for point in points if point is not None]
        return np.stack(known) if known else None

    def has_shares(self) -> bool:
        """Whether coordinates are shares of what is left, in which weights are no sums."""
        return False

    def by_tensor(self) -> MergeSpace | None:
        """The same merges and finer ones: a value per tensor and model; None where there are none.

        Raises:
            GenomeError: a value that the genome fixes varies over depth.
        """
        return None

    def learnable(self) -> Learnable | None:
        """Its weights, as training moves them; None where it has none."""
        return None

    def uniform_point(self, method: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The point of a recipe with the same values everywhere, None where there is none.

        Args:
            method: Its merge method.
            values: Every parameter that the method reads, for all models alike.
        """
        return None

    def written(self, recipe: Recipe) -> Recipe:
        """A recipe as a ledger has it: what earlier stages made is made in it."""
        return unfolded(recipe, self.made)

    def model_recipe(self, model: ModelName) -> Recipe:
        """A model as it is, in the dtype of the merges."""
        return Recipe(
            {
                "merge_method": "passthrough",
                "models": [{"model": model.in_recipe}],
                "dtype": self.definition.dtype,
                "out_dtype": self.out_dtype,
            }
        )

    @property
    def has_one_depth(self) -> bool:
        """Whether all models have equally many layers, so that tensor can meet tensor."""
        return not self.architecture.depths

    def average_recipe(self) -> Recipe:
        """The uniform average of the models, without the base."""
        return self.average_of([source.model for source in self.definition.models])

    def average_of(self, models: Sequence[ModelName]) -> Recipe:
        """The uniform average of some models, at least one."""
        return Recipe(
            {
                "merge_method": "linear",
                "models": [
                    {"model": model.in_recipe, "parameters": {"weight": 1.0}} for model in models
                ],
                "parameters": {"normalize": True},
                **self.frame(models[0]),
            }
        )

    def frame(self, base: ModelName | None) -> dict[str, Any]:
        """The keys of a recipe that no point changes: base, dtypes, tokenizer, template.

        Without a base and a tokenizer mergekit would take configuration and tokenizer from
        whichever model comes first in a set, so one of them is always named.
        """
        definition = self.definition
        frame: dict[str, Any] = {} if base is None else {"base_model": base.in_recipe}
        frame.update(dtype=definition.dtype, out_dtype=self.out_dtype)
        if definition.tokenizer is not None:
            block = definition.tokenizer.model_dump(exclude_defaults=True)
            donor = self._donor(definition.tokenizer.source, base)
            frame["tokenizer"] = {**block, "source": donor}
        elif definition.tokenizer_source is not None:
            frame["tokenizer_source"] = self._donor(definition.tokenizer_source, base)
        elif base is None:
            frame["tokenizer_source"] = definition.models[0].model.in_recipe
        if definition.chat_template is not None:
            frame["chat_template"] = definition.chat_template
        return frame

    def _donor(self, source: str, base: ModelName | None) -> str | dict[str, Any]:
        """Whose vocabulary: "base" is the genome's base even where the recipe has another."""
        wanted = self.definition.base_model
        return wanted.in_recipe if source == "base" and wanted and wanted != base else source
