"""Building into a folder that appears only once what mergekit wrote was looked at.

mergekit ends well whatever the weights are. A folder that somebody will use or publish holds
every tensor of its architecture, all of them finite, with its configuration and its tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from evomerge.foundations.creating import MARK, put_folder, refuse_occupied_folder
from evomerge.foundations.errors import ModelError, RunError
from evomerge.foundations.files import write_atomic, writing
from evomerge.foundations.reading import is_file, read_bytes, real_path
from evomerge.foundations.scratch import scratch
from evomerge.genome.model_names import ModelName
from evomerge.merging.build import build
from evomerge.models.facts import WEIGHT_INDEX, ModelFacts
from evomerge.models.families import family_of
from evomerge.models.inspect import read_model
from evomerge.recipe.plain import Recipe

_N_SHOWN = 5  # tensors in a message


def build_into(recipe: Recipe, out: Path, *, force: bool = False, **options: Any) -> None:
    """Builds a recipe's model; its folder is complete and sound, or not there.

    Args:
        recipe: What to build.
        out: The folder; folders above it are made.
        force: Whether a model that was built there is replaced.
        options: Of :func:`evomerge.merging.build.build`.

    Raises:
        OccupiedError: something is there; told before anything is built.
        RunError: mergekit stopped, or what it built is not complete or not finite.
        ModelError: a model has its weights in pickle files.
        LostFileError: the folder cannot be written.
    """
    out = real_path(out.parent) / out.name
    refuse_occupied_folder(out, force=force)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with scratch(out.parent) as temporary:
        made = temporary / out.name  # mergekit writes its last part into the model card
        build(recipe, made, **options)
        found = list(flaws(made))
        if found:
            raise RunError(
                f"what mergekit built is no sound model, and is removed: {'; '.join(found)}",
                where=str(out),
                fix="Look at the models of the recipe and its parameters.",
            )
        if not is_file(made / MARK):  # mergekit leaves it out with its card
            write_atomic(made / MARK, recipe.to_yaml())
        put_folder(made, out, force=force)


def flaws(folder: Path) -> Iterator[str]:
    """What keeps a built folder from being used, one sentence each.

    Args:
        folder: As mergekit wrote it.
    """
    try:
        # As it is: a folder may have a name that no genome can hold.
        model = read_model(ModelName.model_construct(path=str(folder)))
    except ModelError as error:
        yield error.problems[0].what
        return
    yield from (f"{name}: {why}" for name, why in model.broken.items())
    if not model.config and "config.json" not in model.broken:
        yield "there is no config.json"
    if model.tokenizer is None and "tokenizer.json" not in model.broken:
        yield "there is no tokenizer"
    yield from _lacking(model)
    names = [] if model.broken else list(_not_finite(folder, model))
    if names:
        yield f"NaN or infinity in {_some(names)}"


def _lacking(model: ModelFacts) -> Iterator[str]:
    """Files and tensors that should be there."""
    if model.missing:
        yield f"there is no {_some(model.missing)}"
    elif not model.tensors:
        yield "there are no weights"
    if WEIGHT_INDEX in model.files and WEIGHT_INDEX not in model.broken and not model.missing:
        yield from _not_as_indexed(model)
    family = family_of(model)
    weights = [] if family is None else family.weights(family.n_layers(model))
    lacking = [
        w.name for w in weights if not w.is_optional and not set(w.names) & model.tensors.keys()
    ]
    if lacking:
        yield f"{model.architecture} needs {_some(lacking)}"


def _not_as_indexed(model: ModelFacts) -> Iterator[str]:
    """Tensors that the index has and the shards have not, and the other way round."""
    if model.folder is None:
        return
    indexed = set(json.loads(read_bytes(model.folder / WEIGHT_INDEX))["weight_map"])
    if indexed - model.tensors.keys():
        yield f"no shard holds {_some(indexed - model.tensors.keys())}"
    if model.tensors.keys() - indexed:
        yield f"{WEIGHT_INDEX} does not name {_some(model.tensors.keys() - indexed)}"


def _not_finite(folder: Path, model: ModelFacts) -> Iterator[str]:
    """Names of tensors with a value that is no number, one tensor in memory at a time."""
    for file in sorted({tensor.file for tensor in model.tensors.values()}):
        with safe_open(folder / file, framework="pt") as held:
            for name in held.keys():  # noqa: SIM118  # a file, not a mapping
                tensor = held.get_tensor(name)
                # float8 has no isfinite of its own.
                values = tensor.float() if tensor.element_size() == 1 else tensor
                if not torch.isfinite(values).all():
                    yield name


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _N_SHOWN} more" if len(listed) > _N_SHOWN else ""
    return ", ".join(listed[:_N_SHOWN]) + more
