"""No files of models that run code when they are read: pickles, unless allowed by name.

Custom code of a model (``auto_map``) is left to transformers, which asks for
``trust_remote_code``, and to ``own_code`` where a command does not ask.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from mergekit.common import ModelPath, ModelReference

from evomerge.foundations.errors import ModelError, Problem
from evomerge.merging.structure import references
from evomerge.models.facts import WEIGHT_INDEX
from evomerge.models.model_folder import shards_in
from evomerge.models.pickles import PICKLE_INDEX
from evomerge.models.repository import Repository, open_repository
from evomerge.recipe.plain import Recipe

# What mergekit, transformers and PEFT read first, and what they read where it is missing.
_DATA = ("model.safetensors", WEIGHT_INDEX, "adapter_model.safetensors")
_PICKLES = ("pytorch_model.bin", PICKLE_INDEX, "adapter_model.bin")
_DOWNLOAD = "Mend it, or download the model again."


def refuse_pickles(recipe: Recipe, allowed: Collection[str]) -> None:
    """Looks at the files of every model and adapter of a recipe; reads no weight.

    Args:
        recipe: Its models as the user named them.
        allowed: Models or adapters that may have pickle files.

    Raises:
        ModelError: one is not allowed to, all such at once; or the files cannot be reached.
    """
    problems = [p for model in _read(recipe) for p in _pickled(model, allowed)]
    if problems:
        raise ModelError.of(problems)


def _read(recipe: Recipe) -> list[ModelReference]:
    """The models whose weights are read: of a transplant also those that give tokens."""
    given = recipe.named if recipe.runs_code else ()
    named = [ModelReference.model_validate(one.in_recipe) for one in given]
    return list(dict.fromkeys([*references(recipe), *named]))


def _pickled(model: ModelReference, allowed: Collection[str]) -> Iterator[Problem]:
    for part in filter(None, (model.model, model.lora)):
        files = open_repository(part.path, part.revision)
        yield from _foreign_module(part, files)
        broken = [*_broken_indexes(part, files)]
        if broken:
            yield from broken
            continue
        wrong = next(_unsafe_files(files), "")
        if wrong and not {str(model), str(part), part.path} & set(allowed):
            yield _problem(part, wrong)


def _foreign_module(part: ModelPath, files: Repository) -> Iterator[Problem]:
    """An adapter that makes PEFT import the module it names."""
    if "adapter_config.json" in files.files:
        try:
            config = json.loads(files.read("adapter_config.json"))
        except (RecursionError, ValueError) as error:
            yield Problem(f"{part}: adapter_config.json is no JSON ({error})", "merge", _DOWNLOAD)
            return
        if isinstance(config, dict) and config.get("megatron_config"):
            yield Problem(
                f"{part} is an adapter with megatron_config, which imports the module it names",
                "merge",
                "Remove the key from adapter_config.json.",
            )


def _broken_indexes(part: ModelPath, files: Repository) -> Iterator[Problem]:
    """Indexes of weights that name files elsewhere, which loaders would open."""
    for name in (WEIGHT_INDEX, PICKLE_INDEX):
        try:
            if name in files.files:
                shards_in(files.read(name))
        except ValueError as error:
            yield Problem(f"{part}: {name} cannot be read ({error})", "merge", _DOWNLOAD)


def _problem(part: ModelPath, wrong: str) -> Problem:
    return Problem(
        f"{part} has weights in a pickle file ({wrong}), which can run code when it is read",
        "merge",
        f"Save it as safetensors, or allow it with --allow-pickle {part}.",
    )


def _is_data(name: str) -> bool:
    return name.lower().endswith(".safetensors")  # as mergekit looks at it


def _unsafe_files(files: Repository) -> Iterator[str]:
    """Pickle files that a loader would read."""
    if not any(name in files.files for name in _DATA):
        yield from (name for name in _PICKLES if name in files.files)
    elif "model.safetensors" not in files.files and WEIGHT_INDEX in files.files:
        yield from (name for name in shards_in(files.read(WEIGHT_INDEX)) if not _is_data(name))
