"""What the package imports is declared, as a dependency or in an extra of its users'."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.syntax_trees import trees

ROOT = Path(__file__).parents[1]
FORMER_NAMES = {"httpcore"}  # of httpcore2, on older Pythons


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = dict(project["optional-dependencies"])
    del extras["dev"]  # the package itself runs without
    requirements = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    return {normalised(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


@cache
def imported():
    """Top-level package -> one of the files that import it."""
    found = {}
    for file, tree in trees().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], file.relative_to(ROOT).as_posix())
    return found


def test_every_imported_package_is_declared():
    of = packages_distributions()
    known = declared()
    missing = {
        package: file
        for package, file in imported().items()
        if package not in sys.stdlib_module_names | {"evomerge"} | FORMER_NAMES
        and not known & {normalised(name) for name in of.get(package, [package])}
    }
    assert missing == {}


def test_the_walk_sees_imports_inside_functions():
    assert {"datasets", "jinja2", "scipy", "torch"} <= set(imported())
