"""Imports point one way, there is no ring, and heavy packages stay where they belong."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property
from graphlib import TopologicalSorter

from tests.syntax_trees import PACKAGE, trees

# What lives in each, says CONTRIBUTING.md, whose order is meant. A module imports from its own room
# and from those before it: at the top of its file, inside functions, and for its types alone.
CONTRIBUTING = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `(\w+)/` \|", CONTRIBUTING, re.MULTILINE)
DEEPEST = 15  # imports one above the other; to be lowered, never raised
# Heavy package -> where it may be imported, and where only inside functions.
MODELS = (
    ("models", "merging", "inference", "evaluators", "training"),
    ("compiler", "executors.worker_factory", "foundations.machine"),
)
HEAVY = {
    "torch": MODELS,
    "transformers": MODELS,
    "mergekit": MODELS,
    "safetensors": MODELS,
    "lm_eval": (("evaluators",), ()),
    "optuna": (("optimizers", "trackers"), ()),
    "httpcore2": (("endpoint.network",), ("endpoint",)),
    "cmaes": (("optimizers",), ()),
    "ray": ((), ("executors.ray_connection", "executors.ray_session", "executors.ray_cluster")),
    "click": (("cli",), ()),
    "rich": (("cli",), ()),
}


TABLES = (
    "recipe",
    "merge_spaces",
    "optimizers",
    "merging",
    "inference",
    "evaluators",
    "executors",
    "trackers",
)
# What somebody compares who looks for an entry, beside what its table calls it.
CHOSEN_BY = {"name", "kind"}
# Module -> entries of tables in other rooms that it knows all the same, each for its reason.
MERGEKIT = ("modules", "parameters")  # keys of its documents
TRAINER = ("optimizers.gradient",)  # `training/` is what this optimizer does between its trials
KNOWN = {
    "training.descent": TRAINER,
    "training.prompt_texts": TRAINER,
    "training.trainer": TRAINER,
    "compiler.make_trainer": TRAINER,
    "compiler.auto_choice": ("optimizers.auto", *TRAINER),  # the rule says whom it picks
    "genome.schema": ("auto",),  # which no chain may hold
    "run.ledger.shape": ("cma_es", "gp", "gradient", "nsga2"),  # no more is believed
    "merge_spaces.moe_space": ("recipe.moe",),  # the space of these recipes
    "merging.joined_frame": ("recipe.moe",),  # how they come to life
    "merging.router_gates": ("recipe.moe",),
    "cli.show": ("optimizers.swarm",),  # its option --swarm
    "cli.evolve_options": ("serial",),  # what options of mergekit-evolve mean here
    "genome.evolve_form": ("cma_es",),  # what its files mean here
    "compiler.slurm_script": ("ray",),  # what such a job starts
    "genome.execution_block": ("serial", "processes"),  # defaults
    "genome.words": ("page", "optuna_journal", "log"),  # defaults
    "checks.tensor_names": ("moe",),  # a part of tensors' names
    "nouns.space": ("choice",),  # a kind of coordinate
    "compiler.split_tasks": ("auto",),  # a device
    "genome.merge_block": MERGEKIT,
    "merging.structure": MERGEKIT,
    "recipe.recipe_text": ("parameters",),  # likewise
    "evaluators.judge.local_judge": ("transformers",),  # the package
    "checks.doctor.examination": ("python",),  # the interpreter
    "checks.doctor.packages": ("python",),
    "merging.build": ("python",),
}


@dataclass(frozen=True)
class Import:
    """One name of an import statement: ``a.b`` of ``from a import b`` where that is a module."""

    name: str
    is_late: bool
    is_for_types: bool

    @property
    def package(self):
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Module:
    name: str
    tree: ast.Module
    text: str

    @property
    def room(self):
        return self.name.partition(".")[0]

    @property
    def imports(self):
        return _imports(self.name)

    @cached_property
    def nodes(self):
        return tuple(ast.walk(self.tree))

    @property
    def identifiers(self):
        """What its code calls variables, attributes, arguments and functions."""
        kinds = (ast.Name, ast.Attribute, ast.arg, ast.keyword, ast.FunctionDef)
        return {
            getattr(node, next(key for key in ("id", "attr", "arg", "name") if hasattr(node, key)))
            for node in self.nodes
            if isinstance(node, kinds)
        }

    def own(self, *, late):
        """Modules of the package that it imports, those inside functions with ``late`` alone."""
        known = modules()
        names = {i.name.removeprefix("evomerge.") for i in self.imports if late or not i.is_late}
        return {name for name in names if name in known} - {self.name}


@cache
def modules():
    found = {}
    for file, tree in trees().items():
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = Module(name, tree, file.read_text(encoding="utf-8"))
    return found


@cache
def _imports(name):
    found = []

    def add(imported, is_late, is_for_types):
        found.append(Import(imported, is_late, is_for_types))

    def visit(node, is_late, is_for_types):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            is_for_types = True
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, is_late, is_for_types)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                is_module = below.removeprefix("evomerge.") in modules()
                add(below if is_module else node.module, is_late, is_for_types)
        is_late = is_late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.iter_child_nodes(node):
            visit(child, is_late, is_for_types)

    visit(modules()[name].tree, False, False)
    return found


def test_every_module_has_its_room():
    assert {module.room for module in modules().values()} - {"", "__main__"} == set(ROOMS)


def test_a_module_imports_only_what_stands_before_it():
    order = {room: place for place, room in enumerate([*ROOMS, "__main__"])}
    wrong = [
        (module.name, other)
        for module in modules().values()
        if module.name
        for other in module.own(late=True)
        if order[other.partition(".")[0]] > order[module.room]
    ]
    assert wrong == []


def _entries():
    """Name of each entry of the tables -> its rooms; module of each -> its room."""
    names, places = {}, {}
    for room in TABLES:
        line = r'"(\w+)": (?:_Line\(\s*)?"evomerge\.([\w.]+):\w+"'
        for name, target in re.findall(line, modules()[room].text):
            names.setdefault(name, set()).add(room)
            parts = target.split(".")  # of one in a folder of its own, whatever is in there
            places[target if len(parts) == 2 else ".".join(parts[:2])] = room
    return names, places


def _words(names):
    """Names that are words for something else, too: packages, and what three other rooms call so.

    Nobody lists them, so that an entry may have such a name.
    """
    said = {name: set() for name in names}
    for module in modules().values():
        for word in module.identifiers & names.keys():
            said[word] |= {module.room} - names[word]
    return {
        name
        for name, rooms in said.items()
        if len(rooms) >= 3 or name in HEAVY or name in sys.stdlib_module_names
    }


def _texts(node):
    parts = (node, *getattr(node, "elts", ()), *getattr(node, "keys", ()))
    constants = [one.value for one in parts if isinstance(one, ast.Constant)]
    return {value for value in constants if isinstance(value, str)}


def _sides(node):
    """The two or more expressions of a comparison, of ``a[b]`` and of ``a.get(b)``."""
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    if isinstance(node, ast.Subscript):
        return [node.value, node.slice]
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get":
        return [node.func.value, *node.args]
    return []


@cache
def _tables():
    """Variable of each table -> its room; room -> what an entry of it is chosen by."""
    variables, called = {}, {}
    for room in TABLES:
        text = modules()[room].text
        variables |= dict.fromkeys(re.findall(r"(?m)^(\w+): Registry\[", text), room)
        called[room] = CHOSEN_BY | set(re.findall(r'Registry\(\s*"(\w+)', text))
    return variables, called


def _looked_up(nodes, names):
    """Names that stand where an entry is looked up: as a key of a table, beside another of its
    entries, or compared with what was chosen.
    """
    variables, called = _tables()
    found = set()
    for node in nodes:
        if isinstance(node, (ast.Tuple, ast.List, ast.Set, ast.Dict)):
            own = _texts(node) & names.keys()
            counts = Counter(room for name in own for room in names[name])
            found |= {name for name in own if any(counts[room] > 1 for room in names[name])}
        sides = _sides(node)
        texts = {text for side in sides for text in _texts(side)} if sides else set()
        for name in texts & names.keys():
            others = {getattr(one, "id", getattr(one, "attr", "")) for one in sides}
            is_key = any(variables.get(other) in names[name] for other in others)
            is_chosen = any(others & called[room] for room in names[name])
            if is_key or (is_chosen and isinstance(node, ast.Compare)):
                found.add(name)
    return found


def test_nobody_knows_an_entry_of_a_table_but_its_room():
    """So that one more takes its file and its line: others ask what all of its table can do."""
    names, places = _entries()
    words = _words(names)
    assert {"name", "format", "csv", "transformers"} <= words
    assert {"grid", "soup", "csv", "ray", "judge", "reference"} <= set(names)
    assert {"optimizers.swarm", "evaluators.judge", "recipe.moe", "executors.serial"} <= set(places)
    wrong, used = [], set()
    for module in modules().values():
        known = {
            node.value
            for node in module.nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        known = (known - words) | (_looked_up(module.nodes, names) & words)
        found = {one for one in known & set(names) if module.room not in names[one]}
        found |= {
            place
            for other in module.own(late=True)
            for place, room in places.items()
            if f"{other}.".startswith(f"{place}.") and module.room != room
        }
        used |= {(module.name, one) for one in found}
        wrong += sorted(
            (module.name, one) for one in found if one not in KNOWN.get(module.name, ())
        )
    assert wrong == []
    assert {(module, one) for module, known in KNOWN.items() for one in known} - used == set()


def test_there_is_no_ring_of_imports():
    graph = {name: module.own(late=False) for name, module in modules().items()}
    TopologicalSorter(graph).prepare()  # raises with the ring


def test_a_stranger_finds_twenty_names_and_no_deep_stack():
    assert len(ROOMS) <= 20
    graph = {name: module.own(late=False) for name, module in modules().items()}
    depth = {}
    for name in TopologicalSorter(graph).static_order():
        depth[name] = 1 + max((depth[other] for other in graph[name]), default=0)
    assert max(depth.values()) <= DEEPEST


def test_no_two_modules_have_one_name():
    names = Counter(file.name for file in PACKAGE.rglob("*.py"))
    twice = {name for name, count in names.items() if count > 1}
    assert twice <= {"__init__.py", "base.py"}


def test_no_two_public_classes_have_one_name():
    names = Counter(
        node.name
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in names.items() if count > 1} == set()


def may_import(module, places):
    return any(module == place or module.startswith(f"{place}.") for place in places)


def test_heavy_packages_stay_where_they_belong():
    wrong = []
    for module in modules().values():
        for one in module.imports:
            if one.package in HEAVY and not one.is_for_types:
                anywhere, inside_functions = HEAVY[one.package]
                places = (*anywhere, *inside_functions) if one.is_late else anywhere
                if not may_import(module.name, places):
                    wrong.append((module.name, one.name))
    assert wrong == []


def test_every_module_says_what_it_is():
    assert [m.name for m in modules().values() if not ast.get_docstring(m.tree)] == []


def test_files_and_functions_stay_readable():
    long = [m.name for m in modules().values() if len(m.text.splitlines()) > 350]
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                long.append(f"{module.name}:{node.name}")
    assert long == []
