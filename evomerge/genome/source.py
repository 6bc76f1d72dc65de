"""YAML text -> plain data with the line of every key; bounded, safe, no duplicate keys.

Anchors, aliases and merge keys (``<<``) mean what YAML says. The text may be a stranger's: no tag
makes an object of it, and its size counts as written out, with every alias in full.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from evomerge.foundations.errors import GenomeError, Problem, UnreadableError
from evomerge.foundations.reading import read_text
from evomerge.foundations.text_safety import offender
from evomerge.genome.misfit import KeyPath
from evomerge.genome.yaml_file import MAX_DEPTH, MAX_INTEGER, YamlFile, dotted

MAX_BYTES = 1_000_000  # of the file, and of its texts written out
MAX_NODES = 100_000  # aliases count as often as they are used
MAX_DIGITS = 64  # reading base 60 (1:30:00) takes the square of the length
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "value")
)
_INDENTED = re.compile(r"^[ \t]+---\s*$", re.MULTILINE)
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> YamlFile:
    """Reads a YAML file.

    Raises:
        GenomeError: the file cannot be read or is not YAML; all duplicate keys at once.
    """
    return parse_yaml(_text(path), str(path))


def read_documents(path: Path) -> list[YamlFile]:
    """Every document of a YAML file, one or more; see :func:`read_yaml`."""
    return _parsed(_text(path), str(path), _nodes)


def _nodes(loader: _Loader) -> Iterator[yaml.Node | None]:
    while loader.check_node():
        yield loader.get_node()


def parse_yaml(text: str, name: str) -> YamlFile:
    """Parses YAML text; see :func:`read_yaml`."""
    (source,) = _parsed(text, name, lambda loader: [loader.get_single_node()])
    return source


def _text(path: Path) -> str:
    try:
        return read_text(path, MAX_BYTES)
    except UnreadableError as error:
        (problem,) = error.problems
        fix = problem.fix or "Check the path; genomes/ holds examples."
        raise GenomeError(problem.what, where=problem.where, fix=fix) from error


def _parsed(
    text: str, name: str, compose: Callable[[_Loader], Iterable[yaml.Node | None]]
) -> list[YamlFile]:
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        raise _syntax_error(error, name, text) from error
    sources: list[YamlFile] = []
    walk = None
    try:
        for node in [*compose(loader)] or [None]:
            if node is None:
                raise GenomeError("the file is empty", where=name)
            walk = _Walk(loader, name, walk)
            sources.append(YamlFile(name, walk.build(node, (), 0), walk.lines, walk.lent))
    except yaml.YAMLError as error:
        raise _syntax_error(error, name, text) from error
    except RecursionError as error:
        raise GenomeError(
            f"nested deeper than {MAX_DEPTH} levels", where=name, fix="Flatten it."
        ) from error
    except (ValueError, OverflowError) as error:  # PyYAML: \UFFFFFFFF, which is no character
        raise GenomeError(f"not YAML: {error}", where=name) from error
    finally:
        loader.dispose()
    if walk is not None and walk.problems:
        raise GenomeError.of(walk.problems)
    return sources


def _syntax_error(error: yaml.YAMLError, name: str, text: str) -> GenomeError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        character = ascii(chr(int(error.character)))
        return GenomeError(f"not YAML: the character {character}", where=f"{name}:{line}")
    mark = getattr(error, "problem_mark", None)
    where = f"{name}:{mark.line + 1}" if mark is not None else name
    what = getattr(error, "problem", None) or str(error)
    if what == "but found another document":
        return GenomeError(
            "holds several YAML documents, expected one",
            where=where,
            fix="Keep one; the stages of a mergekit-multi file are built by mergekit-multi.",
        )
    separator = _INDENTED.search(text)
    if separator is not None:
        line = text[: separator.start()].count("\n") + 1
        return GenomeError(
            "an indented ---, which begins a document of YAML only at the start of a line: this "
            "looks like the stages of a mergekit-multi file",
            where=f"{name}:{line}",
            fix="Keep one of the stages; mergekit-multi builds the others.",
        )
    return GenomeError(f"not YAML: {what}", where=where)


class _Walk:
    """Turns YAML nodes into data, noting lines and mistakes on the way.

    Args:
        loader: Knows scalars.
        name: The file.
        before: The walk of the document before, whose size and mistakes are of one file.
    """

    def __init__(self, loader: _Loader, name: str, before: _Walk | None = None) -> None:
        self.loader = loader
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        self.lent: dict[KeyPath, int] = {}
        self.problems: list[Problem] = before.problems if before else []
        self._first: dict[int, KeyPath] = {}  # where each node was met first
        self.n_nodes: int = before.n_nodes if before else 0
        self.n_characters: int = before.n_characters if before else 0

    def build(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        self._count(node, depth)
        self._use(node, path)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if node.tag not in _TAGS:
            self._problem(node, path, f"tag {node.tag!r} is not read", "Remove it.")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)
            ]
        return self._scalar(node, path)

    def _count(self, node: yaml.Node, depth: int) -> None:
        """Raises where the content is too much, before it is made."""
        self.n_nodes += 1
        self.n_characters += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        where = f"{self.name}:{node.start_mark.line + 1}"
        if depth > MAX_DEPTH:
            raise GenomeError(
                f"nested deeper than {MAX_DEPTH} levels", where=where, fix="Flatten it."
            )
        if self.n_nodes > MAX_NODES or self.n_characters > MAX_BYTES:
            raise GenomeError(
                f"more than {MAX_NODES} values or {MAX_BYTES} characters, aliases written out",
                where=where,
                fix="Shorten it.",
            )

    def _use(self, node: yaml.Node, path: KeyPath) -> None:
        """Notes a node that an alias has brought to a second place."""
        first = self._first.setdefault(id(node), path)
        if first != path:
            pairs = zip(first, path, strict=False)
            common = next((n for n, (one, other) in enumerate(pairs) if one != other), len(first))
            self.lent[first] = min(common, self.lent.get(first, common))

    def _problem(self, node: yaml.Node, path: KeyPath, what: str, fix: str) -> None:
        where = f"{self.name}:{node.start_mark.line + 1}"
        self.problems.append(Problem(what, f"{where}: {dotted(path)}" if path else where, fix))

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text = self._harmless(node, path)
        if node.tag not in _TAGS or node.tag.endswith((":timestamp", ":value")):
            return text  # a date in a genome is a text
        too_large = node.tag.endswith(":int") and len(text) > MAX_DIGITS
        try:
            value = MAX_INTEGER + 1 if too_large else self.loader.construct_object(node)
        # What PyYAML raises where a text is not what its tag or its looks say: 0b, !!bool 7.
        except (ValueError, LookupError, AttributeError):
            return text
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            self._problem(node, path, f"a number beyond ±{MAX_INTEGER}", "Use a smaller one.")
            return text
        return value if isinstance(value, (str, int, float, bool, type(None))) else text

    def _harmless(self, node: yaml.Node, path: KeyPath) -> str:
        """The text of a scalar; one that a terminal would obey is a mistake."""
        text = str(node.value)
        found = offender(text)
        if found:
            self._problem(node, path, f"holds the character {found}", "Remove it.")
        return text

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in self._entries(node):
            key = self._harmless(key_node, path)
            here = (*path, key)
            if key_node.tag == _MERGE and merged:
                self._problem(key_node, here, "stands twice", "Write <<: [*one, *other].")
            elif key_node.tag == _MERGE:
                merged = self._merged(value_node, path, depth + 1)
                continue
            elif key in data:
                what = f"key {key!r} stands twice, first on line {self.lines[here]}"
                self._problem(key_node, here, what, "Remove one of them.")
            self.lines[here] = key_node.start_mark.line + 1
            data[key] = self.build(value_node, here, depth + 1)
        for key, (merged_key, value_node) in merged.items():
            if key not in data:
                here = (*path, key)
                self._harmless(merged_key, path)
                self.lines[here] = merged_key.start_mark.line + 1
                data[key] = self.build(value_node, here, depth + 1)
        return data

    def _entries(self, node: yaml.MappingNode) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise GenomeError(
                    "a key must be a text",
                    where=f"{self.name}:{key_node.start_mark.line + 1}",
                    fix="Quote it.",
                )
            yield key_node, value_node

    def _merged(
        self, node: yaml.Node, path: KeyPath, depth: int
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The entries that a merge key brings: the first mapping that has a key wins."""
        self._count(node, depth)
        self._use(node, (*path, "<<"))
        if isinstance(node, yaml.SequenceNode):
            parts = [self._merged(part, path, depth + 1) for part in node.value]
            return {key: entry for part in reversed(parts) for key, entry in part.items()}
        if not isinstance(node, yaml.MappingNode):
            what = "a merge key takes one mapping or a list of them"
            self._problem(node, (*path, "<<"), what, "Name an anchor of a mapping: <<: *name.")
            return {}
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        inherited: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in self._entries(node):
            self._count(key_node, depth)
            if key_node.tag == _MERGE:
                inherited = self._merged(value_node, path, depth + 1)
            else:
                own[str(key_node.value)] = key_node, value_node
        return {**inherited, **own}
