"""What a genome says of its parameters, checked against the layers and tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.inputs import inputs_of
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.merge_method import Method, MethodParameter
from evomerge.genome.model_names import ModelName
from evomerge.genome.parameter_values import ParameterSettings
from evomerge.merge_spaces.layout import Slice
from evomerge.models.architecture import Architecture


class EffectiveSettings:
    """Settings per parameter and source, the narrower winning over the wider.

    Args:
        definition: The ``genome:`` block.
        method: Its merge method.
        slices: Where values of their own may stand.
        architecture: What the models have in common.

    Raises:
        GenomeError: everything that contradicts the layout, at once.
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
        self.inputs = inputs_of(
            [source.model for source in definition.models], definition.base_model, method
        )
        self._own = {source.model: source.parameters for source in definition.models}
        problems = [*self._problems()]
        if problems:
            raise GenomeError.of(problems)

    def shared(self, parameter: MethodParameter) -> ParameterSettings | None:
        """Settings that hold for every source."""
        if parameter.name == self.method.normalized_by:
            return ParameterSettings.model_validate(self.normalize)
        return self.definition.parameters.get(parameter.name)

    def of_source(self, parameter: MethodParameter, model: ModelName) -> ParameterSettings | None:
        """Settings that hold for one source."""
        return self._own.get(model, {}).get(parameter.name) or self.shared(parameter)

    def is_own(self, parameter: MethodParameter, model: ModelName) -> bool:
        """Whether a source has settings of its own for a parameter."""
        return parameter.name in self._own.get(model, {})

    @property
    def gives_normalize(self) -> bool:
        """Whether the genome says itself if the common scale of the weights cancels."""
        definition = self.definition
        return (
            definition.normalize is not None or self.method.normalized_by in definition.parameters
        )

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
        for name, settings in self._read(self.definition.parameters):
            yield from self._setting_problems(f"genome.parameters.{name}", name, settings)
        for index, source in enumerate(self.definition.models):
            for name, settings in self._read(source.parameters):
                where = f"genome.models[{index}].parameters.{name}"
                yield from self._setting_problems(where, name, settings)
        yield from self._filter_problems("genome.filters", self.definition.filters or ())

    def _read(
        self, parameters: Mapping[str, ParameterSettings]
    ) -> Iterator[tuple[str, ParameterSettings]]:
        """Those that the method makes something of."""
        return ((name, s) for name, s in parameters.items() if self.method.reads(name))

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

    def _setting_problems(
        self, where: str, name: str, settings: ParameterSettings
    ) -> Iterator[Problem]:
        parameter = self.method.parameter(name)
        texts = [entry.filter for entry in settings.entries if not entry.is_default]
        yield from self._filter_problems(where, [text for text in texts if text is not None])
        for index, entry in enumerate(settings.entries):
            at = f"{where}[{index}]" if len(settings.entries) > 1 else where
            if self.definition.smooth and (entry.integer or entry.choice):
                yield Problem(
                    "smooth interpolates over depth, which whole numbers and choices cannot be",
                    at,
                    "Fix the value, or use granularity: layers.",
                )
            if isinstance(entry.value or entry.initial, list) and len(self.slices) > 1:
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
