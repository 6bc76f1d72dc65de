"""Cores, memory, disks, network and token; read, never changed."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from evomerge.foundations import machine
from evomerge.foundations.reading import is_folder, real_path


@dataclass(frozen=True)
class Disk:
    """Room for one purpose.

    Attributes:
        purpose: What is kept there.
        path: The folder; it may not exist yet.
        free: Bytes.
        is_writable: Whether this user may write there.
    """

    purpose: str
    path: str
    free: int
    is_writable: bool


@dataclass(frozen=True)
class Hub:
    """How models and tasks are reached.

    Attributes:
        has_token: Whether a token is there; its text is never looked at.
        offline: Environment variables that turn the network off.
        cache: Where downloads are kept.
    """

    has_token: bool
    offline: tuple[str, ...]
    cache: str


def memory() -> tuple[int, int]:
    """Free and total bytes of RAM, within the limits of a container; zeros where nobody says."""
    try:
        ram = machine.memory()
    except ImportError:  # of psutil, which may be what is to be found missing
        return 0, _total()
    return ram.free, ram.total


def _total() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system has sysconf, or these names
        return 0


def disks(run_folder: Path, cache: str) -> list[Disk]:
    """Room where runs, downloads and temporary builds go."""
    places = {"runs": run_folder, "Hub cache": Path(cache), "builds": Path(tempfile.gettempdir())}
    return [_disk(purpose, path) for purpose, path in places.items()]


def _disk(purpose: str, path: Path) -> Disk:
    there = next(p for p in (path, *real_path(path).parents) if is_folder(p))
    return Disk(purpose, str(path), shutil.disk_usage(there).free, os.access(there, os.W_OK))


def hub() -> Hub:
    """How the Hub is reached."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    offline = tuple(n for n in names if os.environ.get(n, "").upper() in ("1", "ON", "YES", "TRUE"))
    try:
        from huggingface_hub import constants, get_token
    except ImportError:
        return Hub(False, offline, str(Path.home() / ".cache" / "huggingface" / "hub"))
    return Hub(get_token() is not None, offline, str(constants.HF_HUB_CACHE))
