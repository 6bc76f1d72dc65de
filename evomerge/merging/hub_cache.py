"""Models in the Hub's local cache, found without asking the Hub.

mergekit asks the Hub for the file list of every model that is no folder, even with the network
off; there a recipe is merged from the folders of the cache instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx's own
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, not marked so
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from mergekit.common import ModelPath, ModelReference

from evomerge.foundations.errors import ModelError, why
from evomerge.foundations.reading import is_there
from evomerge.models import repository
from evomerge.recipe.plain import Recipe


def reachable(recipe: Recipe) -> Recipe:
    """The recipe itself, or with ``HF_HUB_OFFLINE`` the same with folders for Hub ids."""
    if not constants.HF_HUB_OFFLINE:
        return recipe
    config: dict[str, Any] = _with_folders(dict(recipe.config))
    return Recipe(config)


def download(model: Any, key: str) -> None:
    """Brings a model's files into the Hub's cache: those that mergekit merges, without an adapter.

    Args:
        model: As a recipe names it.
        key: Where it stands in the genome.

    Raises:
        ModelError: the Hub does not give it, or there is no room for it.
    """
    reference = ModelReference.model_validate(model)
    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        reference.local_path(ignore_lora=True)
    except (OSError, ValueError, HTTPError) as error:
        raise ModelError(
            f"{reference.model.path} cannot be downloaded ({why(error)})",
            where=key,
            fix="Check the network, the access rights and the room on the disk, then give the same "
            "command again.",
        ) from error
    finally:
        if had_bars:
            enable_progress_bars()


def _with_folders(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_folders(item) for item in part]
    if not isinstance(part, dict):
        return part
    models = ("model", "base_model")  # a mapping in them has a key "model" of another meaning
    found = {k: _reference(v) if k in models else _with_folders(v) for k, v in part.items()}
    for key in ("tokenizer_source", "source"):
        if isinstance(found.get(key), str) and found[key] not in ("base", "union"):
            found[key] = _path(ModelPath.model_validate(found[key])).path
    return found


def _reference(value: Any) -> dict[str, Any]:
    reference = ModelReference.model_validate(value)
    lora = None if reference.lora is None else _path(reference.lora)
    local = ModelReference(model=_path(reference.model), lora=lora)
    return {
        key: path.model_dump(exclude_none=True)
        for key, path in (("model", local.model), ("lora", local.lora))
        if path is not None
    }


def _path(model: ModelPath) -> ModelPath:
    if is_there(model.path):
        return model
    folder = cached_snapshot(model)
    return model if folder is None else ModelPath(path=str(folder))


def cached_snapshot(model: ModelPath) -> Path | None:
    """The folder of a Hub model whose weights are all in the cache, else None."""
    folder = repository.cached_snapshot(model.path, model.revision)
    return folder if folder is not None and repository.has_all_weights(folder) else None
