"""What a genome says of its parameters, checked against the merge method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evomerge.architecture import Architecture
from evomerge.errors import GenomeError, Problem, UnknownNameError
from evomerge.genome.merge import MergeDefinition
from evomerge.genome.models import ModelName
from evomerge.genome.parameters import Setting, Settings
from evomerge.merge_spaces.layout import Slice
from evomerge.methods import Base, Method, MethodParameter, Scope


@dataclass(frozen=True)
class Inputs:
    """The models of a recipe.

    Attributes:
        base: The recipe's ``base_model``; None where the method would read a base that the
            genome does not name.
        models: Every input in recipe order, the base included where the method reads it.
        weighted: Indices of the inputs whose per-model parameters count.
    """

    base: ModelName | None
    models: tuple[ModelName, ...]
    weighted: tuple[int, ...]


def inputs_of(definition: MergeDefinition, method: Method) -> Inputs:
    """Which models go into a recipe, in which role.

    A base that the method ignores stays out of the recipe: mergekit would take it for one
    more source.
    """
    named = tuple(source.model for source in definition.models)
    base = definition.base_model
    if method.base is Base.IGNORED:
        base = base if base in named else named[0]
        return Inputs(base, named, tuple(range(len(named))))
    if method.max_sources == 1 and len(named) == 2 and base not in named:
        base = named[0]
    if base is None and method.base is Base.REQUIRED:
        base = named[0]
    if base is None:
        return Inputs(None, named, tuple(range(len(named))))
    models = named if base in named else (*named, base)
    return Inputs(base, models, tuple(i for i, model in enumerate(models) if model != base))


class EffectiveSettings:
    """Settings per parameter and source, the narrower winning over the wider.

    Args:
        definition: The ``genome:`` block.
        method: Its merge method.
        slices: Where values of their own may stand.
        architecture: What the models have in common.

    Raises:
        GenomeError: everything that contradicts the method, at once.
    """

    def __init__(
        self,
        definition: MergeDefinition,
        method: Method,
        slices: tuple[Slice, ...],
        architecture: Architecture,
    ) -> None:
        self.architecture = architecture
        self.definition = definition
        self.slices = slices
        self.method = method
        self.inputs = inputs_of(definition, method)
        self._own = {source.model: source.parameters for source in definition.models}
        problems = [*self._problems()]
        if problems:
            raise GenomeError.of(problems)

    def shared(self, parameter: MethodParameter) -> Settings | None:
        """Settings that hold for every source."""
        if parameter.name == self.method.normalized_by:
            return Settings.model_validate(self.normalize)
        return self.definition.parameters.get(parameter.name)

    def of_source(self, parameter: MethodParameter, model: ModelName) -> Settings | None:
        """Settings that hold for one source."""
        return self._own.get(model, {}).get(parameter.name) or self.shared(parameter)

    def is_own(self, parameter: MethodParameter, model: ModelName) -> bool:
        """Whether a source has settings of its own for a parameter."""
        return parameter.name in self._own.get(model, {})

    @property
    def normalize(self) -> bool:
        """Whether the common scale of the weights cancels."""
        if self.method.normalized_by == "always":
            return True
        if self.definition.normalize is not None:
            return self.definition.normalize
        given = self.definition.parameters.get(self.method.normalized_by or "")
        return bool(given.entries[0].value) if given else self.method.normalize

    def _problems(self) -> Iterator[Problem]:
        yield from self._count_problems()
        for name, settings in self.definition.parameters.items():
            yield from self._setting_problems(f"genome.parameters.{name}", name, settings)
        for index, source in enumerate(self.definition.models):
            for name, settings in source.parameters.items():
                where = f"genome.models[{index}].parameters.{name}"
                yield from self._setting_problems(where, name, settings, own=True)
        yield from self._normalize_problems()
        yield from self._filter_problems("genome.filters", self.definition.filters or ())

    def _filter_problems(self, where: str, filters: Sequence[str]) -> Iterator[Problem]:
        left = {name for slice_ in self.slices for name in slice_.tensors}
        for index, text in enumerate(filters):
            own = {name for name in left if text in name}
            if not own and text not in self.architecture.absent_head:
                yield Problem(
                    f"{text!r} is in no tensor's name that the entries before it leave",
                    f"{where}[{index}]" if len(filters) > 1 else where,
                    "Remove it, or mend the name.",
                )
            left -= own

    def _count_problems(self) -> Iterator[Problem]:
        method, inputs = self.method, self.inputs
        has_base = method.base is not Base.IGNORED and inputs.base is not None
        n_sources = len(inputs.models) - has_base
        most = method.max_sources
        if n_sources < method.min_sources or (most is not None and n_sources > most):
            wanted = (
                f"exactly {most}"
                if most == method.min_sources
                else f"at least {method.min_sources}"
            )
            beside = " beside the base" if method.base is not Base.IGNORED else ""
            yield Problem(
                f"{method.name} merges {wanted} model(s){beside}, got {n_sources}", "genome.models"
            )

    def _setting_problems(
        self, where: str, name: str, settings: Settings, *, own: bool = False
    ) -> Iterator[Problem]:
        try:
            parameter = self.method.parameter(name)
        except UnknownNameError as error:
            yield Problem(error.problems[0].what, where)
            return
        if parameter.is_dead:
            yield Problem(f"{self.method.name} reads {name} and ignores it", where, "Remove it.")
        if own and parameter.scope is Scope.SHARED:
            yield Problem(
                f"{name} belongs to the whole merge, mergekit does not look for it under a model",
                where,
                "Move it to genome.parameters.",
            )
        texts = [entry.filter for entry in settings.entries if not entry.is_default]
        yield from self._filter_problems(where, [text for text in texts if text is not None])
        for index, entry in enumerate(settings.entries):
            at = f"{where}[{index}]" if len(settings.entries) > 1 else where
            yield from _kind_problems(at, parameter, entry)
            yield from _bound_problems(at, parameter, entry)
            if self.definition.smooth and (entry.integer or entry.choice):
                yield Problem(
                    "smooth interpolates over depth, which whole numbers and choices cannot be",
                    at,
                    "Fix the value, or use granularity: layers.",
                )
            if isinstance(entry.value, list) and len(self.slices) > 1:
                yield Problem(
                    "a list is interpolated anew in each of the "
                    f"{len(self.slices)} slices of this granularity",
                    at,
                    "Use granularity: model, or smooth: true with a range.",
                )
        if self.definition.granularity in ("parameter", "tensor"):
            return
        if not any(entry.is_default for entry in settings.entries) and parameter.searched:
            yield Problem(
                "every entry has a filter, so other tensors have no value",
                where,
                "Add a last entry without filter.",
            )

    def _normalize_problems(self) -> Iterator[Problem]:
        name = self.method.normalized_by
        given = self.definition.parameters.get(name or "")
        is_ignored = self.method.name == "slerp"  # mergekit-evolve's files may hold it
        if self.definition.normalize is not None and name in (None, "always") and not is_ignored:
            yield Problem(f"{self.method.name} has no such parameter", "genome.normalize")
        if given is None:
            return
        where = f"genome.parameters.{name}"
        if self.definition.normalize is not None:
            yield Problem("stands beside genome.normalize", where, "Drop one of them.")
        if len(given.entries) > 1 or not isinstance(given.entries[0].value, bool):
            yield Problem("expected true or false", where)


_WANTED = {bool: "true or false", int: "a whole number", float: "a number"}


def _kind_problems(where: str, parameter: MethodParameter, setting: Setting) -> Iterator[Problem]:
    """Values of a kind that mergekit would refuse in the middle of a merge."""
    fixed = setting.value if isinstance(setting.value, list) else [setting.value]
    values = [v for v in (*fixed, *(setting.choice or ())) if v is not None]
    if parameter.kind is bool:
        wrong = [v for v in values if not isinstance(v, bool)]
    else:
        numbers = int if parameter.kind is int else (int, float)
        wrong = [v for v in values if isinstance(v, bool) or not isinstance(v, numbers)]
    if setting.range and parameter.kind is not float:
        wrong.append(f"range {list(setting.range)}")
    if setting.integer and parameter.kind is bool:
        wrong.append(f"integer {list(setting.integer)}")
    if wrong:
        yield Problem(
            f"got {', '.join(map(repr, wrong))}, expected {_WANTED[parameter.kind]}",
            where,
            "Write {choice: [true, false]} to search it."
            if parameter.kind is bool
            else "Write {integer: [low, high]} to search it."
            if parameter.kind is int
            else "",
        )


def _bound_problems(where: str, parameter: MethodParameter, setting: Setting) -> Iterator[Problem]:
    low, high = parameter.bounds
    values = setting.range or setting.integer or _numbers(setting.value) or _numbers(setting.choice)
    for value in values:
        if not low <= value <= high:
            yield Problem(
                f"{value:g} is outside [{low:g}, {high:g}], what {parameter.name} can be", where
            )


def _numbers(value: object) -> tuple[float, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(v for v in items if isinstance(v, (int, float)) and not isinstance(v, bool))
