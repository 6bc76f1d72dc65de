"""Genome file -> Genome; every mistake at once, each with file, line and key path."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from evomerge.foundations.errors import GenomeError, Problem, nearest
from evomerge.genome.evolve_form import read_as_evolve, searched_as_evolve
from evomerge.genome.keys_allowed import home_of, keys_at
from evomerge.genome.misfit import KeyPath
from evomerge.genome.schema import Genome
from evomerge.genome.source import parse_yaml, read_yaml
from evomerge.genome.space_form import lifted, place_of
from evomerge.genome.stage_files import KEY as STAGES
from evomerge.genome.stage_files import StageFile, stage_files
from evomerge.genome.yaml_file import YamlFile

_MISSPELT = 0.8  # likeness from which on a helper may be a known key, misspelt
_SLICES_NOTE = (
    "Let `evomerge init --from RECIPE` open it where its slices hold whole models, search stacks "
    "of layers with space: {name: layers, encoding: slices, slices: ...}, or try it as it is with "
    "optimizer.seed_from."
)
_HOLD_MODELS = (("genome", "slices"), ("genome", "modules"))
_LOOKUP_NOTE = "Run `evomerge schema` or read docs/genome.md for every key."


@dataclass(frozen=True)
class StagedFile:
    """A genome file as the searches it holds.

    Attributes:
        whole: All of it, overrides in their places.
        stages: Its searches in their order; one without a name where it has no `stages:`.
        problems: What is wrong with how they are named, and name one another.
    """

    whole: YamlFile
    stages: Sequence[StageFile]
    problems: Sequence[Problem]


def load_genome(path: Path, overrides: Sequence[str] = ()) -> tuple[Genome, YamlFile]:
    """Reads a genome file.

    Args:
        path: The YAML file.
        overrides: ``key.path=value`` texts that win over the file; values are YAML.

    Returns:
        The genome, and the file with its lines for later messages.

    Raises:
        GenomeError: every mistake that the file alone can show.
    """
    source = read_source(path, overrides)
    return validate_genome(source), source


def read_source(path: Path, overrides: Sequence[str] = ()) -> YamlFile:
    """The keys and values of a genome file, overrides in their places; see :func:`load_genome`.

    Raises:
        GenomeError: the file is no YAML mapping, or an override has no place in it.
    """
    return _one_search(_mapping(path), overrides)


def read_stages(path: Path, overrides: Sequence[str] = ()) -> StagedFile:
    """The same of every search that a file holds.

    Raises:
        GenomeError: the file is no YAML mapping, or an override has no place in it.
    """
    source = _mapping(path)
    if STAGES not in source.data:
        source = _one_search(source, overrides)
        return StagedFile(source, *stage_files(source))
    for override in overrides:
        _override(source, override)
    stages, problems = stage_files(source)
    for stage in stages:
        _drop_helpers(stage.source)
    read = [replace(stage, source=lifted(stage.source)) for stage in stages]
    return StagedFile(source, read, problems)


def _mapping(path: Path) -> YamlFile:
    source = read_yaml(path)
    if not isinstance(source.data, dict):
        raise GenomeError(
            f"expected keys and values, got {type(source.data).__name__}", where=source.name
        )
    return source


def _one_search(source: YamlFile, overrides: Sequence[str]) -> YamlFile:
    _drop_helpers(source)
    source = lifted(read_as_evolve(source))
    for override in overrides:
        _override(source, override)
    return searched_as_evolve(lifted(source))


def _drop_helpers(source: YamlFile) -> None:
    """Takes out keys that no block knows and that only hold what anchors lend to others.

    One that is nearly a known key stays, to be told.
    """
    if not source.lent:
        return
    try:
        Genome.model_validate(source.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            path = tuple(_in_file(details["loc"], source.data))
            if details["type"] != "extra_forbidden" or not source.is_helper(path):
                continue
            known = list(keys_at(Genome, path[:-1]))
            if not get_close_matches(str(path[-1]), known, n=1, cutoff=_MISSPELT):
                _at(source.data, path[:-1]).pop(path[-1], None)


def validate_genome(source: YamlFile) -> Genome:
    """Plain data -> Genome; raises GenomeError with every mistake."""
    try:
        return Genome.model_validate(source.data)
    except ValidationError as error:
        raise GenomeError.of(problems_of(error, source, Genome)) from error


def problems_of(
    error: ValidationError,
    source: YamlFile,
    model: type[BaseModel],
    prefix: KeyPath = (),
    beside: Iterable[str] = (),
) -> list[Problem]:
    """Pydantic's complaints as sentences, one per key, in the order of the file.

    Args:
        error: What pydantic raised.
        source: The file it read.
        model: The class that was validated.
        prefix: Where in the file that class stands.
        beside: Keys that may stand there too.
    """
    problems: dict[KeyPath, list[Problem]] = {}
    for details in error.errors(include_url=False):
        path = (*prefix, *_in_file(details["loc"], _at(source.data, prefix)))
        if details["type"] == "missing" and path[-1] != details["loc"][-1]:
            path += details["loc"][-1:]  # of a block that is written in short, as a text
        path += getattr(details.get("ctx", {}).get("error"), "path", ())
        found = problems.setdefault(path, [])
        if not found or details["type"] == "value_error":  # the rest: other forms of one value
            is_nested = len(path) > len(prefix) + 1
            known = (*keys_at(model, path[len(prefix) : -1]), *(() if is_nested else beside))
            found.append(_problem(details, path, source, known))
    if any(path[:2] in _HOLD_MODELS for path in problems):  # they hold the models
        problems.pop(("genome", "models"), None)
    return in_order(itertools.chain.from_iterable(problems.values()))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems by their line in the file."""
    return sorted(problems, key=lambda problem: _line(problem.where))


