"""Whether this machine can hold the run: memory, GPU, disk, and who else uses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evomerge.checks.context import CheckContext
from evomerge.checks.given_to_workers import are_here, gives_devices
from evomerge.checks.resources import Storage
from evomerge.checks.search_plan import storage_of
from evomerge.foundations.creating import ANOTHER_FOLDER, obstacle_to_folder
from evomerge.foundations.findings import Finding, error, note, warning
from evomerge.foundations.sizes import size_text
from evomerge.models.pass_dtype import reason

HELD = 0.05  # of a GPU's memory: what others may hold without a word
_ADVICE = {
    "RAM": "Use fewer workers, smaller models or evaluation.dtype: bfloat16.",
    "GPU memory": "Use fewer workers, a smaller batch_size or evaluation.dtype: bfloat16.",
    "disk": "Make room, or use another disk.",
}


def memory_and_disk(context: CheckContext) -> Iterator[Finding]:
    """Memory and disk that are not there."""
    for store in storage_of(context):
        if store.path is not None or are_here(context.genome):
            yield from shortage(store)


def shortage(store: Storage) -> Iterator[Finding]:
    """What to say where a run takes more than there is."""
    if store.capacity is None:
        return
    place = store.name if store.path is None else f"{store.name} of {store.path}"
    parts = ", ".join(f"{need.what} {size_text(need.n_bytes)}" for need in store.needs)
    is_disk, advice = store.path is not None, _ADVICE[store.name]
    most = store.capacity.free if is_disk else store.capacity.total
    if store.certain_bytes > most:
        yield error(
            f"{place}: the run takes {size_text(store.certain_bytes)} at least, there are "
            f"{size_text(most)} ({parts})",
            fix=advice,
        )
    elif store.n_bytes > store.capacity.free:
        yield warning(
            f"{place}: the run takes about {size_text(store.n_bytes)}, "
            f"{size_text(store.capacity.free)} of {size_text(store.capacity.total)} are free "
            f"({parts})",
            fix=advice,
        )


def passes(context: CheckContext) -> Iterator[Finding]:
    """Forward passes in another dtype than that of the models, by the rule and not the genome."""
    space = context.merge_space
    if space is not None and context.dtype is not None and context.genome.evaluation.dtype is None:
        yield note(
            f"forward passes in {context.dtype}: {reason(space.out_dtype)}",
            "evaluation.dtype",
            "Set it to that of the models to score as they are.",
        )


def gpu_shared(context: CheckContext) -> Iterator[Finding]:
    """Other processes that hold memory of the GPU, by their process ids."""
    if not context.device.startswith("cuda") or not are_here(context.genome):
        return
    from evomerge.foundations.machine import gpu_holders, gpu_memory

    total = gpu_memory(context.device)
    for holder in gpu_holders(context.device):
        if total is None or holder.n_bytes > HELD * total.total:
            yield warning(
                f"process {holder.pid} ({holder.name}) holds {size_text(holder.n_bytes)} of "
                f"{context.device}",
                "evaluation.device",
                "End it if it is left over from another run, or use another device.",
            )


def device_is_there(context: CheckContext) -> Iterator[Finding]:
    """A device that torch does not find."""
    from evomerge.merging.bits import is_there

    if not gives_devices(context.genome) and not is_there(context.device):
        yield error(
            f"{context.device} is not on this machine",
            "evaluation.device",
            "Use auto, or a device that `evomerge doctor` lists.",
        )


def run_folder(context: CheckContext) -> Iterator[Finding]:
    """A run folder that cannot be, or is on a network file system."""
    if context.run_dir is None:
        return
    obstacle = obstacle_to_folder(context.run_dir)
    if obstacle:
        yield error(obstacle, "run_dir", ANOTHER_FOLDER)
        return
    from evomerge.foundations.machine import NETWORK_FILE_SYSTEMS, file_system

    yield from on_network(context.run_dir, file_system(context.run_dir), NETWORK_FILE_SYSTEMS)


def on_network(run_dir: Path, kind: str, network: tuple[str, ...]) -> Iterator[Finding]:
    """What to say where file locks may not keep a second process out."""
    if kind in network:
        yield warning(
            f"the run folder {run_dir} is on a network file system ({kind}), whose locks may not "
            "keep a second process out",
            "run_dir",
            "Use a local disk, or be sure that one process writes there.",
        )
