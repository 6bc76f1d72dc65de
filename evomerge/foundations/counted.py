"""Numbers of things as people read them."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """``"1 trial"``, ``"2 trials"``, ``"1,000 trials"``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def failures(n_trials: int, n_baselines: int) -> str:
    """``"3 failed and 1 baseline"``, after a number of trials; empty where none did.

    Args:
        n_trials: The optimizer's trials that failed.
        n_baselines: The other ones.
    """
    baselines = counted(n_baselines, "baseline")
    if not n_trials:
        return f"{baselines} failed" if n_baselines else ""
    return f"{n_trials} failed" + (f" and {baselines}" if n_baselines else "")
