"""What recipes that differ only in parameter values share: mergekit's plan, made once.

mergekit reads model configurations, builds tasks and sorts them for every merge. All of
that depends on the recipe's structure. Here the structure is planned once by mergekit's
own planner; a further recipe of the same structure only has its parameter values
resolved again, by mergekit's own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from mergekit import merge_methods
from mergekit.architecture import ModelArchitecture, WeightInfo, get_architecture_info
from mergekit.common import ModelReference
from mergekit.config import (
    ConfigReader,
    InputModelDefinition,
    MergeConfiguration,
    OutputModuleDefinition,
    OutputSliceDefinition,
)
from mergekit.graph import Executor
from mergekit.merge import _model_out_config
from mergekit.merge_methods.base import MergeMethodSpec
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from mergekit.parameter_resolver import resolve_parameters
from mergekit.plan import MergePlanner
from mergekit.tokenizer import TokenizerInfo
from transformers import PreTrainedConfig

from evomerge.merging.form import Finder, Form, SymbolicSpec, UnclearError
from evomerge.merging.sources import InputTensors, Sources, build_tokenizer
from evomerge.merging.values import Values
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import filters_in

_FORMS_KEPT = 16
_Kind = TypeVar("_Kind")
# (which inputs, shared parameters, parameters of each model) -> what is made of them
_Make = Callable[[int, dict[str, Any], dict[ModelReference, dict[str, Any]]], _Kind]


class Configuration(MergeConfiguration):  # type: ignore[misc]  # mergekit is untyped
    """mergekit's configuration, its models in the order they are mentioned in.

    mergekit's own order comes from a set and differs between processes; where no base is
    named, the first model gives the output its configuration and tokenizer.
    """

    def referenced_models(self) -> list[ModelReference]:
        """Base first, then by first mention."""
        modules = self.modules or {"": self}
        mentioned = [
            entry.model
            for module in modules.values()
            for entry in (
                *(module.models or ()),
                *(source for part in module.slices or () for source in part.sources),
            )
        ]
        base = [self.base_model] if self.base_model else []
        return list(dict.fromkeys(base + mentioned))


def references(recipe: Recipe) -> list[ModelReference]:
    """The models that a recipe reads, as mergekit reads their names."""
    configs = (Configuration.model_validate(dict(one)) for one in recipe.documents)
    found = dict.fromkeys(model for config in configs for model in config.referenced_models())
    own = dict.fromkeys(ModelReference.model_validate(one.in_recipe) for one in recipe.models)
    return [model for model in {**found, **own} if model.model.path not in recipe.made]


@dataclass(frozen=True)
class _Place:
    """Where in the recipe the parameters of one output tensor stand."""

    module: str
    slice_index: int
    t: float
    input_names: Mapping[ModelReference, str]
    inputs: int  # equal where the models are: to hash them takes longer than to merge a norm


class _Planner(MergePlanner):  # type: ignore[misc]  # mergekit is untyped
    """mergekit's planner, remembering the place of each tensor."""

    places: dict[str, _Place]
    inputs: dict[tuple[ModelReference, ...], int]

    def plan_tensor(
        self,
        weight: WeightInfo,
        weights_in: list[WeightInfo],
        models: list[ModelReference],
        cfg_reader: ConfigReader,
    ) -> None:
        super().plan_tensor(weight, weights_in, models, cfg_reader)
        module, slices = next(
            (name, module.slices)
            for name, module in self.config.modules.items()
            if any(part is cfg_reader.slice_out for part in module.slices)
        )
        names = {model: source.name for model, source in zip(models, weights_in, strict=False)}
        self.places[weight.name] = _Place(
            module=module,
            slice_index=[part is cfg_reader.slice_out for part in slices].index(True),
            t=cfg_reader.t,
            input_names=names,
            inputs=self.inputs.setdefault(tuple(names), len(self.inputs)),
        )


@dataclass(frozen=True)
class _Scopes:
    """The parameter settings of one slice, which all its tensors share.

    Attributes:
        settings: Model, or None for the shared parameters -> settings, narrowest first.
        base_model: The slice's own base, or the recipe's.
    """

    settings: Mapping[ModelReference | None, tuple[Any, ...]]
    base_model: ModelReference | None

    @classmethod
    def of(cls, config: Configuration, module_name: str, slice_index: int) -> _Scopes:
        module = config.modules[module_name]
        part = module.slices[slice_index]
        reader = ConfigReader(config=config, t=0, slice_out=part, module=module)
        models = [None, *(source.model for source in part.sources)]
        settings = {model: tuple(reader.parameter_sources(model)) for model in models}
        return cls(settings, reader.base_model)


@dataclass(frozen=True)
class _Finders:
    """What finds the values of recipes of one form: the distinct ones, and which is whose."""

    distinct: tuple[Finder, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, finders: Iterable[Finder]) -> _Finders:
        places: dict[Finder, int] = {}
        order = tuple(places.setdefault(finder, len(places)) for finder in finders)
        return cls(tuple(places), order)


@dataclass(frozen=True)
class PlannedTensor:
    """One output tensor: mergekit's task, its resident inputs, its dtype on disk."""

    task: ExecuteMergeMethodTask
    place: _Place
    inputs: InputTensors
    out_dtype: str | None

    @cached_property
    def name(self) -> str:
        """Name in the built checkpoint."""
        name: str = self.task.output_weight.name
        return name


