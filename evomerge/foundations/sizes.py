"""Bytes as people read them."""

from __future__ import annotations

_STEP = 1000.0
_UNITS = ("B", "kB", "MB", "GB", "TB")


def size_text(n_bytes: float) -> str:
    """``"14.5 GB"``; powers of ten, as disks and the Hub count."""
    size, unit = float(n_bytes), 0
    while round(size, 1) >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return (
        f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 100 else f"{size:.1f} {_UNITS[unit]}"
    )
