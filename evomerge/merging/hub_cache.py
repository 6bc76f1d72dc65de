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
from mergekit.common import ModelReference

from evomerge.foundations.errors import ModelError, why
from evomerge.foundations.reading import is_there
from evomerge.genome.model_names import ModelName
from evomerge.models.repository import cached_snapshot, has_all_weights
from evomerge.recipe.plain import Recipe


def reachable(recipe: Recipe) -> Recipe:
    """The recipe itself, or with ``HF_HUB_OFFLINE`` the same with folders for Hub ids."""
    return recipe.with_models(_here) if constants.HF_HUB_OFFLINE else recipe


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


def _here(model: ModelName) -> ModelName:
    """The model by the folders that it and its adapter have in the cache, where they have any."""
    folder = _folder(model.path, model.revision)
    lora = None if model.lora is None else _folder(model.lora, model.lora_revision)
    found = {} if folder is None else {"path": str(folder), "revision": None}
    found |= {} if lora is None else {"lora": str(lora), "lora_revision": None}
    return model.model_copy(update=found)


def _folder(path: str, revision: str | None) -> Path | None:
    """Of a Hub model whose weights are all in the cache."""
    folder = None if is_there(path) else cached_snapshot(path, revision)
    return folder if folder is not None and has_all_weights(folder) else None
