"""Peak memory of several workers: the sources once, a live model each, and what is around them.

Memory is the sum of proportional set sizes (`smaps_rollup` of Linux): a page that n processes map
counts for 1/n in each. What Python and its libraries take is measured with the same search over
models of next to no size, and taken off. `linear` keeps nothing between merges of float32; other
methods keep ranks, task vectors and the like within an eighth of what is free, of all workers
together. Nothing is asserted.

    python benchmarks/worker_memory.py [--workers 4] [--width 1024] [--layers 22] [--trials 12]
                                       [--dtype float32 bfloat16] [--method linear]
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from tiny_search import Size, tiny_search

from evomerge.checks.need import ITEM_BYTES
from evomerge.foundations.sizes import size_text

_EVERY = 0.05  # seconds
_FIELDS = ("Pss", "Pss_Anon", "Pss_File")


@dataclass(frozen=True)
class Peak:
    """The moment at which workers took most.

    Attributes:
        total: Bytes of all of them.
        anonymous: Of these in no file.
        mapped: Of these in files.
    """

    total: int = 0
    anonymous: int = 0
    mapped: int = 0


class Watcher(threading.Thread):
    """Looks at the workers of this process until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = Peak()
        self._is_over = threading.Event()

    def run(self) -> None:
        """Looks."""
        while not self._is_over.wait(_EVERY):
            now = Peak(*(sum(values) for values in zip(*map(_memory, _workers()), strict=True)))
            self.peak = max(self.peak, now, key=lambda peak: peak.total)

    def stop(self) -> Peak:
        """The peak."""
        self._is_over.set()
        self.join()
        return self.peak


def _workers() -> list[int]:
    """Processes that multiprocessing has spawned to work."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("spawn_main" in part for part in child.cmdline()):
                found.append(child.pid)
    return found


def _memory(pid: int) -> tuple[int, ...]:
    lines = []
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines[1:]}
    return tuple(found.get(name, 0) for name in _FIELDS)


def peak_of(size: Size, n_workers: int) -> tuple[Peak, int, int]:
    """Of a whole search; and bytes of its sources, and numbers of one model."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, watcher = Path(temporary), Watcher()
        with tiny_search(folder, size, f"{{executor: processes, workers: {n_workers}}}") as search:
            watcher.start()
            for _ in search.run():
                pass
        files = list(folder.glob("model-*/model*.safetensors"))
        files += [] if size.method == "linear" else list(folder.glob("base/model*.safetensors"))
        sources = sum(path.stat().st_size for path in files)
        return watcher.stop(), sources, sources // (len(files) * ITEM_BYTES[size.dtype])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures each dtype of sources."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", default=4, type=int)
    parser.add_argument("--width", default=1024, type=int)
    parser.add_argument("--layers", default=22, type=int)
    parser.add_argument("--trials", default=12, type=int)
    parser.add_argument("--dtype", default=["float32", "bfloat16"], nargs="+")
    parser.add_argument("--method", default="linear")
    options = parser.parse_args(arguments)
    n_workers = options.workers
    for dtype in options.dtype:
        small = Size(documents=8, budget=options.trials, dtype=dtype, method=options.method)
        around, _, _ = peak_of(small, n_workers)
        large = Size(
            documents=8,
            budget=options.trials,
            dtype=dtype,
            method=options.method,
            width=options.width,
            layers=options.layers,
            vocabulary=2000,
        )
        peak, sources, n_values = peak_of(large, n_workers)
        live = n_values * ITEM_BYTES["float32"]  # forward passes of a CPU
        casts = 0 if dtype == "float32" else sources * 2
        counted = sources + n_workers * live
        print(f"{n_workers} workers, sources in {dtype}")
        print(
            f"  peak {size_text(peak.total)}: in files {size_text(peak.mapped)}, "
            f"in none {size_text(peak.anonymous)}"
        )
        print(
            f"  Python and its libraries {size_text(around.total)}, "
            f"{size_text(around.total // n_workers)} each"
        )
        print(
            f"  sources once {size_text(sources)}, {n_workers} live models "
            f"{size_text(n_workers * live)}, casts once {size_text(casts)}"
        )
        beside = peak.total - around.total
        print(f"  peak without Python / (sources + live models): {beside / counted:.3f}", end="")
        print(f"; with casts counted {beside / (counted + casts):.3f}" if casts else "", flush=True)


if __name__ == "__main__":
    main()
