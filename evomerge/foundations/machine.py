"""What this machine has to offer: memory, the GPU and who holds it, the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from evomerge.foundations.reading import is_file, is_folder, read_text, real_path

NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "lustre")
_SECONDS_TO_ANSWER = 10  # nvidia-smi hangs where a driver is broken
# A container's limit and what it uses, which the kernel's own figures leave out.
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Capacity:
    """How much of something there is, in bytes.

    Attributes:
        total: All of it.
        free: What nobody uses now.
    """

    total: int
    free: int


@dataclass(frozen=True)
class Holder:
    """Another process that holds memory of a GPU.

    Attributes:
        pid: Its process id.
        name: What it runs.
        n_bytes: What it holds.
    """

    pid: int
    name: str
    n_bytes: int


def memory() -> Capacity:
    """Main memory, within the limits of a container."""
    import psutil  # the doctor looks at machines where it may be missing

    seen = psutil.virtual_memory()
    room = Capacity(int(seen.total), int(seen.available))
    try:
        limit = int(read_text(_CGROUP / "memory.max"))
        used = int(read_text(_CGROUP / "memory.current"))
    except (OSError, ValueError):  # no container, or one without a limit
        return room
    return Capacity(min(room.total, limit), max(min(room.free, limit - used), 0))


def gpu_memory(device: str) -> Capacity | None:
    """Memory of a CUDA device; None where it is none or not there."""
    import torch  # takes seconds

    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info(torch.device(device))
    return Capacity(total, free)


def gpu_variables() -> tuple[str, ...]:
    """Variables of the environment that say which GPUs a process sees; the first one set holds."""
    import torch

    own = "CUDA_VISIBLE_DEVICES"
    return ("HIP_VISIBLE_DEVICES", own) if torch.version.hip else (own,)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process sees, as :func:`gpu_variables` name them."""
    import torch

    n_gpus = torch.cuda.device_count()  # takes hold of none
    listed = next(filter(None, map(os.environ.get, gpu_variables())), "")
    named = [name.strip() for name in listed.split(",")]
    return tuple(named[:n_gpus] if any(named) else map(str, range(n_gpus)))


def usable_cores() -> int:
    """Cores that this process may run on: a batch system can hold it to some of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_holders(device: str) -> tuple[Holder, ...]:
    """Other processes that hold memory of a CUDA device, as far as nvidia-smi shows them."""
    if gpu_memory(device) is None:
        return ()
    import torch

    uuid = getattr(torch.cuda.get_device_properties(torch.device(device)), "uuid", None)
    return holders_in(_listing(), None if uuid is None else str(uuid))


def all_gpu_holders() -> tuple[Holder, ...]:
    """The same of every GPU; torch is not asked, which would hold one itself."""
    return holders_in(_listing(), None)


def _listing() -> str:
    """What nvidia-smi says of the processes on GPUs; empty where it is not there or silent."""
    fields = "gpu_uuid,pid,process_name,used_memory"
    query = ["nvidia-smi", f"--query-compute-apps={fields}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(
            query, capture_output=True, text=True, timeout=_SECONDS_TO_ANSWER, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""  # nothing to show is no reason to stop


def holders_in(listing: str, uuid: str | None) -> tuple[Holder, ...]:
    """The processes of one GPU in nvidia-smi's listing, without this one.

    What another container's process holds is not told: such a one has 0 bytes.

    Args:
        listing: Lines of uuid, process id, name, MiB.
        uuid: Of the GPU; None for all.
    """
    found = []
    for line in listing.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 4 or not parts[1].isdigit():
            continue
        pid, name = int(parts[1]), ",".join(parts[2:-1])
        n_bytes = int(parts[-1]) << 20 if parts[-1].isdigit() else 0
        if (uuid is None or parts[0].endswith(uuid)) and pid != os.getpid():
            found.append(Holder(pid, name, n_bytes))
    return tuple(found)


def disk(path: Path) -> Capacity:
    """The disk that a path is or would be on."""
    usage = shutil.disk_usage(_existing(path))
    return Capacity(usage.total, usage.free)


def file_system(path: Path) -> str:
    """Kind of the file system that a path is or would be on, e.g. ``"ext4"``; "" if not told."""
    import psutil

    place = _existing(path)
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[str(p)] for p in (place, *place.parents) if str(p) in mounts), "")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    place = real_path(path)
    return next(p for p in (place, *place.parents) if is_folder(p) or is_file(p))
