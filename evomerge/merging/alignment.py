"""Vocabulary tensors in the order of the output's tokens: as stored where that is the order."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mergekit.common import ModelReference
from mergekit.tokenizer import PermutedVocabulary, TokenizerInfo
from mergekit.vocabulary import vocabulary_views

from evomerge.merging.offload import offloaded

_ROWS = 1024  # looked at at a time

Tensors = Mapping[ModelReference, torch.Tensor]


def n_unmoved(task: PermutedVocabulary, tokenizer: TokenizerInfo, tensors: Tensors) -> int | None:
    """How many first rows of every tensor are mergekit's result; None: rows are moved or made.

    Args:
        task: As planned by mergekit.
        tokenizer: The output's.
        tensors: As they are stored.
    """
    ids = list(tokenizer.tokenizer.get_vocab().values())
    n_tokens = len(ids)
    views = vocabulary_views(list(tensors.values()), task.vocabulary_axis)
    n_rows = {len(view) for view in views}
    if not views or n_tokens > min(n_rows) or sorted(ids) != list(range(n_tokens)):
        return None
    if task.vocabulary_axis != 0 and n_rows != {n_tokens}:
        return None
    if n_tokens % (task.pad_to_multiple_of or 1):
        return None
    if any(config.force for config in dict(**(task.tokens or {})).values()):
        return None
    moves = [tokenizer.permutations[model] for model in tensors]
    stay = all(len(m) == n_tokens and all(a == b for a, b in m.items()) for m in moves)
    return n_tokens if stay else None


def settled(made: torch.Tensor, stored: torch.dtype) -> torch.Tensor:
    """A copy in a temporary file, in the dtype of its source where that loses nothing.

    Args:
        made: By mergekit, in the dtype to compute in; rows that were not averaged are exact
            in the dtype they are stored in.
        stored: That dtype.
    """
    narrow = offloaded(made.shape, stored)
    for start in range(0, len(made), _ROWS):
        rows = narrow[start : start + _ROWS]
        rows.copy_(made[start : start + _ROWS])
        if not torch.equal(rows.to(made.dtype), made[start : start + _ROWS]):
            return offloaded(made.shape, made.dtype).copy_(made)
    return narrow
