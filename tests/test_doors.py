"""Files are opened for reading by the doors of ``evomerge.foundations.reading`` alone."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.syntax_trees import PACKAGE, tree_of, trees

# Methods of paths and functions that open a file, or raise for a name that no file can have.
METHODS = {"read_text", "read_bytes", "is_file", "is_dir", "exists", "iterdir", "resolve", "glob"}
FUNCTIONS = {"open", "io.open", "os.open", "gzip.open", "os.listdir", "os.scandir", "Path.open"}
# Readers of other packages that take a name: what they open was looked at before, see where.
THEIRS = {
    "torch.load",
    "np.load",
    "safe_open",
    "np.memmap",
    "np.fromfile",
    "json.load",
    "mmap.mmap",
}
LAST_NAMES = {name.rpartition(".")[2] for name in METHODS | FUNCTIONS | THEIRS}
ALLOWED = {
    "foundations/reading.py": "the doors",
    "foundations/arrays.py: np.load": "bytes that were read already",
    "cli/main.py: os.open": "the null device, in place of an output without room",
    "cli/interrupt.py: os.open": "the null device, in place of a terminal that is gone",
    "run/ledger/store.py: os.open": "the ledger, for appending",
    "run/ledger/belongings.py: os.open": "folders of the run, and the regular files in them",
    "run/ledger/belongings.py: os.listdir": "names in those folders",
    "evaluators/judge/kept_judgments.py: os.open": "a new file of this process, for appending",
    "evaluators/judge/request_keys.py: os.open": "a file that a door has opened, for appending",
    "foundations/claims.py: os.open": "a file of locks, which holds nothing",
    "foundations/scratch.py: glob": "roots of this program in the system's temporary folder",
    "foundations/creating.py: os.open": "creates a file that is not there",
    "foundations/files.py: glob": "removes what this process alone wrote",
    "models/pickles.py: torch.load": "a file that `is_file` saw, of a folder looked at",
    "models/model_folder.py": "looks at folders of models",
    "merging/graft.py: safe_open": "a file of tensors of a folder that was looked at",
    "merging/graft.py: open": "a copy that this process writes",
    "merging/shared_copies.py: safe_open": "a file of this run's own temporary folder",
    "merging/built.py: safe_open": "a folder that this process built",
    "training/written_models.py: os.open": "a folder, to be synced",
    "training/written_models.py: glob": "folders that this process alone writes",
    "optimizers/llm/record.py: glob": "names in a folder of a run, which was looked at",
}


@cache
def opens(file: Path) -> set[str]:
    """What a module calls that opens files."""
    found = set()
    for node in ast.walk(tree_of(file)):
        if not isinstance(node, ast.Call):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if (method or getattr(node.func, "id", "")) not in LAST_NAMES:
            continue  # most calls; to write their names out takes long
        name = ast.unparse(node.func)
        is_path = method == "open" and not name.startswith(("self.", "Ledger.", "sources."))
        if name in FUNCTIONS | THEIRS or is_path:
            found.add(name if name in FUNCTIONS | THEIRS else method)
        elif method in METHODS and not name.startswith("os.path."):
            found.add(method)
    return found


def test_nothing_but_the_doors_opens_a_file():
    wrong = set()
    for file in trees():
        module = file.relative_to(PACKAGE).as_posix()
        if module not in ALLOWED:
            wrong |= {f"{module}: {call}" for call in opens(file)}
    assert wrong - ALLOWED.keys() == set()


def test_every_exception_is_still_one():
    used = set()
    for file in trees():
        module = file.relative_to(PACKAGE).as_posix()
        used |= {module, *(f"{module}: {call}" for call in opens(file))}
    assert ALLOWED.keys() - used == set()


def test_a_new_way_to_open_a_file_is_seen(tmp_path):
    code = (
        "Path('x').read_text()\nopen('x')\n(a / b).open('rb')\ngzip.open(p)\nnp.load(p)\np.exists()"
    )
    (tmp_path / "x.py").write_text(code)
    assert opens(tmp_path / "x.py") == {
        "read_text",
        "open",
        "gzip.open",
        "np.load",
        "exists",
    }
