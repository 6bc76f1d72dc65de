"""Whether a merge method reads the parameters that a genome sets, there and with such values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from evomerge.foundations.errors import UnknownNameError
from evomerge.genome.merge_method import Method, MethodParameter, Scope
from evomerge.genome.misfit import KeyPath, MisfitError
from evomerge.genome.parameter_values import ParameterSettings, Setting

IsKnown = Callable[[str], bool]
_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_HOW_TO_SEARCH = {
    bool: "Write {choice: [true, false]} to search it.",
    int: "Write {integer: [low, high]} to search it.",
    float: "",
    str: "Write {choice: [...]} to search it.",
}


def is_left_out(method: Method, name: str, settings: ParameterSettings, known: IsKnown) -> bool:
    """Whether a recipe may hold settings here that its method makes nothing of.

    Fixed ones that mergekit ignores are common in published recipes. To search such a parameter
    is a mistake, as is a name that no method knows.
    """
    varies = any(entry.varies for entry in settings.entries)
    return known(name) and not varies and not method.reads(name)


def unfit_settings(
    method: Method,
    parameters: Mapping[str, ParameterSettings],
    place: KeyPath,
    own_keys: Iterable[str],
    known: IsKnown,
    *,
    of_a_model: bool = False,
) -> Iterator[MisfitError]:
    """Settings that the method does not know, does not read here, or cannot take.

    Args:
        method: The genome's merge method.
        parameters: Its settings, by name.
        place: Where they stand, below the ``genome:`` block.
        own_keys: Keys of the ``genome:`` block itself, which people write one level too deep.
        known: Whether any method has a parameter of a name.
        of_a_model: Whether they stand under a model.
    """
    keys = set(own_keys)
    for name, settings in parameters.items():
        here = (*place, name)
        if is_left_out(method, name, settings, known):
            continue
        try:
            parameter = method.parameter(name)
        except UnknownNameError as error:
            yield _unknown(name, here, str(error), keys)
            continue
        if parameter.is_dead:
            yield MisfitError(f"{method.name} reads {name} and ignores it", *here, fix="Remove it.")
        if of_a_model and parameter.scope is Scope.SHARED:
            yield MisfitError(
                f"{name} belongs to the whole merge, mergekit does not look for it under a model",
                *here,
                fix="Move it to genome.parameters.",
            )
        for index, entry in enumerate(settings.entries):
            at = (*here, index) if len(settings.entries) > 1 else here
            yield from _unfit_kind(at, parameter, entry)
            yield from _out_of_bounds(at, parameter, entry)


def missing_settings(
    method: Method,
    shared: Mapping[str, ParameterSettings],
    of_models: Iterable[Mapping[str, ParameterSettings]],
) -> Iterator[MisfitError]:
    """Parameters that every recipe has to give, of which the genome says nothing.

    Args:
        method: The genome's merge method.
        shared: Settings that hold for all models.
        of_models: Settings of each model that is not the base.
    """
    own = list(of_models)
    for parameter in method.live_parameters:
        name, is_shared = parameter.name, parameter.scope is Scope.SHARED
        if not parameter.is_required or name in shared:
            continue
        if is_shared or not own or not all(name in settings for settings in own):
            yield MisfitError(
                f"is missing: {method.name} needs it, and nothing is known of its range",
                *("parameters", name),
                fix="Give it a range, {range: [low, high]}, or a fixed value.",
            )


def _unknown(name: str, here: KeyPath, what: str, own_keys: set[str]) -> MisfitError:
    if name in own_keys:
        return MisfitError(
            f"{name} is a key of genome, not a merge parameter",
            *here,
            fix=f"Move it to genome.{name}.",
        )
    return MisfitError(what, *here)


def unfit_normalize(
    method: Method, normalize: bool | None, parameters: Mapping[str, ParameterSettings]
) -> Iterator[MisfitError]:
    """A ``normalize`` that the method lacks, or that is given twice."""
    name = method.normalized_by
    given = parameters.get(name or "")
    if normalize is not None and name in (None, "always") and not method.in_pairs:
        yield MisfitError(f"{method.name} has no such parameter", "normalize", fix="Remove it.")
    if given is None or name is None:
        return
    here = ("parameters", name)
    if normalize is not None:
        yield MisfitError("stands beside genome.normalize", *here, fix="Drop one of them.")
    if len(given.entries) > 1 or not _is_boolean(given.entries[0].value):
        yield MisfitError("expected true or false", *here)


def _is_boolean(value: object) -> bool:
    """Whether mergekit reads it as one; 1.0 stands in recipes for true."""
    return isinstance(value, (bool, int, float)) and value in (0, 1)


def _unfit_kind(at: KeyPath, parameter: MethodParameter, setting: Setting) -> Iterator[MisfitError]:
    """Values of a kind that mergekit would refuse in the middle of a merge."""
    fixed = setting.value if isinstance(setting.value, list) else [setting.value]
    values = [v for v in (*fixed, *(setting.choice or ())) if v is not None]
    if parameter.kind is bool:
        wrong = [v for v in values if not _is_boolean(v)]
    elif parameter.kind is str:
        wrong = [v for v in values if not isinstance(v, str)]
    else:
        numbers = int if parameter.kind is int else (int, float)
        wrong = [v for v in values if isinstance(v, bool) or not isinstance(v, numbers)]
    if setting.range and parameter.kind is not float:
        wrong.append(f"range {list(setting.range)}")
    if setting.integer and parameter.kind in (bool, str):
        wrong.append(f"integer {list(setting.integer)}")
    if wrong:
        got, wanted = ", ".join(map(repr, wrong)), _WANTED[parameter.kind]
        fix = _HOW_TO_SEARCH[parameter.kind]
        yield MisfitError(f"got {got}, expected {wanted}", *at, fix=fix)


def _out_of_bounds(
    at: KeyPath, parameter: MethodParameter, setting: Setting
) -> Iterator[MisfitError]:
    low, high = parameter.bounds
    values = setting.range or setting.integer or _numbers(setting.value) or _numbers(setting.choice)
    for value in values:
        if not low <= value <= high:
            yield MisfitError(
                f"{value:g} is outside [{low:g}, {high:g}], what {parameter.name} can be", *at
            )


def _numbers(value: object) -> tuple[float, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(v for v in items if isinstance(v, (int, float)) and not isinstance(v, bool))
