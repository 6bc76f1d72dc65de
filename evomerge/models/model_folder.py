"""The files of a model's folder, looked at before any library opens one of them.

transformers, safetensors, mergekit and PEFT open what is in a folder by its name, whatever it is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from evomerge.foundations.errors import ModelError
from evomerge.foundations.reading import is_file, is_folder, kind_of, listed, reading

# How the names of files end that some loader opens.
_OPENED = (".json", ".safetensors", ".bin", ".model", ".jinja", ".txt", ".py", ".md")
TEMPLATES = "additional_chat_templates"  # the one folder below it that transformers looks into


def regular_files(folder: Path) -> dict[str, int]:
    """Name -> bytes of the files at the top of a model's folder; links count as what they name.

    Raises:
        ModelError: a FIFO, socket or device is among them, or a folder where a file belongs.
        UnreadableError: the folder cannot be read.
    """
    _refuse_special(folder)
    if is_folder(folder / TEMPLATES):
        _refuse_special(folder / TEMPLATES)
    with reading(folder):
        return {path.name: os.stat(path).st_size for path in listed(folder) if is_file(path)}


def _refuse_special(folder: Path) -> None:
    for path in listed(folder):
        kind = kind_of(path)
        if kind and (kind != "a folder" or path.name.endswith(_OPENED)):
            raise ModelError(
                f"{path} is {kind}, expected a regular file",
                fix="Remove it, or put the model's own file in its place.",
            )


def shards_in(index: bytes) -> list[str]:
    """The files that an index of weights names, each once.

    Raises:
        ValueError: it is no index, or names a file outside the model's folder.
    """
    try:
        places = json.loads(index)["weight_map"].values()
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError("it is no index of weights") from error
    names = sorted(set(map(str, places)))
    outside = next((name for name in names if not _is_plain(name)), None)
    if outside is not None:
        raise ValueError(f"it names {outside!r}, which is not in the model's own folder")
    return names


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file in the same folder, on any system."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")
