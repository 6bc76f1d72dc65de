"""Searches with workers elsewhere, run in a process of their own that may be killed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from evomerge.executors.base import Executor
from evomerge.run.ledger.run_folder import RunFolder
from tests.gated_worker import Gated

BUDGET = 12
WAYS = ("processes", "ray")


def executor_of(
    way: str, make_worker: Any, n_workers: int, address: str = "", **more: Any
) -> Executor:
    """Workers in processes, or on the cluster at an address that is there."""
    if way == "processes":
        from evomerge.executors.processes import Processes

        return Processes(make_worker, n_workers, **more)
    from evomerge.executors.ray_cluster import RayCluster
    from evomerge.executors.ray_settings import RaySettings

    settings = RaySettings(address=address or "auto", num_cpus=0.1, wait=60)
    return RayCluster(make_worker, n_workers, settings=settings, **more)


def search_of(folder: Path, executor: Executor) -> Any:
    """A search that asks whenever a slot is free; continued where the folder holds one."""
    from tests.test_search import search

    return search(
        folder,
        optimizer="random",
        population=1,
        budget=BUDGET,
        executor=executor,
        resume=RunFolder(folder).ledger.is_file(),
    )


def gated_run(folder: Path, way: str, address: str, gated: Gated, n_workers: int) -> None:
    """One that says who works for it, in the file ``pids`` beside it."""
    from tests.gated_worker import after_all_wait

    events = search_of(folder, executor_of(way, gated, n_workers, address)).run()
    places = after_all_wait(events, n_workers, min(gated.held or [0]))
    pids = " ".join(pid for pid, _ in places.values())
    (folder.parent / "pids.unfinished").write_text(pids, encoding="utf-8")
    os.replace(folder.parent / "pids.unfinished", folder.parent / "pids")
    list(events)


def crowded_run(folder: Path, way: str, address: str, noted: Path, n_bytes: int) -> None:
    """One whose ledger lies on a disk that takes no file above a size; leaves what it says."""
    import resource

    from evomerge.foundations.errors import LostFileError
    from tests.fake_executor import Noting

    run = search_of(folder, executor_of(way, Noting(str(noted)), 2, address))
    events = run.run()
    next(events)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        list(events)
    except LostFileError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        Path(folder.parent, "said").write_text(str(error), encoding="utf-8")


def trials_in(folder: Path) -> list[dict[str, Any]]:
    """The trials of a ledger, line by line."""
    text = RunFolder(folder).ledger.read_text(encoding="utf-8")
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in map(json.loads, whole) if line["kind"] == "trial"]
