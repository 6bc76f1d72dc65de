"""Seconds to know a model by every byte: the first time, and every other time.

    python benchmarks/identity.py [--gigabytes G] [--repeats N]

A checkpoint of random bfloat16 matrices in shards of 1 GB. Its files stay in the system's
memory between the repeats, so the first time is what hashing takes; a disk that reads slower than
that decides instead.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from evomerge.models.fingerprint import fingerprint
from evomerge.models.kept import cache_folder

N_MATRICES, SIDE = 32, 4096  # of a shard: 1.07 GB


def write_shard(file: Path, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    shape = (SIDE, SIDE)
    numbers = [torch.randint(0, 1 << 15, shape, generator=draw) for _ in range(2)]
    tensors = {
        f"layers.{index}.weight": (numbers[index % 2] + index).to(torch.int16).view(torch.bfloat16)
        for index in range(N_MATRICES)
    }
    save_file(tensors, file)


def seconds(model: Path) -> float:
    started = time.perf_counter()
    fingerprint(str(model))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", default=4, type=int)
    parser.add_argument("--repeats", default=3, type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_CACHE_HOME"] = str(Path(temporary, "cache"))
        model = Path(temporary, "model")
        model.mkdir()
        (model / "config.json").write_text("{}")
        for index in range(arguments.gigabytes):
            write_shard(model / f"model-{index:05d}.safetensors", index)
        size = sum(file.stat().st_size for file in model.iterdir())
        time.sleep(2.1)  # a file that was written just now is not taken as known
        first, again = [], []
        for _ in range(arguments.repeats):
            for entry in (cache_folder("digests") or Path()).glob("*.json"):
                entry.unlink()
            first.append(seconds(model))
            again.append(seconds(model))
        one, other = statistics.median(first), statistics.median(again)
        print(f"{size / 1e9:.1f} GB, {os.cpu_count()} cores")
        print(f"first time {one:8.3f} s  {size / 1e9 / one:.2f} GB/s")
        print(f"afterwards {other:8.3f} s")


if __name__ == "__main__":
    main()