def _line(where: str) -> int:
    parts = where.split(":")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


# What pydantic calls a kind of mistake -> what was wanted there.
_WANTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "keys and values",
    "model": "keys and values",
}


def _problem(
    details: ErrorDetails, path: KeyPath, source: YamlFile, known_keys: Iterable[str]
) -> Problem:
    where = source.where(path)
    kind, got = details["type"], details.get("input")
    if kind == "extra_forbidden":
        return _unknown_key(path, where, sorted(set(known_keys)))
    if kind == "missing":
        return Problem("is missing", where, "Add it.")
    context = details.get("ctx", {})
    if kind == "value_error":
        return Problem(str(context["error"]), where, getattr(context["error"], "fix", ""))
    if kind == "too_short":
        return Problem(f"got {_short(got)}, expected {context['min_length']} or more", where)
    if kind == "literal_error":
        expected = str(context["expected"])
        names = [name.strip("' ") for name in expected.replace(" or ", ",").split(",")]
        return Problem(f"got {got!r}{nearest(str(got), names)}, expected {expected}", where)
    expected = details["msg"].removeprefix("Input should be ").partition(", ")[0]
    expected = _WANTED.get(kind.partition("_")[0], expected)
    return Problem(f"got {_short(got)}, expected {expected}", where)


def _unknown_key(path: KeyPath, where: str, known: Sequence[str]) -> Problem:
    """A key that is misspelt, or stands in another block than its own."""
    name = str(path[-1])
    if path[0] == "genome" and name == "slices":
        return Problem(f"{name!r} of a recipe is no key of this block", where, _SLICES_NOTE)
    home = home_of(Genome, path, known)
    if home:
        return Problem(f"{name!r} is no key of this block", where, f"Move it to {home}.")
    hint = nearest(name, known) or f" (known: {', '.join(known)})"
    return Problem(f"unknown key {name!r}{hint}", where, _LOOKUP_NOTE)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = _child_of(data, part)
    return data


def _child_of(data: Any, part: str | int) -> Any:
    """What stands under a key or index, None where nothing does."""
    if isinstance(data, dict):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _in_file(location: KeyPath, data: Any) -> Iterator[int | str]:
    """The parts of pydantic's location that are keys of the file, not names of types."""
    for index, part in enumerate(location):
        child = _child_of(data, part)
        is_key = child is not None or (isinstance(data, dict) and part in data)
        is_absent_key = (
            index == len(location) - 1 and isinstance(part, str) and isinstance(data, dict)
        )
        if is_key or is_absent_key:
            yield part
            data = child


def _override(source: YamlFile, override: str) -> None:
    """Sets ``key.path=value`` in the data; list entries by index."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise GenomeError(
            f"got {override!r}, expected key.path=value",
            where="--set",
            fix="Write for example `--set optimizer.budget=20`.",
        )
    value = parse_yaml(text, f"--set {key}").data if text.strip() else None
    *parents, last = place_of(key).replace("[", ".").replace("]", "").split(".")
    target, path = source.data, list[str | int]()
    for part in parents:
        if isinstance(target, list):
            index = _index(target, part, override)
            path.append(index)
            target = target[index]
        elif isinstance(target, dict):
            path.append(part)
            target = target.setdefault(part, {})
    if isinstance(target, list):
        index = _index(target, last, override)
        target[index] = value
        source.override((*path, index))
    elif isinstance(target, dict):
        target[last] = value
        source.override((*path, last))
    else:
        raise GenomeError(
            f"{override!r}: {'.'.join(parents)} is {target!r} and holds no keys",
            where="--set",
            fix="Set the whole entry, for example `--set 'tasks[0]={name: x, limit: 8}'`.",
        )


def _index(target: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(target):
        raise GenomeError(
            f"{override!r}: {part!r} is not an index from 0 to {len(target) - 1}", where="--set"
        )
    return int(part)


def to_yaml(source: YamlFile) -> str:
    """The effective genome as YAML, overrides included."""
    return yaml.safe_dump(source.data, sort_keys=False, allow_unicode=True)


def in_a_line(block: Mapping[str, Any]) -> str:
    """A block as the value of an override."""
    text: str = yaml.safe_dump(
        dict(block), default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.strip()
