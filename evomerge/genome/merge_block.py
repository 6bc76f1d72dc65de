"""The `genome:` block: which models, which way of merging, what may vary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from evomerge.foundations.errors import UnknownNameError
from evomerge.foundations.python_packages import is_module_name
from evomerge.genome.block import Block, Whole, fits
from evomerge.genome.inputs import wrong_number
from evomerge.genome.merge_method import Base, Method
from evomerge.genome.method_fit import missing_settings, unfit_normalize, unfit_settings
from evomerge.genome.methods import METHODS, method_named
from evomerge.genome.misfit import KeyPath, MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.genome.parameter_values import ParameterSettings
from evomerge.genome.source_blocks import (
    ModuleBlock,
    Source,
    models_of_modules,
    strangers,
    unfit_modules,
)

Dtype = Literal["float32", "bfloat16", "float16"]
Granularity = Literal["model", "layers", "layer", "parameter", "tensor"]
# Keys of `genome:` that say what varies; they may stand under `space:` as well.
SPACE_KEYS = frozenset(
    {
        *("merge_method", "adapters", "parameters", "granularity", "layer_granularity"),
        *("filters", "smooth", "normalize", "allow_negative_weights"),
    }
)

_NO_SEARCH = (
    "a tokenizer has nothing to be searched: it says which token's row is taken, and how many rows "
    "there are; weights between models belong under genome.parameters, with a filter"
)


def _none_below_one(value: Any) -> Any:
    """As mergekit-evolve reads it."""
    return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else value


def _is_search(value: Any) -> bool:
    """Whether it says how a parameter varies."""
    return isinstance(value, dict) and bool({"range", "integer", "choice"} & value.keys())


def _not_searched(value: Any) -> Any:
    if _is_search(value):
        raise MisfitError(_NO_SEARCH)
    return value


class TokenizerBlock(Block):
    """mergekit's `tokenizer:` block, handed through."""

    source: str = Field("union", description="`union`, `base`, or one of the models.")
    tokens: dict[str, Any] = Field(default_factory=dict, description="As mergekit's.")
    pad_to_multiple_of: Annotated[Whole, Field(ge=1), BeforeValidator(_not_searched)] | None = (
        Field(None, description="As mergekit's.")
    )

    @fits("tokens")
    def _nothing_is_searched(self) -> Iterator[MisfitError]:
        for token, settings in self.tokens.items():
            for name, value in settings.items() if isinstance(settings, dict) else ():
                inner = value if isinstance(value, dict) else {}
                for key, one in ((name, value), *((f"{name}.{k}", v) for k, v in inner.items())):
                    if _is_search(one):
                        yield MisfitError(_NO_SEARCH, "tokens", token, *key.split("."))


class SpaceBlock(Block):
    """The merge space by name; further keys are its own settings."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="One of `evomerge list spaces`.")

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def settings(self) -> dict[str, Any]:
        """The space's own settings."""
        return dict(self.model_extra or {})


