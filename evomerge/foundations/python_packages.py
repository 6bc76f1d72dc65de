"""Python packages by name: what can be one, and what is installed under it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path

from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.reading import read_bytes

_DIGITS = 12  # of a digest, as people compare them
_GONE = "not installed"


def is_module_name(text: str) -> bool:
    """Whether it may stand after ``import``, and nothing else may hide in it."""
    return all(part.isidentifier() and not iskeyword(part) for part in text.split("."))


def package_digests(packages: Iterable[str]) -> dict[str, str]:
    """Each package with its version, where it has one, and a digest of its Python files.

    A package that is worked upon changes without its version. Nothing is imported.

    Args:
        packages: Importable names.
    """
    return {name: _digest(name) for name in packages}


def _digest(package: str) -> str:
    try:
        files = sorted(_files(package))
    except (ImportError, OSError, ValueError):
        return _GONE
    found = sha256()
    for name, file in files:
        try:
            content = read_bytes(file)
        except EvomergeError:  # a link of an editor, say, that leads nowhere
            found.update(f"{name}\0unreadable".encode())
            continue
        found.update(f"{name}\0{len(content)}\0".encode() + content)
    told = f"sha256 {found.hexdigest()[:_DIGITS]}"
    try:
        return f"{version(package.partition('.')[0])}, {told}"
    except PackageNotFoundError:
        return told


def _files(package: str) -> Iterator[tuple[str, Path]]:
    """Its Python files, each with its name in the package.

    Raises:
        ImportError: there is no such package.
    """
    spec = _found(package)
    if spec is None:
        raise ImportError(package)
    if spec.submodule_search_locations is not None:
        for folder in map(Path, spec.submodule_search_locations):
            for file in folder.rglob("*.py"):
                yield file.relative_to(folder).as_posix(), file
    elif spec.origin is not None and spec.has_location:
        yield Path(spec.origin).name, Path(spec.origin)


def _found(package: str) -> ModuleSpec | None:
    """Where a package is; the standard library's way imports all that stands before a dot."""
    first, *below = package.split(".")
    spec, name = find_spec(first), first
    for part in below:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, [*spec.submodule_search_locations])
    return spec
