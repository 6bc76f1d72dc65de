"""A recipe of whole models, its settings where mergekit finds them: one list for each model.

mergekit looks for a parameter under the model, then the slice, the module and the recipe, and in
each for the first entry whose filter is in the tensor's name. Here that is one list of entries
per model and parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.architecture import Architecture
from evomerge.errors import GenomeError
from evomerge.genome.models import ModelName
from evomerge.methods import Base, Method, MethodParameter, Scope, method_named

FRAME = ("dtype", "out_dtype", "tokenizer_source", "tokenizer", "chat_template")
_SEED = "Name it as optimizer.seed_from of a genome of its models: it is tried as it is."


@dataclass(frozen=True)
class Entry:
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


Entries = tuple[Entry, ...]


@dataclass(frozen=True)
class Effective:
    """A recipe that merges whole models.

    Attributes:
        method: Its merge method.
        models: The models in order, as the recipe names them; the base only where it is listed.
        base: Its base; where the method ignores one, the model that gives the configuration.
        shared: Parameters of the whole merge.
        own: Parameters of each model, for those that have any.
        frame: Dtypes, tokenizer and chat template as in the recipe.
        names_base: Whether the recipe itself names the base.
    """

    method: Method
    models: tuple[ModelName, ...]
    base: ModelName | None
    shared: Mapping[str, Entries]
    own: Mapping[ModelName, Mapping[str, Entries]]
    frame: Mapping[str, Any]
    names_base: bool

    def to_config(self) -> dict[str, Any]:
        """The same recipe as a space writes it."""
        models = self.models
        if self.base is not None and self.base not in models:
            models = (*models, self.base)
        config: dict[str, Any] = {"merge_method": self.method.name, "models": []}
        for model in models:
            entry: dict[str, Any] = {"model": model.in_recipe}
            parameters = {n: written(e) for n, e in self.own.get(model, {}).items()}
            config["models"].append({**entry, "parameters": parameters} if parameters else entry)
        if self.base is not None:
            config["base_model"] = self.base.in_recipe
        if self.shared:
            config["parameters"] = {name: written(e) for name, e in self.shared.items()}
        config.update(self.frame)
        if "dtype" in config:
            config.setdefault("out_dtype", config["dtype"])
        return config


def effective(config: Mapping[str, Any], architecture: Architecture) -> Effective:
    """A recipe, its settings where mergekit finds them.

    Args:
        config: The recipe, without keys that mergekit ignores.
        architecture: Of its models.

    Raises:
        GenomeError: its modules or slices are more than whole models.
    """
    method = method_named(str(config["merge_method"]))
    scopes: list[Mapping[str, Any]] = [config]
    part = config
    if config.get("modules"):
        part = _only(config["modules"], "modules")
        scopes.insert(0, part)
    base, entries = config.get("base_model"), part.get("models")
    if part.get("slices"):
        part = _only(part["slices"], "slices")
        scopes.insert(0, part)
        base, entries = part.get("base_model") or base, part["sources"]
        _refuse_parts(entries, architecture.n_layers)
    named = {ModelName.model_validate(entry["model"]): entry for entry in entries or ()}
    base_name = None if base is None else ModelName.model_validate(base)
    if method.base is Base.IGNORED and base_name is not None:
        named.setdefault(base_name, {})  # mergekit merges it like the others
    tensors = [*_tensors(architecture)]

    def found(parameter: MethodParameter, inner: Sequence[Mapping[str, Any]]) -> Entries:
        places = [scope.get("parameters") or {} for scope in (*inner, *scopes)]
        given = (place.get(parameter.name) for place in places)
        entries = _first_matches(given, parameter, tensors)
        left = not any(entry.filter is None for entry in entries)
        if parameter.default is not None and left:
            entries = (*entries, Entry(None, parameter.default))
        return entries

    parameters = method.live_parameters
    shared = {p.name: found(p, ()) for p in parameters if p.scope is Scope.SHARED}
    own = {}
    for model, entry in named.items():
        is_base = method.base is not Base.IGNORED and model == base_name
        scopes_read = (Scope.INPUT,) if is_base else (Scope.INPUT, Scope.NON_BASE)
        own[model] = {p.name: found(p, (entry,)) for p in parameters if p.scope in scopes_read}
    return Effective(
        method,
        tuple(named),
        base_name or (next(iter(named)) if method.base is Base.IGNORED else None),
        {name: entries for name, entries in shared.items() if entries},
        {m: {n: e for n, e in given.items() if e} for m, given in own.items()},
        {key: _plain(key, config[key]) for key in FRAME if config.get(key) is not None},
        base_name is not None,
    )


def written(entries: Entries) -> Any:
    """Entries as a recipe has them."""
    if len(entries) == 1 and entries[0].filter is None:
        return entries[0].value
    return [
        {"value": e.value} if e.filter is None else {"filter": e.filter, "value": e.value}
        for e in entries
    ]


def _only(parts: Any, key: str) -> Any:
    """The one part of a recipe that has one."""
    if len(parts) != 1:
        raise GenomeError(f"its {len(parts)} {key} cannot be opened yet", fix=_SEED)
    return next(iter(parts.values())) if isinstance(parts, Mapping) else parts[0]


def _refuse_parts(sources: Sequence[Mapping[str, Any]], n_layers: int) -> None:
    for source in sources:
        if list(source["layer_range"]) != [0, n_layers]:
            raise GenomeError(
                f"its slice has layers {source['layer_range']} of {n_layers}, which cannot be "
                "opened yet",
                fix=_SEED,
            )


def _tensors(architecture: Architecture) -> Iterator[str]:
    yield from (*architecture.embeddings, *architecture.final_norm, *architecture.head)
    for layer in range(architecture.n_layers):
        for name in architecture.layer_tensors:
            yield name.replace("{layer}", str(layer))


def _first_matches(
    settings: Iterator[Any], parameter: MethodParameter, tensors: Sequence[str]
) -> Entries:
    """Entries of all places in order, up to the first for all tensors that are left.

    One that finds no tensor, or none that those before it leave, changes nothing.
    """
    found: list[Entry] = []
    left = set(tensors)
    for entry in (entry for setting in settings for entry in _entries(setting, parameter)):
        own = {name for name in left if entry.filter is None or entry.filter in name}
        if own:
            found.append(entry)
            left -= own
        if entry.filter is None:
            break
    return tuple(found)


def _entries(setting: Any, parameter: MethodParameter) -> Iterator[Entry]:
    if isinstance(setting, Mapping):
        setting = [setting]
    if isinstance(setting, list) and any(isinstance(part, Mapping) for part in setting):
        for part in setting:
            text = part.get("filter")
            yield Entry(None if text == "*" else text, _coerced(part["value"], parameter))
    elif setting is not None and setting != []:
        yield Entry(None, _coerced(setting, parameter))


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