class MergeDefinition(Block):
    """Which models, which way of merging, what may vary and how finely."""

    models: Annotated[list[Source], Field(min_length=1)] = Field(
        description="The models to merge; the base need not be among them."
    )
    modules: dict[str, ModuleBlock] = Field(
        default_factory=dict,
        description="Of models that have several parts, e.g. one that sees: the parts that are "
        "merged, each with models and parameters of its own. All others are taken as they are.",
    )
    space: SpaceBlock | None = Field(
        None,
        description="The merge space: its name, or `{name: ..., further keys}`, where the space's "
        "own settings and the keys of `genome` that it reads may stand. Absent: by a rule, below.",
    )
    merge_method: str = Field(
        "",
        description="Any method mergekit registers; `evomerge list methods`. **Required** unless "
        "`space` names a space that has one of its own.",
    )
    merge_method_packages: list[str] = Field(
        default_factory=list,
        description="Installed Python packages that register merge methods of their own with "
        "mergekit when they are imported, which needs `--allow-code`. Nothing is known of these "
        "methods: what is to be searched of them needs a range.",
    )
    base_model: ModelName | None = Field(
        None, description="What task vectors are measured from; required by most methods."
    )
    adapters: Literal["delta", "factors"] = Field(
        "delta",
        description="How `base+lora` models are merged: `delta` folds each adapter into its base "
        "first; `factors` sums A and B of the adapters apart with the same coefficients, which "
        "sum to 1 (Model Swarms), into an adapter of the one base. `linear` only.",
    )
    parameters: dict[str, ParameterSettings] = Field(
        default_factory=dict,
        description="Per mergekit parameter a fixed value, `{range: [low, high], log: true}`, "
        "`{integer: [low, high]}`, `{choice: [...]}`, or a list of these with `filter`.",
    )
    granularity: Granularity | None = Field(
        None,
        description="`model`: one set of values; `layers`: one per `layer_granularity` layers; "
        "`layer`: one per layer; `parameter`: one per kind of tensor; `tensor`: one per tensor. "
        "Embeddings, final norm and head are groups of their own in all but `model`. Absent: "
        "as mergekit-evolve (embeddings follow the first group, norm and head the last).",
    )
    layer_granularity: Annotated[Whole, Field(ge=0), BeforeValidator(_none_below_one)] = Field(
        0, description="Consecutive layers that share values; 0: all. A remainder is a group."
    )
    filters: list[str] | None = Field(
        None, description="Texts in tensor names that get values of their own."
    )
    smooth: bool = Field(
        False, description="Interpolate between layer groups instead of steps (depth profile)."
    )
    normalize: bool | None = Field(
        None, description="Divide by the sum of the weights; they are then searched as shares."
    )
    allow_negative_weights: bool = Field(
        False, description="Open the range of the weights below 0."
    )
    dtype: Dtype = Field("float32", description="Dtype merges compute in.")
    out_dtype: Dtype | None = Field(
        None, description="Dtype of the merged model. Default: that of the models."
    )
    tokenizer_source: str | None = Field(
        None, description="`union`, `base` or a model: whose vocabulary the merge has."
    )
    tokenizer: TokenizerBlock | None = Field(
        None, description="The long form of tokenizer_source; give one of them."
    )
    chat_template: str | None = Field(
        None, description="`auto`, a name mergekit ships (chatml, llama3, ...) or a Jinja text."
    )

    name: str | None = Field(None, description="A label, as some recipes have; changes nothing.")

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        """Models that stand in `modules:` alone are those of the genome."""
        if not isinstance(value, dict) or "models" in value:
            return value
        method = METHODS.get(str(value.get("merge_method")))
        is_merged = method is not None and method.base is Base.IGNORED
        return {**value, **models_of_modules(value, is_base_merged=is_merged)}

    @fits("models")
    def _once_each(self) -> Iterator[MisfitError]:
        names = [source.model.text for source in self.models]
        twice = _twice(names)
        if twice:
            places = [f"{name} ({_places(names, name)})" for name in twice]
            yield MisfitError(f"models stand twice: {', '.join(places)}", "models")

    @fits("merge_method", "space")
    def _has_a_method(self) -> Iterator[MisfitError]:
        if not self.merge_method and self.space is None:
            yield MisfitError("is missing", "merge_method", fix="Add it.")

    @fits("merge_method_packages")
    def _names_modules(self) -> Iterator[MisfitError]:
        for index, name in enumerate(self.merge_method_packages):
            if not is_module_name(name):
                what = f"got {name!r}, expected what stands after `import` in Python"
                yield MisfitError(what, "merge_method_packages", index)

    @fits("merge_method", "merge_method_packages")
    def _knows_its_method(self) -> Iterator[MisfitError]:
        """Which methods packages register shows only when they are imported."""
        if self.merge_method and not self.merge_method_packages:
            try:
                method_named(self.merge_method)
            except UnknownNameError as error:
                problem = error.problems[0]
                yield MisfitError(problem.what, "merge_method", fix=problem.fix)

    @fits("space")
    def _each_key_once(self) -> Iterator[MisfitError]:
        for key in self.space.settings if self.space else ():
            if key in SPACE_KEYS:
                what = f"stands beside genome.{key}"
                yield MisfitError(what, "space", key, fix="Drop one of them.")

    @fits("merge_method", "models", "base_model")
    def _models_fit_the_method(self) -> Iterator[MisfitError]:
        method = self._method
        if method is None:
            return
        if method.base is Base.REQUIRED and self.base_model is None and method.max_sources != 1:
            yield MisfitError(
                f"is missing: {method.name} measures from a base",
                "base_model",
                fix="Add the model that the others were trained from.",
            )
            return
        yield from wrong_number([s.model for s in self.models], self.base_model, method)

    @fits("merge_method", "parameters")
    def _parameters_fit_the_method(self) -> Iterator[MisfitError]:
        yield from self._unfit(self.parameters, ("parameters",))

    @fits("merge_method", "models")
    def _parameters_of_models_fit_the_method(self) -> Iterator[MisfitError]:
        for index, source in enumerate(self.models):
            yield from self._unfit(source.parameters, ("models", index, "parameters"), True)

    @fits("merge_method", "parameters", "models", "base_model")
    def _parameters_are_given(self) -> Iterator[MisfitError]:
        if self._method is not None and not self.modules:
            own = [one.parameters for one in self.models if one.model != self.base_model]
            yield from missing_settings(self._method, self.parameters, own)

    @fits("merge_method", "modules")
    def _modules_fit_the_method(self) -> Iterator[MisfitError]:
        yield from unfit_modules(self.modules, self._unfit)

    @fits("modules", "models", "base_model")
    def _modules_hold_models_of_the_genome(self) -> Iterator[MisfitError]:
        yield from strangers(self.modules, {one.model for one in self.models} | {self.base_model})

    @fits("merge_method", "normalize", "parameters")
    def _normalize_fits_the_method(self) -> Iterator[MisfitError]:
        if self._method is not None:
            yield from unfit_normalize(self._method, self.normalize, self.parameters)

    @fits("tokenizer", "tokenizer_source")
    def _one_tokenizer(self) -> Iterator[MisfitError]:
        if self.tokenizer is not None and self.tokenizer_source is not None:
            yield MisfitError("stands beside tokenizer_source; give one of them", "tokenizer")

    @fits("granularity", "layer_granularity")
    def _layers_to_group(self) -> Iterator[MisfitError]:
        if self.granularity == "layers" and self.layer_granularity == 0:
            yield MisfitError("granularity: layers needs 1 or more", "layer_granularity")
        if self.granularity not in (None, "layers") and self.layer_granularity:
            yield MisfitError(
                f"{self.layer_granularity} has no meaning beside granularity: {self.granularity}; "
                "use granularity: layers",
                "layer_granularity",
            )

    @fits("granularity", "smooth")
    def _groups_to_smooth(self) -> Iterator[MisfitError]:
        if self.smooth and self.granularity is not None:
            yield MisfitError(
                "interpolates between the groups of layer_granularity; leave granularity out",
                "smooth",
            )

    @fits("granularity", "filters")
    def _one_split_by_name(self) -> Iterator[MisfitError]:
        if self.filters and self.granularity in ("parameter", "tensor"):
            yield MisfitError(
                f"stand beside granularity: {self.granularity}, which splits by tensor name too; "
                "drop one",
                "filters",
            )
        if self.filters is not None and _twice(self.filters):
            yield MisfitError(f"filters stand twice: {self.filters}", "filters")

    @property
    def parameter_blocks(self) -> Iterator[tuple[KeyPath, Mapping[str, ParameterSettings]]]:
        """Every place where settings may stand, and what stands there."""
        yield ("parameters",), self.parameters
        places: list[tuple[KeyPath, list[Source]]] = [((), self.models)]
        for name, module in self.modules.items():
            yield ("modules", name, "parameters"), module.parameters
            places.append((("modules", name), module.models))
        for place, models in places:
            for index, source in enumerate(models):
                yield (*place, "models", index, "parameters"), source.parameters

    def _unfit(
        self, parameters: Mapping[str, ParameterSettings], place: KeyPath, of_a_model: bool = False
    ) -> Iterator[MisfitError]:
        """Settings that do not fit the method, where it is known."""
        method, own, known = self._method, self._own_keys, METHODS.has_parameter
        if method is not None:
            yield from unfit_settings(method, parameters, place, own, known, of_a_model=of_a_model)

    @property
    def _method(self) -> Method | None:
        """None where the space alone knows it, or nobody yet: a package is to register it."""
        return METHODS.get(self.merge_method)

    @property
    def _own_keys(self) -> set[str]:
        """Keys that people write under parameters; ``normalize`` may be right there."""
        return set(type(self).model_fields) - {"normalize", "parameters"}


def _places(names: Sequence[str], name: str) -> str:
    return ", ".join(f"models[{index}]" for index, one in enumerate(names) if one == name)


def _twice(names: Sequence[str]) -> list[str]:
    """Names that stand there more than once."""
    return sorted({name for name in names if names.count(name) > 1})
