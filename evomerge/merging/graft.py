"""Writes a copy of a model that sees with the weights of a text model in its language part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from evomerge.foundations.creating import GRAFT, put_folder, refuse_occupied_folder
from evomerge.foundations.errors import ModelError
from evomerge.foundations.files import write_atomic, writing
from evomerge.foundations.reading import opened
from evomerge.foundations.scratch import scratch
from evomerge.models.facts import ModelFacts
from evomerge.models.grafted import grafts

_COPIED = (".json", ".jinja", ".txt", ".model", ".tiktoken")  # beside the weights; never code


def write_graft(text: ModelFacts, whole: ModelFacts, folder: Path, *, force: bool = False) -> int:
    """Writes the folder: all of it, or nothing. One file of weights is in memory at a time.

    Weights are rounded to the dtype that the model that sees stores them in.

    Args:
        text: Whose weights are taken.
        whole: What they are put into a copy of.
        folder: Where to.
        force: Whether what was written so is replaced there.

    Returns:
        How many tensors are the text model's.

    Raises:
        ModelError: they do not fit, or one is not on this machine.
        OccupiedError: something is there.
        LostFileError: the disk is full, or the folder cannot be written.
    """
    if text.folder is None or whole.folder is None:
        raise ModelError(
            f"{text.name if text.folder is None else whole.name} is not on this machine",
            fix="Download it first.",
        )
    refuse_occupied_folder(folder, GRAFT, force=force, needed={text.folder, whole.folder})
    taken = grafts(text, whole)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch(folder.parent) as temporary:
            made = temporary / folder.name
            made.mkdir()
            for name in whole.files:
                if "/" not in name and name.endswith(_COPIED) and name not in GRAFT.marks[1:]:
                    with opened(whole.folder / name) as source, (made / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
            for file in sorted({tensor.file for tensor in whole.tensors.values()}):
                held = _exchanged(load_file(whole.folder / file), text, text.folder, taken)
                save_file(held, made / file, metadata={"format": "pt"})
            said = {"language": text.name, "others": whole.name, "tensors": len(taken)}
            write_atomic(made / GRAFT.marks[-1], f"{json.dumps(said, indent=2)}\n")
            put_folder(made, folder, GRAFT, force=force)
    return len(taken)


def _exchanged(
    held: dict[str, torch.Tensor], text: ModelFacts, folder: Path, taken: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """The tensors of one file, those that are taken from the text model its own."""
    for name in held.keys() & taken.keys():
        own = taken[name]
        with safe_open(folder / text.tensors[own].file, framework="pt") as source:
            held[name] = source.get_tensor(own).to(held[name].dtype).contiguous()
    return held
