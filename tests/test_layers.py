"""Imports point down, there is no ring, and heavy packages stay where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "evomerge"
# A module imports what stands in a higher line, or in its own line where there is no ring.
LAYERS = [
    [
        "errors",
        "findings",
        "permissions",
        "registry",
        "seeding",
        "files",
        "reading",
        "sizes",
        "counted",
        "provenance",
        "arrays",
        "creating",
        "harmless",
        "secret",
        "own_keys",
    ],
    ["deadline", "alarm", "lock", "threads", "guardian", "lifetime", "scratch", "endpoint"],
    ["architecture", "space", "recipe", "methods", "trial", "genome"],
    ["merge_spaces", "optimizers", "objective"],
    [
        "events",
        "parents",
        "standing",
        "steering",
        "paired",
        "comparison",
        "shrinkage",
        "final_choice",
        "search_documents",
        "expectation",
        "ledger",
        "best",
        "inspection",
        "merging",
        "evaluators",
    ],
    ["executors", "proposer", "training"],
    ["limits", "search", "report", "preflight", "plan"],
    ["compiler"],
    ["verification", "doctor", "starter", "opened_recipe"],
    ["cli", "__main__"],
]
# Heavy package -> where it may be imported, and where only inside functions.
MODELS = (("inspection", "merging", "evaluators", "training"), ("compiler", "executors.factory"))
HEAVY = {
    "torch": MODELS,
    "transformers": MODELS,
    "mergekit": MODELS,
    "safetensors": MODELS,
    "lm_eval": (("evaluators",), ()),
    "optuna": (("optimizers", "report"), ()),
    "httpcore2": (("endpoint.network",), ("endpoint",)),
    "cmaes": (("optimizers",), ()),
    "click": (("cli",), ()),
    "rich": (("cli",), ()),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def is_own_module(name):
    path = PACKAGE.parent / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imports_of(file, *, at_top_only):
    """Names of modules imported at run time; ``if TYPE_CHECKING`` blocks are not."""
    found = []

    def visit(node, inside):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import) and not (inside and at_top_only):
            found.extend(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and not (inside and at_top_only):
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in below if is_own_module(name)]
            found.extend(modules or [node.module or ""])
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(file.read_text(encoding="utf-8")), False)
    return found


def layer_of(module):
    return next(i for i, names in enumerate(LAYERS) if module.partition(".")[0] in names)


def own_imports(file, *, at_top_only=False):
    names = {module_of(other) for other in FILES}
    for name in imports_of(file, at_top_only=at_top_only):
        inner = name.removeprefix("evomerge.")
        if name.startswith("evomerge.") and inner in names:
            yield inner


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_a_module_imports_only_what_stands_above_it(file):
    module = module_of(file)
    if not module:
        return
    below = [other for other in own_imports(file) if layer_of(other) > layer_of(module)]
    assert below == []


def test_every_module_has_its_layer():
    known = {name for names in LAYERS for name in names}
    assert {module_of(file).partition(".")[0] for file in FILES} - {""} == known


def test_there_is_no_ring_of_imports():
    graph = {module_of(file): set(own_imports(file, at_top_only=True)) for file in FILES}
    graph = {module: others - {module} for module, others in graph.items()}
    while True:
        leaves = {module for module, others in graph.items() if not others & set(graph)}
        if not leaves:
            break
        graph = {module: others for module, others in graph.items() if module not in leaves}
    assert graph == {}


def may_import(module, places):
    return any(module == place or module.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_heavy_packages_stay_where_they_belong(file):
    module = module_of(file)
    wrong = []
    for at_top_only in (True, False):
        for name in imports_of(file, at_top_only=at_top_only):
            package = name.partition(".")[0]
            if package in HEAVY:
                anywhere, inside_functions = HEAVY[package]
                places = anywhere if at_top_only else (*anywhere, *inside_functions)
                if not may_import(module, places):
                    wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_every_module_says_what_it_is(file):
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_files_and_functions_stay_readable(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
