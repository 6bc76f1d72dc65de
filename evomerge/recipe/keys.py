"""Which keys of a recipe mergekit reads, and which it drops without a word.

mergekit 0.1.5 drops every key that its classes do not name and every parameter that the merge
method does not look up there. A contract test compares the tables with its classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from evomerge.foundations.errors import UnknownNameError
from evomerge.genome.merge_method import Base, Method, Scope
from evomerge.genome.methods import METHODS
from evomerge.genome.misfit import KeyPath

RECIPE = frozenset(
    ("modules", "slices", "models", "merge_method", "base_model", "dtype", "tokenizer_source")
) | {"tokenizer", "chat_template", "out_dtype", "parameters"}
MODULE = frozenset(("slices", "models", "parameters"))
SLICE = frozenset(("sources", "base_model", "parameters"))  # residual_weight is read by nobody
SOURCE = frozenset(("model", "layer_range", "parameters"))
MODEL = frozenset(("model", "parameters"))
SETTING = frozenset(("value", "filter"))
TOKENIZER = frozenset(("source", "tokens", "pad_to_multiple_of"))
TOKEN = frozenset(("source", "force"))
_ALIKE = 0.8  # from there on an unknown key is a known one, misspelt


@dataclass(frozen=True)
class Ignored:
    """A key that changes nothing.

    Attributes:
        path: Where it stands.
        why: What mergekit makes of it, without the key.
        meant: The known key that it resembles; empty where it resembles none.
        is_known: Whether it is a parameter that this or another method has, or a label.
    """

    path: KeyPath
    why: str
    meant: str = ""
    is_known: bool = False


def ignored_keys(config: Mapping[str, Any]) -> list[Ignored]:
    """Every key of a recipe that mergekit ignores."""
    method = METHODS.get(str(config.get("merge_method")))
    return [*_Walk(method, config.get("base_model")).recipe(config)]


def without(config: Mapping[str, Any], ignored: Iterable[Ignored]) -> dict[str, Any]:
    """A recipe without some of its keys, and without blocks that they leave empty."""
    paths = {one.path for one in ignored}

    def kept(part: Any, path: KeyPath) -> Any:
        if isinstance(part, Mapping):
            left = {
                key: kept(value, (*path, key))
                for key, value in part.items()
                if (*path, key) not in paths
            }
            empty = [key for key, value in left.items() if value == {} and part[key] != {}]
            return {key: value for key, value in left.items() if key not in empty}
        if isinstance(part, list):
            return [kept(value, (*path, index)) for index, value in enumerate(part)]
        return part

    return dict(kept(config, ()))


def idle_parameter(method: Method, name: str, scope: Scope | None, is_base: bool = False) -> str:
    """Why a method makes nothing of a parameter; empty where it reads it.

    Args:
        method: The merge method.
        name: The parameter.
        scope: INPUT where it stands under a model, SHARED elsewhere.
        is_base: Whether that model is the base.
    """
    try:
        parameter = method.parameter(name)
    except UnknownNameError:
        return f"{method.name} has no such parameter"
    if parameter.is_dead:
        return f"{method.name} reads it and ignores it"
    if scope is Scope.INPUT and parameter.scope is Scope.SHARED:
        return f"it belongs to the whole merge, {method.name} does not look for it under a model"
    if is_base and parameter.scope is Scope.NON_BASE:
        return f"{method.name} has no {name} for the base"
    return ""


class _Walk:
    """Walks a recipe as mergekit reads it; what is no mapping or list is left to mergekit."""

    def __init__(self, method: Method | None, base: Any) -> None:
        self.method = method
        self.base = None if method is not None and method.base is Base.IGNORED else base

    def recipe(self, part: Mapping[str, Any]) -> Iterator[Ignored]:
        yield from unknown_keys(part, (), RECIPE)
        yield from self._settings(part, (), None)
        for key in ("models", "slices", "modules"):
            yield from self._inputs(part, (), key)
        tokenizer = part.get("tokenizer")
        if isinstance(tokenizer, Mapping):
            yield from unknown_keys(tokenizer, ("tokenizer",), TOKENIZER)
            for name, token in entries(tokenizer.get("tokens")):
                yield from unknown_keys(token, ("tokenizer", "tokens", name), TOKEN)

    def _inputs(self, part: Mapping[str, Any], path: KeyPath, key: str) -> Iterator[Ignored]:
        for name, entry in entries(part.get(key)):
            here = (*path, key, name)
            if key == "modules":
                yield from unknown_keys(entry, here, MODULE)
                yield from self._settings(entry, here, None)
                for inner in ("models", "slices"):
                    yield from self._inputs(entry, here, inner)
            elif key == "slices":
                yield from unknown_keys(entry, here, SLICE)
                yield from self._settings(entry, here, None)
                yield from self._inputs(entry, here, "sources")
            else:
                yield from unknown_keys(entry, here, SOURCE if key == "sources" else MODEL)
                yield from self._settings(entry, here, entry.get("model"))

    def _settings(self, part: Mapping[str, Any], path: KeyPath, model: Any) -> Iterator[Ignored]:
        """Parameters that the method does not look up here, and keys of their entries."""
        scope = Scope.SHARED if model is None else Scope.INPUT
        is_base = model is not None and model == self.base
        given = part.get("parameters")
        for name, setting in given.items() if isinstance(given, Mapping) else ():
            here = (*path, "parameters", name)
            why = self.method and idle_parameter(self.method, str(name), scope, is_base)
            if why and self.method is not None:
                known = [p.name for p in self.method.parameters]
                is_known = METHODS.has_parameter(str(name))
                yield Ignored(here, why, "" if is_known else _like(name, known), is_known)
                continue
            for index, entry in entries([setting] if isinstance(setting, Mapping) else setting):
                at = here if isinstance(setting, Mapping) else (*here, index)
                yield from unknown_keys(entry, at, SETTING)


def entries(part: Any) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """The mappings of a list or a mapping, each with its index or key."""
    if isinstance(part, Mapping):
        pairs: Iterable[tuple[Any, Any]] = part.items()
    else:
        pairs = enumerate(part) if isinstance(part, list) else ()
    yield from ((key, entry) for key, entry in pairs if isinstance(entry, Mapping))


def unknown_keys(
    part: Mapping[str, Any], path: KeyPath, known: frozenset[str]
) -> Iterator[Ignored]:
    """Keys of a mapping that mergekit does not know there."""
    for key in part:
        if key not in known:
            is_label = not path and key == "name"  # of a stage, for mergekit-multi
            meant = "" if is_label else _like(key, sorted(known))
            yield Ignored((*path, key), "it reads no such key", meant, is_label)


def _like(name: Any, known: Iterable[str]) -> str:
    return next(iter(get_close_matches(str(name), list(known), n=1, cutoff=_ALIKE)), "")