@dataclass(frozen=True)
class Structure:
    """A planned recipe structure.

    Attributes:
        config: The configuration, normalised to ``modules`` with ``slices``.
        architecture: mergekit's description of the model family.
        out_config: Configuration of the output model before vocabulary changes.
        tensors: In the order in which mergekit executes them, which is the order in which
            randomised methods draw.
        tokenizer: What mergekit built where the recipe names a tokenizer.
    """

    config: Configuration
    architecture: ModelArchitecture
    out_config: PreTrainedConfig
    tensors: tuple[PlannedTensor, ...]
    tokenizer: TokenizerInfo | None

    @classmethod
    def of(cls, recipe: Recipe, sources: Sources) -> Structure:
        """Plans a recipe and reads its source tensors."""
        config = Configuration.model_validate(dict(recipe.config))
        sources.open(config)
        options = sources.options
        architecture = get_architecture_info(config, options)
        out_config = _model_out_config(config, architecture, options.trust_remote_code)
        planner = _Planner(config, architecture, options, out_config)
        planner.places, planner.inputs = {}, {}
        targets = planner.plan_to_disk(out_path="")  # the graph of a build; never executed
        scheduled = [handle.task() for handle in Executor(targets).schedule.tasks]
        _Planner._model_arch.cache_clear()  # an lru_cache on a method keeps planners alive
        tokenizer_task = planner._tokenizer_task
        tokenizer = build_tokenizer(tokenizer_task) if tokenizer_task else None
        tensors = tuple(
            PlannedTensor(
                task=task,
                place=planner.places[task.output_weight.name],
                inputs=sources.inputs(task, tokenizer),
                out_dtype=task.output_weight.force_dtype or config.out_dtype,
            )
            for task in scheduled
            if isinstance(task, ExecuteMergeMethodTask)
        )
        return cls(config, architecture, out_config, tensors, tokenizer)

    @cached_property
    def names(self) -> frozenset[str]:
        """Of the tensors that the models hold of those that a built folder may have."""
        return frozenset(one.name for one in self.tensors if one.inputs.stored())

    def values(self, recipe: Recipe) -> Sequence[tuple[PlannedTensor, Values]]:
        """The tensors with the parameter values of a recipe of this structure."""
        form = Form.of(recipe.config)
        if form.text not in self._finders:
            if len(self._finders) == _FORMS_KEPT:
                self._finders.clear()
            self._finders[form.text] = self._finders_of(form)
        finders = self._finders[form.text]
        if finders is None:
            spec = merge_methods.get(self.config.merge_method).spec
            found = self._resolved(recipe.config, spec, lambda _, *values: Values.of(*values))
            return list(zip(self.tensors, found, strict=True))
        values = [finder.values(form.numbers) for finder in finders.distinct]
        return [
            (tensor, values[index])
            for tensor, index in zip(self.tensors, finders.order, strict=True)
        ]

    @cached_property
    def _finders(self) -> dict[str, _Finders | None]:
        """Form -> what finds the values of its recipes; None: only mergekit's resolver does."""
        return {}

    def _finders_of(self, form: Form) -> _Finders | None:
        spec = SymbolicSpec(merge_methods.get(self.config.merge_method).spec)
        try:
            return _Finders.of(self._resolved(form.config, spec, Finder.of))
        except (
            UnclearError,
            RuntimeError,
            TypeError,
            ValueError,
        ):  # a recipe that is wrong is refused with its own numbers
            return None

    def _resolved(
        self, config: Mapping[str, Any], spec: MergeMethodSpec | SymbolicSpec, make: _Make[_Kind]
    ) -> list[_Kind]:
        """What is made of the parameters that mergekit's resolver gives each tensor."""
        normalised = self._with_parameters_of(Configuration.model_validate(dict(config)))
        scopes: dict[tuple[str, int], _Scopes] = {}
        filters = tuple(text for _, text in filters_in(config))
        found: dict[Hashable, _Kind] = {}
        keys = []
        for tensor in self.tensors:
            place = tensor.place
            at = (place.module, place.slice_index)
            # A name matters only through the filters that match it.
            names = (tensor.name, *place.input_names.values())
            matched = tuple(f in name for f in filters for name in names)
            keys.append((at, place.t, matched, place.inputs))
            if keys[-1] in found:
                continue
            if at not in scopes:
                scopes[at] = _Scopes.of(normalised, *at)
            found[keys[-1]] = make(
                place.inputs,
                *resolve_parameters(
                    spec,
                    tensor_name=tensor.name,
                    inputs=place.input_names,
                    sources=scopes[at].settings.__getitem__,
                    base_model=scopes[at].base_model,
                    t=place.t,
                ),
            )
        return [found[key] for key in keys]

    def _with_parameters_of(self, fresh: Configuration) -> Configuration:
        """The fresh configuration in normalised form, without reading the models again."""
        modules = {
            name: _normalised(module, (fresh.modules or {}).get(name, fresh))
            for name, module in self.config.modules.items()
        }
        update = {"modules": modules, "parameters": fresh.parameters}
        normalised: Configuration = self.config.model_copy(update=update)
        return normalised


def _normalised(
    planned: OutputModuleDefinition, fresh: OutputModuleDefinition | Configuration
) -> OutputModuleDefinition:
    """A module of slices with the fresh parameters in it."""
    slices = fresh.slices or [_one_slice(planned.slices[0], fresh.models)]
    # Parameters of the whole recipe are a scope of their own, below the module's.
    parameters = fresh.parameters if isinstance(fresh, OutputModuleDefinition) else None
    return planned.model_copy(update={"slices": slices, "parameters": parameters})


def _one_slice(
    planned: OutputSliceDefinition, models: list[InputModelDefinition]
) -> OutputSliceDefinition:
    """The slice over all layers that ``models`` stands for; an appended base comes last."""
    settings = [entry.parameters for entry in models]
    settings += [None] * (len(planned.sources) - len(models))
    sources = [
        source.model_copy(update={"parameters": parameters})
        for source, parameters in zip(planned.sources, settings, strict=True)
    ]
    return planned.model_copy(update={"sources": sources})
