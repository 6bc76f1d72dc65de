"""What each executor is tried with in its contract suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evomerge.executors.ray_session import RaySession
from evomerge.executors.ray_settings import RaySettings

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class ExecutorCase:
    """Settings of an executor, what has to be there for it, and how long that takes.

    Attributes:
        settings: Its own.
        ground: Entered once for all tests.
        marks: Of its tests.
        keeps_workers: Whether a worker is there for the next job, too.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    ground: Callable[[], AbstractContextManager[None]] = nullcontext
    marks: tuple[pytest.MarkDecorator, ...] = ()
    keeps_workers: bool = True


@contextmanager
def ray_cluster() -> Iterator[None]:
    """A cluster of this machine, to which executors of this process belong from now on."""
    pytest.importorskip("ray")
    paths = {"env_vars": {"PYTHONPATH": str(ROOT)}}  # where the doubles are
    session = RaySession(RaySettings(address="local", num_cpus=0.1, runtime_env=paths))
    session.open(1)
    try:
        yield
    finally:
        session.close()


CASES = {
    "serial": ExecutorCase(),
    "processes": ExecutorCase(),
    "isolated": ExecutorCase(marks=(pytest.mark.slow,), keeps_workers=False),
    "ray": ExecutorCase({"num_cpus": 0.1}, ray_cluster, (pytest.mark.slow,)),
    "backwards": ExecutorCase(),
}
