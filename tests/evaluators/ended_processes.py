"""Processes that have been killed, and take a moment to go."""

from __future__ import annotations

import time

import psutil

_MOST_LOOKS = 6000


def has_gone(pid: int) -> bool:
    """Whether a process goes soon; a child of nobody may wait for its end to be read."""
    for _ in range(_MOST_LOOKS):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False
