"""Where a function of the user's is, found without running anything of it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path

from evomerge.foundations.errors import GenomeError, nearest, why
from evomerge.foundations.reading import is_file, is_folder, read_bytes

_MOST_BYTES = 1 << 26
_ENDINGS = (".py", *EXTENSION_SUFFIXES)


@dataclass(frozen=True)
class FoundFunction:
    """A function by name, not imported.

    Attributes:
        name: ``package.module:function``.
        file: Of its module.
        folder: Where Python finds the module.
        takes: How many arguments, in their order; None where that shows only when it runs.
        digest: Of the module's file; where it is of a package, of all Python files beside it.
    """

    name: str
    file: Path
    folder: Path
    takes: range | None = None

    @property
    def digest(self) -> str:
        """As the files are now."""
        found = sha256()
        depth = self.name.partition(":")[0].count(".") + (self.file.stem == "__init__")
        beside = sorted(self.file.parent.rglob("*.py")) if depth else []
        for file in dict.fromkeys([self.file, *beside]):
            content = read_bytes(file, _MOST_BYTES)
            name = file.relative_to(self.file.parent).as_posix()
            found.update(f"{name}\0{len(content)}\0".encode() + content)
        return found.hexdigest()


def found_function(name: str, folders: Sequence[str]) -> FoundFunction:
    """Finds a function.

    Args:
        name: ``package.module:function``.
        folders: Where modules are looked for that are not installed.

    Raises:
        GenomeError: there is no such module, or no such function in it.
    """
    module, _, function = name.partition(":")
    parts = module.split(".")
    if not all(one.isidentifier() and not iskeyword(one) for one in (*parts, function)):
        what = f"got {name!r}, expected package.module:function"
        raise GenomeError(what, fix="Name a function in a module, e.g. mine:length.")
    file = _file_of(parts, folders)
    if file is None and parts[0] in sys.stdlib_module_names:
        what = f"{parts[0]!r} is Python's own and no module that judges"
        raise GenomeError(what, fix="Write a function in a file of yours, e.g. mine.py.")
    if file is None:
        listed = ", ".join(map(repr, folders))
        raise GenomeError(
            f"there is no Python module {module!r}, neither installed nor in {listed}",
            fix="Mend the name, or add its folder to task_search_path.",
        )
    bound = _bound_in(file)
    names = None if bound is None else {one for one, _ in bound}
    if names is not None and function not in names:
        what = f"{file.name} has no function {function!r}{nearest(function, sorted(names))}"
        raise GenomeError(what, fix="Mend the name.")
    above = file.parents[len(parts) - 1 + (file.stem == "__init__")]
    own = [node for one, node in bound or () if one == function]
    return FoundFunction(name, file, above, _taken(own))


def _file_of(parts: Sequence[str], folders: Sequence[str]) -> Path | None:
    """The file of a module; only the first part is looked up as Python does, which runs nothing."""
    try:
        spec = find_spec(parts[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        places, rest = [Path(folder).absolute() for folder in folders], parts
    elif len(parts) == 1:
        return Path(spec.origin) if spec.origin and is_file(spec.origin) else None
    else:
        places, rest = [*map(Path, spec.submodule_search_locations or ())], parts[1:]
    for part in rest[:-1]:
        places = [place / part for place in places if is_folder(place / part)]
    last = rest[-1]
    names = [f"{last}/__init__.py", *(f"{last}{ending}" for ending in _ENDINGS)]
    files = (place / name for place in places for name in names)
    return next((file for file in files if is_file(file)), None)


def _bound_in(file: Path) -> list[tuple[str, ast.AST]] | None:
    """What a module may hold and where it is bound; None where that shows only when it runs."""
    if file.suffix != ".py":
        return None
    try:
        tree = ast.parse(read_bytes(file, _MOST_BYTES))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise GenomeError(f"{file.name} is no Python ({why(error)})", fix="Mend it.") from error
    bound = list(_bound(tree))
    return None if {one for one, _ in bound} & {"*", "__getattr__"} else bound


def _bound(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Names of whatever may be called, and the nodes that bind them."""
    plain: set[ast.AST] = set()  # names of numbers and texts
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            plain.update(node.targets)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0], node
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in plain:
            yield node.id, node


def _taken(bound: Sequence[ast.AST]) -> range | None:
    """How many arguments a function takes that is defined once, by itself."""
    node = bound[0] if len(bound) == 1 else None
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return None
    own = node.args
    most = len(own.posonlyargs) + len(own.args)
    return range(most - len(own.defaults), sys.maxsize if own.vararg else most + 1)
