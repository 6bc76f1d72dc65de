"""Runs in processes that are killed at a chosen moment; importable by those processes.

A moment is a number of calls of functions, Python's and C's: whatever a run does, it can be
killed in the middle of it, and the same number is the same place every time.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder

PRELOADED = [
    "tests.killed",
    "tests.test_search",
    "evomerge.compiler",
    "evomerge.evaluators.lm_eval.evaluator",
    "evomerge.merging.resident",
    "cmaes",
    "evomerge.optimizers.cma_es",
    "evomerge.optimizers.tpe",
]
BUDGET = 9


class Moment:
    """Kills this process, without a word, at its n-th call of a function; counts all of them."""

    def __init__(self, number: int | None) -> None:
        self.number = number
        self.n_calls = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.n_calls += 1
            if self.n_calls == self.number:
                os.kill(os.getpid(), signal.SIGKILL)


def formula_run(folder: Path, optimizer: str) -> None:
    """A search whose worker is a formula; continued where the folder holds one."""
    from tests.test_search import final, search

    run = search(
        folder,
        optimizer=optimizer,
        budget=BUDGET,
        fails=(2, 7),
        finals=final("worst"),
        resume=RunFolder(folder).ledger.is_file(),
    )
    list(run.run())


def workers_run(folder: Path, noted: Path, optimizer: str) -> None:
    """A search by two workers of an optimizer that can be asked while trials are out.

    Args:
        folder: The run folder; continued where it holds a run.
        noted: Where the workers write down what they score.
        optimizer: Its name.
    """
    from evomerge.executors.processes import Processes
    from evomerge.optimizers import OPTIMIZERS
    from tests.fake_executor import Noting
    from tests.test_search import search

    run = search(
        folder,
        optimizer=optimizer,
        population=OPTIMIZERS[optimizer].min_population_size,
        budget=BUDGET,
        executor=Processes(Noting(str(noted)), 2),
        resume=RunFolder(folder).ledger.is_file(),
    )
    list(run.run())


def islands_run(folder: Path) -> None:
    """The same, searched by islands."""
    from functools import partial

    from evomerge.optimizers import OPTIMIZERS
    from evomerge.optimizers.chain import Link
    from evomerge.optimizers.islands import Islands
    from evomerge.run.proposer import Proposer
    from tests.test_search import search

    is_there = RunFolder(folder).ledger.is_file()
    run = search(folder, optimizer="random", budget=BUDGET, fails=(2, 7), resume=is_there)
    links = [
        Link(name, OPTIMIZERS[name], partial(_built, OPTIMIZERS[name]), 3)
        for name in ("tpe", "niches", "cma_es")
    ]
    islands = Islands(links, run.merge_space.space, migrate_every=2, seed=0)
    run.proposer = Proposer(islands, run.merge_space, run.ledger)
    list(run.run())


def _built(kind: Any, space: Any, context: Any) -> Any:
    return kind(space, seed=0, context=context)


def real_run(folder: Path, genome: str) -> None:
    """A search with real mergekit and lm-eval over the genome of a workplace."""
    from evomerge.compiler.examine import compile_genome
    from evomerge.compiler.start import search_for
    from evomerge.foundations.permissions import Permissions
    from evomerge.genome.load import load_genome

    os.chdir(folder.parent)
    definition, source = load_genome(Path(genome))
    list(search_for(compile_genome(definition, source, Permissions(), folder), folder).run())


def _counted(run: Callable[..., None], arguments: tuple[Any, ...], number: int | None) -> None:
    moment = Moment(number)
    sys.setprofile(moment)
    run(*arguments)
    sys.setprofile(None)
    Path(arguments[0], "n_calls").write_text(str(moment.n_calls), encoding="utf-8")


def in_process(target: Callable[..., None], *arguments: Any) -> int | None:
    """Runs a function in a process of its own; its exit code, -9 where it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def whole_run(run: Callable[..., None], *arguments: Any) -> int:
    """An uninterrupted run; how many calls it made."""
    assert in_process(_counted, run, arguments, None) == 0
    return int(Path(arguments[0], "n_calls").read_text(encoding="utf-8"))


