"""Whether the tests notice: small faults put into the package, one at a time.

    python benchmarks/mutants.py [WORD ...]

The table is `mutants.yml`: what stands in a module, what stands there instead, and the tests that
have to fail. Words choose the mutants that have one of them in their line of the printed table: in
the path, the old text or the new one. Everything happens in a copy; the exit code is 1 where a
mutant survives, and an old text that stands nowhere ends it all.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks" / "mutants.yml"
SECONDS = 600.0  # a mutant that waits for ever is noticed, too
HEAVY = ("torch", "transformers", "optuna", "mergekit.merge_methods", "lm_eval.api.metrics")


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        file: The module, from the root of the repository.
        was: A text that stands in it once.
        now: What stands there instead.
        tests: What pytest is given.
    """

    file: str
    was: str
    now: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        was, now = (" ".join(text.split()) for text in (self.was, self.now))
        return f"{self.file}: {was}  ->  {now}"

    def put_into(self, text: str) -> str:
        """The text of the module with the fault in it."""
        if text.count(self.was) != 1:
            sys.exit(f"{self.file}: {self.was!r} stands there {text.count(self.was)} times, not 1")
        return text.replace(self.was, self.now)


def table(words: Sequence[str] = ()) -> list[Mutant]:
    """The mutants that are asked for, each tried on today's text."""
    found = []
    for entry in yaml.safe_load(TABLE.read_text(encoding="utf-8")):
        file, tests = f"evomerge/{entry['file']}", tuple(entry["tests"])
        for pair in entry["mutants"]:
            mutant = Mutant(file, pair["was"], pair["now"], tests)
            if not words or any(word in str(mutant) for word in words):
                mutant.put_into((ROOT / file).read_text(encoding="utf-8"))
                found.append(mutant)
    return found


def tests_fail(tests: Sequence[str], root: Path) -> bool:
    """Whether one of the tests notices what the copy has become."""
    report = root / "report.txt"
    process = multiprocessing.get_context("fork").Process(target=test, args=(tests, root, report))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return True
    if process.exitcode not in (0, 1, 2):  # 2: a module cannot be imported
        sys.exit(f"pytest {' '.join(tests)} ended with {process.exitcode}:\n{report.read_text()}")
    return process.exitcode != 0


def test(tests: Sequence[str], root: Path, report: Path) -> None:
    """Runs tests in the copy; in a process of its own, which has the heavy packages already."""
    with report.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root)
    sys.path.insert(0, str(root))
    sys.exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", *tests])))


def write(file: Path, text: str) -> None:
    """Writes a module so that no bytecode of its former text is taken for it."""
    file.write_text(text, encoding="utf-8")
    Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)


def tried(mutants: Sequence[Mutant], root: Path) -> Iterator[tuple[Mutant, bool, float]]:
    """Each mutant, whether it is noticed, and the seconds that took."""
    for mutant in mutants:
        file = root / mutant.file
        text, started = file.read_text(encoding="utf-8"), time.perf_counter()
        write(file, mutant.put_into(text))
        is_caught = tests_fail(mutant.tests, root)
        write(file, text)
        yield mutant, is_caught, time.perf_counter() - started


def copied(to: Path) -> Path:
    """The files of the repository as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def main() -> None:
    mutants = table(sys.argv[1:])
    for name in HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder))
        suites = sorted({mutant.tests for mutant in mutants})
        for tests in suites:
            if tests_fail(tests, root):
                report = (root / "report.txt").read_text(encoding="utf-8")
                sys.exit(f"{' '.join(tests)}: fails without any mutant\n{report}")
        n_survived = 0
        for mutant, is_caught, seconds in tried(mutants, root):
            n_survived += not is_caught
            verdict = "caught  " if is_caught else "SURVIVED"
            print(f"{verdict} {seconds:5.1f} s  {mutant}", flush=True)
    print(f"{len(mutants) - n_survived} of {len(mutants)} mutants caught")
    sys.exit(n_survived > 0)


if __name__ == "__main__":
    main()
