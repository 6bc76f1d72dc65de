"""Which documents of a task are scored: those that ``samples`` draws or lists."""

from __future__ import annotations

from evomerge.foundations.errors import Problem
from evomerge.foundations.seeding import stream
from evomerge.genome.task_blocks import Task


def sampled_documents(
    task: Task, name: str, n_available: int, seed: int, where: str
) -> list[int] | Problem | None:
    """Indices of the documents asked for by ``samples``, ascending; None where it asks for none.

    Args:
        task: As the genome has it.
        name: What its documents go by; each name draws its own.
        n_available: Documents that there are.
        seed: Root seed.
        where: Key path of the task in the genome.
    """
    if task.samples is None:
        return None
    if isinstance(task.samples, int):
        count = min(task.samples, n_available)
        drawn = stream(seed, "documents", name).choice(n_available, count, replace=False)
        return sorted(int(index) for index in drawn)
    outside = sorted(index for index in task.samples if index >= n_available)
    if outside:
        what = f"{outside[0]} is outside [0, {n_available - 1}], the documents of {name!r}"
        return Problem(what, f"{where}.samples")
    return sorted(set(task.samples))
