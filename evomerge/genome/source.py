"""YAML text -> plain data with the line of every key; bounded, safe, no duplicate keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evomerge.errors import EvomergeError, GenomeError, Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 30
MAX_NODES = 100_000  # aliases count as often as they are used

KeyPath = tuple[str | int, ...]


class MisfitError(ValueError):
    """A value that does not fit another.

    Args:
        what: What is wrong, with the value received.
        path: The key to mend, below the block that was validated.
    """

    def __init__(self, what: str, *path: str | int) -> None:
        super().__init__(what)
        self.path: KeyPath = path


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class Source:
    """A YAML file as data.

    Attributes:
        name: The file, as messages name it.
        data: Mappings, lists, scalars.
        lines: Key path -> line number from 1.
    """

    name: str
    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """``FILE:LINE: key.path`` of a key, or of the nearest one above it that exists."""
        line = next(
            (self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), 0
        )
        place = f"{self.name}:{line}" if line else self.name
        return f"{place}: {dotted(path)}" if path else place

    def locate(self, problem: Problem) -> Problem:
        """A problem that names a key path, with the file and line of that key."""
        by_text = {dotted(path): path for path in self.lines}
        text = problem.where
        while text and text not in by_text:
            text = text[: max(text.rfind("."), text.rfind("["), 0)]
        line = self.lines.get(by_text.get(text, ()), 0)
        place = f"{self.name}:{line}" if line else self.name
        return Problem(problem.what, f"{place}: {problem.where}", problem.fix)


def dotted(path: KeyPath) -> str:
    """``genome.models[1].parameters.weight``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_yaml(path: Path) -> Source:
    """Reads a YAML file.

    Raises:
        GenomeError: the file cannot be read or is not YAML; all duplicate keys at once.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise GenomeError(
                f"{size} bytes, more than the {MAX_BYTES} a genome may have", where=str(path)
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise GenomeError(
            "no such file", where=str(path), fix="Check the path; genomes/ holds examples."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise GenomeError(f"cannot be read ({error})", where=str(path)) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Source:
    """Parses YAML text; see :func:`read_yaml`."""
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        raise _syntax_error(error, name) from error
    try:
        node = loader.get_single_node()
        if node is None:
            raise GenomeError("the file is empty", where=name)
        walk = _Walk(loader, name)
        data = walk.build(node, (), 0)
    except yaml.YAMLError as error:
        raise _syntax_error(error, name) from error
    except RecursionError as error:
        raise GenomeError(f"nested deeper than {MAX_DEPTH} levels", where=name) from error
    finally:
        loader.dispose()
    if walk.problems:
        raise GenomeError.of(walk.problems)
    return Source(name, data, walk.lines)


def _syntax_error(error: yaml.YAMLError, name: str) -> EvomergeError:
    mark = getattr(error, "problem_mark", None)
    where = f"{name}:{mark.line + 1}" if mark is not None else name
    what = getattr(error, "problem", None) or str(error)
    return GenomeError(f"not YAML: {what}", where=where)


class _Walk:
    """Turns YAML nodes into data, noting lines and duplicate keys on the way."""

    def __init__(self, loader: _Loader, name: str) -> None:
        self.loader = loader
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self.n_nodes = 0

    def build(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        self.n_nodes += 1
        if depth > MAX_DEPTH or self.n_nodes > MAX_NODES:
            raise GenomeError(
                f"nested deeper than {MAX_DEPTH} levels or more than {MAX_NODES} values",
                where=f"{self.name}:{node.start_mark.line + 1}",
            )
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)
            ]
        try:
            value = self.loader.construct_object(node)
        except ValueError:
            return str(node.value)  # looks like a number or a date and is none: 2024-13-45
        if not isinstance(value, (str, int, float, bool, type(None))):
            return str(node.value)  # a date in a genome is a text
        return value

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise GenomeError(
                    "a key must be a text", where=f"{self.name}:{key_node.start_mark.line + 1}"
                )
            key = str(key_node.value)
            here = (*path, key)
            line = key_node.start_mark.line + 1
            if key in data:
                self.problems.append(
                    Problem(
                        f"key {key!r} stands twice, first on line {self.lines[here]}",
                        f"{self.name}:{line}: {dotted(here)}",
                        "Remove one of them.",
                    )
                )
            self.lines[here] = line
            data[key] = self.build(value_node, here, depth + 1)
        return data
