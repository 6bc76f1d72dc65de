"""A recipe of whole models, its settings where mergekit finds them: one list for each model.

mergekit looks for a parameter under the model, then the slice, the module and the recipe, and in
each for the first entry whose filter is in the tensor's name. Here that is one list of entries
per model and parameter, in each group of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.genome.merge_method import Base, Method, MethodParameter, Scope
from evomerge.genome.methods import method_named
from evomerge.genome.model_names import ModelName
from evomerge.models.architecture import Architecture
from evomerge.recipe.layers import LAYER, LayerGroup, groups_of

FRAME = ("dtype", "out_dtype", "tokenizer_source", "tokenizer", "chat_template")


@dataclass(frozen=True)
class ParameterEntry:
    """What a parameter is for some tensors.

    Attributes:
        filter: Text in their names; None for all that no entry before names.
        value: A scalar, or numbers over depth.
    """

    filter: str | None
    value: Any

    @property
    def values(self) -> list[Any]:
        """The value, or all values over depth."""
        return self.value if isinstance(self.value, list) else [self.value]


Entries = tuple[ParameterEntry, ...]
Settings = Mapping[str, Entries]


@dataclass(frozen=True)
class LayerPart:
    """A group of layers, with the embeddings where it is the first.

    Attributes:
        layers: First layer, and the layer after the last.
        shared: Parameters of the whole group.
        own: Parameters of each model, for those that have any.
    """

    layers: tuple[int, int]
    shared: Settings
    own: Mapping[ModelName, Settings]


@dataclass(frozen=True)
class Effective:
    """A recipe that merges whole models.

    Attributes:
        method: Its merge method.
        models: The models in order, as the recipe names them; the base only where it is listed.
        base: Its base; where the method ignores one, the model that gives the configuration.
        parts: Its groups of layers in order, equally many layers in each; often one.
        frame: Dtypes, tokenizer and chat template as in the recipe.
        names_base: Whether the recipe itself names the base.
    """

    method: Method
    models: tuple[ModelName, ...]
    base: ModelName | None
    parts: tuple[LayerPart, ...]
    frame: Mapping[str, Any]
    names_base: bool

    @property
    def step(self) -> int:
        """Layers of a group; 0 where there is one group."""
        start, end = self.parts[0].layers
        return end - start if len(self.parts) > 1 else 0

    @property
    def normalizes(self) -> bool:
        """Whether the common scale of the weights changes nothing."""
        key = self.method.normalized_by
        given = self.parts[0].shared.get(key or "", ())
        return key == "always" or any(value for entry in given for value in entry.values)

    def to_config(self) -> dict[str, Any]:
        """The same recipe as a space writes it."""
        models = self.models
        if self.base is not None and self.base not in models:
            models = (*models, self.base)
        config: dict[str, Any] = {"merge_method": self.method.name}
        searched = {p.name for p in self.method.parameters if p.searched}
        common = {
            name: entries
            for name, entries in self.parts[0].shared.items()
            if len(self.parts) == 1 or name not in searched
        }
        if len(self.parts) == 1:
            config["models"] = [self._source(model, self.parts[0], {}) for model in models]
        else:
            config["slices"] = [self._slice(part, models, common) for part in self.parts]
        if self.base is not None:
            config["base_model"] = self.base.in_recipe
        if common:
            config["parameters"] = {name: written(e) for name, e in common.items()}
        config.update(self.frame)
        if "dtype" in config:
            config.setdefault("out_dtype", config["dtype"])
        return config

    def _slice(
        self, part: LayerPart, models: Iterable[ModelName], common: Settings
    ) -> dict[str, Any]:
        layers = {"layer_range": list(part.layers)}
        shared = {n: written(e) for n, e in part.shared.items() if n not in common}
        sources = [self._source(model, part, layers) for model in models]
        return {"sources": sources, **({"parameters": shared} if shared else {})}

    def _source(self, model: ModelName, part: LayerPart, layers: dict[str, Any]) -> dict[str, Any]:
        entry = {"model": model.in_recipe, **layers}
        parameters = {n: written(e) for n, e in part.own.get(model, {}).items()}
        if "weight" in parameters and len(self.parts) > 1 and self.normalizes:
            parameters["weight"] = _share(model, part)
        return {**entry, "parameters": parameters} if parameters else entry


def _share(model: ModelName, part: LayerPart) -> Any:
    """The weight of a model divided by the sum of all, which merges the same."""
    weights = {m: own["weight"] for m, own in part.own.items() if "weight" in own}
    plain = [e[0].value for e in weights.values() if len(e) == 1 and e[0].filter is None]
    scalars = [value for value in plain if isinstance(value, float)]
    if len(scalars) < len(weights) or sum(scalars) == 0:
        return written(weights[model])
    return weights[model][0].value / sum(scalars)


def effective(config: Mapping[str, Any], architecture: Architecture) -> Effective:
    """A recipe, its settings where mergekit finds them.

    Args:
        config: The recipe, without keys that mergekit ignores.
        architecture: Of its models.

    Raises:
        GenomeError: its modules or slices are no groups of layers of whole models.
    """
    method = method_named(str(config["merge_method"]))
    groups = groups_of(config, architecture.n_layers)
    base = groups[0].base
    models = list(dict.fromkeys(groups[0].models))
    if method.base is Base.IGNORED and base is not None and groups[0].takes_base:
        models = list(dict.fromkeys((*models, base)))  # mergekit merges it like the others
    parts = tuple(_part(method, models, base, group, architecture) for group in groups)
    return Effective(
        method,
        tuple(models),
        base or (models[0] if method.base is Base.IGNORED else None),
        parts,
        {key: _plain(key, config[key]) for key in FRAME if config.get(key) is not None},
        base is not None,
    )


def _part(
    method: Method,
    models: Sequence[ModelName],
    base: ModelName | None,
    group: LayerGroup,
    architecture: Architecture,
) -> LayerPart:
    tensors = [*tensors_of(architecture, *group.layers)]

    def found(parameter: MethodParameter, inner: Sequence[Mapping[str, Any]]) -> Entries:
        places = [scope.get("parameters") or {} for scope in (*inner, *group.scopes)]
        given = (place.get(parameter.name) for place in places)
        entries = _first_matches(given, parameter, tensors)
        if parameter.default is not None and all(entry.filter for entry in entries):
            entries = (*entries, ParameterEntry(None, parameter.default))
        return entries

    def all_of(scopes: Sequence[Scope], inner: Sequence[Mapping[str, Any]]) -> Settings:
        read = {p.name: found(p, inner) for p in method.live_parameters if p.scope in scopes}
        return {name: entries for name, entries in read.items() if entries}

    own = {}
    for model in models:
        is_base = method.base is not Base.IGNORED and model == base
        scopes = (Scope.INPUT,) if is_base else (Scope.INPUT, Scope.NON_BASE)
        own[model] = all_of(scopes, (group.entry_of(model),))
    return LayerPart(group.layers, all_of((Scope.SHARED,), ()), own)


def written(entries: Entries) -> Any:
    """Entries as a recipe has them."""
    if len(entries) == 1 and entries[0].filter is None:
        return entries[0].value
    return [
        {"value": e.value} if e.filter is None else {"filter": e.filter, "value": e.value}
        for e in entries
    ]


def tensors_of(architecture: Architecture, start: int, end: int) -> Iterator[str]:
    """Names of the tensors of some layers, with the embeddings or the head at the ends."""
    if start == 0:
        yield from (*architecture.embeddings, *architecture.beside)
    if end == architecture.n_layers:
        yield from (*architecture.final_norm, *architecture.head)
    for layer in range(start, end):
        for name in architecture.layer_tensors:
            yield name.replace(LAYER, str(layer))


def _first_matches(
    settings: Iterator[Any], parameter: MethodParameter, tensors: Sequence[str]
) -> Entries:
    """Entries of all places in order, up to the first for all tensors that are left.

    One that finds no tensor, or none that those before it leave, changes nothing.
    """
    found: list[ParameterEntry] = []
    left = set(tensors)
    for entry in (entry for setting in settings for entry in _entries(setting, parameter)):
        own = {name for name in left if entry.filter is None or entry.filter in name}
        if own:
            found.append(entry)
            left -= own
        if entry.filter is None:
            break
    return tuple(found)


def _entries(setting: Any, parameter: MethodParameter) -> Iterator[ParameterEntry]:
    if isinstance(setting, Mapping):
        setting = [setting]
    if isinstance(setting, list) and any(isinstance(part, Mapping) for part in setting):
        if not all(isinstance(part, Mapping) for part in setting):
            raise TypeError("a list of entries holds something else")
        for part in setting:
            text = part.get("filter")
            yield ParameterEntry(None if text == "*" else text, _coerced(part["value"], parameter))
    elif setting is not None and setting != []:
        yield ParameterEntry(None, _coerced(setting, parameter))


def _coerced(value: Any, parameter: MethodParameter) -> Any:
    """A value of the parameter's kind, as mergekit makes it one."""
    if isinstance(value, list):
        return [_coerced(each, parameter) for each in value]
    if parameter.kind is bool:
        return bool(value) if isinstance(value, (int, float)) else value
    return float(value) if parameter.kind is float else int(float(value))


def _plain(key: str, value: Any) -> Any:
    """A key of the frame as a space writes it."""
    if key == "tokenizer":
        return {"source": "union", **value}
    return value.removeprefix("torch.") if key.endswith("dtype") else value
