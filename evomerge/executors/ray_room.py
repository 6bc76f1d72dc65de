"""What a Ray cluster has room for, at all and now, in words: nodes, what is free, who holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.foundations.counted import counted
from evomerge.foundations.sizes import size_text
from evomerge.foundations.text_safety import one_line

Node = Mapping[str, Any]  # as ``ray.nodes`` has it
Resources = Mapping[str, float]  # by Ray's names


@dataclass(frozen=True)
class ClusterJob:
    """A job with actors on the cluster.

    Attributes:
        job: Its number, as Ray has it.
        command: How it was started.
        place: Where: ``PID on ADDRESS``.
        n_actors: How many live.
        is_own: Whether it is this run.
    """

    job: str
    command: str
    place: str
    n_actors: int
    is_own: bool = False

    def __str__(self) -> str:
        if self.is_own:
            return f"this run ({counted(self.n_actors, 'worker')})"
        return f"job {self.job} ({counted(self.n_actors, 'actor')}, {self.command}, {self.place})"


def shortfall(nodes: Sequence[Node], wanted: Resources, n_workers: int) -> str:
    """What a cluster lacks for so many workers, whoever holds it now; empty where it has enough.

    Args:
        nodes: Those that are alive.
        wanted: What one worker takes.
        n_workers: How many.
    """
    room = sum(_room(node["Resources"], wanted) for node in nodes)
    if room >= n_workers:
        return ""
    each = _listed(wanted)
    have = "; ".join(_listed({key: n["Resources"].get(key, 0) for key in wanted}) for n in nodes)
    workers = counted(n_workers, "worker")
    return f"{workers} with {each} each, and {counted(len(nodes), 'node')} with {have or 'nothing'}"


def held_now(
    nodes: Sequence[Node],
    free: Mapping[str, Resources],
    wanted: Resources,
    n_waiting: int,
    holders: Iterable[ClusterJob],
) -> str:
    """Who keeps workers waiting that the cluster could hold; empty where one more has room now.

    Args:
        nodes: Those that are alive.
        free: Id of a node -> what nobody holds of it.
        wanted: What one worker takes.
        n_waiting: Workers that are not placed.
        holders: Jobs with actors on it.
    """
    if any(_room(free.get(node["NodeID"], {}), wanted) for node in nodes):
        return ""
    have = "; ".join(_free_of(node, free.get(node["NodeID"], {}), wanted) for node in nodes)
    named = ", ".join(map(str, holders)) or "others, by tasks or placement groups"
    workers = counted(n_waiting, "worker")
    return f"{workers} with {_listed(wanted)} each; free are {have}; held by {named}"


def holders_in(
    actors: Iterable[Mapping[str, Any]], jobs: Iterable[Mapping[str, Any]], own_job: str
) -> list[ClusterJob]:
    """Jobs that have living actors.

    Args:
        actors: As Ray's table has them.
        jobs: Likewise.
        own_job: The number of this run's.
    """
    known = {job["JobID"]: job for job in jobs}
    n_actors = Counter(one["JobID"] for one in actors if one["State"] == "ALIVE")
    found = []
    for job, n in sorted(n_actors.items()):
        about = known.get(job, {})
        command = one_line(str(about.get("Entrypoint", "")))
        place = f"pid {about.get('DriverPid', '?')} on {about.get('DriverIPAddress', '?')}"
        found.append(ClusterJob(job, _short(command), place, n, job == own_job))
    return found


def _short(command: str, most: int = 60) -> str:
    return command if len(command) <= most else f"{command[: most - 1]}…"


def _room(has: Resources, wanted: Resources) -> int:
    """Workers that a node can hold."""
    return min(int(has.get(name, 0) / amount + 1e-9) for name, amount in wanted.items())


def _free_of(node: Node, free: Resources, wanted: Resources) -> str:
    parts = (
        f"{_amount(name, free.get(name, 0))} of {_amount(name, node['Resources'].get(name, 0))} "
        f"{name}"
        for name in wanted
    )
    return ", ".join(parts)


def _listed(resources: Resources) -> str:
    return ", ".join(f"{_amount(name, n)} {name}" for name, n in resources.items())


def _amount(name: str, n: float) -> str:
    return size_text(int(n)) if name == "memory" else f"{n:g}"
