"""A command on a small disk that fills up at a chosen moment; run in a mount namespace of its own.

    unshare -rm python -m tests.end_to_end.crowded_disk WORKPLACE DISK KEPT evomerge-arguments...

The disk is mounted on a folder of the workplace. The command comes to the moment that the file
``tasks/hang`` names, nothing more fits on the disk from then on, and the command goes on. Then
there is room again, and the same command is given again. What it said is printed as JSON; copies
of the disk as it was in between, and as it was at the end, are kept.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.end_to_end.dying import SECONDS_TO_BEGIN, Command

SIZE = "32m"
FILLER = "filler"


def fill(disk: Path) -> None:
    """Leaves no byte free."""
    handle = os.open(disk / FILLER, os.O_WRONLY | os.O_CREAT)
    for size in (1 << 20, 1 << 12, 1):
        while True:
            try:
                os.write(handle, b"0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break
    os.close(handle)


def main(place: str, disk: str, kept: str, *arguments: str) -> None:
    """See above."""
    workplace = Path(place)
    folder, tasks = workplace / disk, workplace / "tasks"
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
    command = Command(workplace, arguments)
    process = command.start()
    until = time.monotonic() + SECONDS_TO_BEGIN
    while not (tasks / "reached").exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"it never came so far: {command.log.read_text()}")
        time.sleep(0.02)
    fill(folder)
    (tasks / "hang").unlink()
    first = process.wait(SECONDS_TO_BEGIN)
    said = command.log.read_text()
    left = command.left() if disk == "tmp" else []
    (folder / FILLER).unlink()
    shutil.copytree(folder, f"{kept}/between")
    again = command.start().wait(SECONDS_TO_BEGIN)
    shutil.copytree(folder, f"{kept}/after")
    print(json.dumps({"first": first, "said": said, "again": again, "left": left}))


if __name__ == "__main__":
    main(*sys.argv[1:])