def killed_run(number: int, run: Callable[..., None], *arguments: Any) -> bool:
    """A run killed at a call, or at its end if that comes first; whether it was killed."""
    code = in_process(_counted, run, arguments, number)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def whole_lines(folder: Path) -> list[str]:
    """The lines of a ledger, but for one that a kill tore."""
    ledger = RunFolder(folder).ledger
    text = ledger.read_text(encoding="utf-8") if ledger.is_file() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def history(folder: Path) -> list[Any]:
    """All that a run folder holds, but for the seconds."""
    ledger = RunFolder(folder).ledger
    lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.pop("seconds", None)
    documents = {p.name: gzip.decompress(p.read_bytes()) for p in folder.glob("documents/*.gz")}
    return [lines, documents, RunFolder(folder).best.read_text(encoding="utf-8")]


def n_trials(folder: Path) -> int:
    """Finished trials of a run that may have been killed before it began."""
    run = RunFolder(folder)
    return len(Ledger.open(run, read_only=True).trials) if run.ledger.is_file() else 0


def killed_at_random(
    place: Path, n_kills: int, seed: int, run: Callable[..., None], *arguments: Any
) -> int:
    """Kills runs at random moments until enough were; each one that ends equals the whole one."""
    n_calls = whole_run(run, place / "whole", *arguments)
    expected = history(place / "whole")
    rng = random.Random(seed)
    n_killed, folder = 0, place / "run-0"
    while n_killed < n_kills or folder.exists():
        number = rng.randrange(1, n_calls) if n_killed < n_kills else 10 * n_calls
        before = n_trials(folder)
        if killed_run(number, run, folder, *arguments):
            n_killed += 1
            assert n_trials(folder) >= before
        else:
            assert history(folder) == expected
            assert not list(folder.rglob(".*.unfinished"))
            folder = place / f"run-{n_killed}"
    return n_killed


# Named moments


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_nth(owner: Any, name: str, n: int, *, halfway: bool = False) -> None:
    """Kills this process at the n-th call of a function, in the middle of what it writes."""
    original, calls = getattr(owner, name), [0]

    def dying(*arguments: Any, **settings: Any) -> Any:
        calls[0] += 1
        if calls[0] == n:
            if halfway:
                file, line = arguments
                original(file, line[: len(line) // 2])
            _die()
        return original(*arguments, **settings)

    setattr(owner, name, dying)


def _in_ask(n: int) -> None:
    from evomerge.optimizers.cma_es import CmaEs

    _die_at_nth(CmaEs, "_ask", n)


def _in_worker(n: int) -> None:
    from tests import fake_executor

    _die_at_nth(fake_executor, "scores_of", n)


def _in_ledger_line(n: int) -> None:
    from evomerge.run.ledger.store import LedgerFile

    _die_at_nth(LedgerFile, "append", n, halfway=True)


def _before_best_is_renamed(n: int) -> None:
    original, calls = os.replace, [0]

    def dying(source: Any, target: Any) -> None:
        calls[0] += Path(target).name == "best.yml"
        if calls[0] == n:
            _die()
        original(source, target)

    os.replace = dying  # type: ignore[assignment]  # in a process that ends here


MOMENTS = {
    "ask": _in_ask,
    "trial": _in_worker,
    "ledger line": _in_ledger_line,
    "best.yml": _before_best_is_renamed,
}


def dying_run(folder: Path, optimizer: str, moment: str, n: int) -> None:
    """A formula run that is killed at the n-th time it comes to a named moment."""
    MOMENTS[moment](n)
    formula_run(folder, optimizer)


def full_disk_run(folder: Path, optimizer: str, n_bytes: int) -> None:
    """A formula run on a disk that takes no file above a size; leaves what it says."""
    import resource

    from evomerge.foundations.errors import LostFileError

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        formula_run(folder, optimizer)
    except LostFileError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        Path(folder.parent, "said").write_text(str(error), encoding="utf-8")
