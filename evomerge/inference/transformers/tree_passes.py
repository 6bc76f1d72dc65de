"""Forward passes over trees of tokens, and over the stems they continue.

A pass reads a batch of trees as rows. Its mask lets each token see the stem, the tokens above it
in its tree and itself; in sliding layers no farther back than the window. Positions are given, so
that a token cannot tell its tree from the plain row it stands for.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from evomerge.inference.transformers.sharing import attention_masks
from evomerge.inference.transformers.trees import Row, Tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PaddedRows:
    """Trees as rows, padded on the right; on the CPU.

    Attributes:
        tokens: Token ids, shape (trees, width).
        positions: Same shape.
        ends: Index behind each token's branch, same shape.
        places: Row and column of every token whose logits are read, shape (2, places).
        is_plain: Whether every row is one chain from position 0, which needs no mask.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    ends: torch.Tensor
    places: torch.Tensor
    is_plain: bool


def block_of(trees: Sequence[Tree], stem: Row) -> PaddedRows:
    """The trees of one pass."""
    width = max(map(len, trees))
    read = [sorted(set(chain.from_iterable(tree.places.values()))) for tree in trees]
    return PaddedRows(
        _padded([tree.tokens for tree in trees], width),
        _padded([tree.positions for tree in trees], width),
        # Padding sees at least itself: a row of nothing would be no number.
        _padded([[*tree.ends, *range(len(tree) + 1, width + 1)] for tree in trees], width),
        torch.tensor([(row, column) for row, columns in enumerate(read) for column in columns]).T,
        not stem and all(tree.is_chain for tree in trees),
    )


class Desk:
    """Where one layer after the other lays a stem before what continues it.

    New memory for every layer takes several times as long as filling it.
    """

    def __init__(self) -> None:
        self._places: dict[str, torch.Tensor] = {}

    def laid(self, name: str, stem: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """One stem before each row, along the tokens; holds until the next call for this name."""
        rows, heads, n_new, size = new.shape
        shape = (rows, heads, stem.shape[-2] + n_new, size)
        place = self._places.get(name)
        if place is None or place.numel() < prod(shape):
            place = self._places[name] = new.new_empty(prod(shape))
        return torch.cat(
            [stem.expand(rows, -1, -1, -1), new], dim=-2, out=place[: prod(shape)].view(shape)
        )


class StemLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # theirs
    """Keys and values of a stem in one layer; what continues it is seen and not kept.

    Args:
        desk: Shared by all layers.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, desk: Desk) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers' own has no types
        self._desk = desk

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the stem and of the tokens of this pass, for each of its rows."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        return (
            self._desk.laid("keys", self.keys, key_states),
            self._desk.laid("values", self.values, value_states),
        )


def read_stem(module: PreTrainedModel, stem: Row) -> Cache | None:
    """Computes a stem; None where it is empty."""
    if not stem:
        return None
    layer: Any = partial(StemLayer, Desk())
    kept = Cache(layer_class_to_replicate=layer)
    logits_at(
        module,
        torch.tensor([[0], [len(stem) - 1]]),
        input_ids=torch.tensor([stem], device=module.device),
        past_key_values=kept,
        use_cache=True,
    )
    return kept


def tree_logits(module: PreTrainedModel, block: PaddedRows, stem: Cache | None) -> torch.Tensor:
    """Logits at the places of a block, shape (places, vocabulary)."""
    device = module.device
    tokens = block.tokens.to(device)
    if block.is_plain:
        return logits_at(module, block.places, input_ids=tokens, use_cache=False)
    positions = block.positions.to(device)
    return logits_at(
        module,
        block.places,
        input_ids=tokens,
        position_ids=positions,
        attention_mask=_masks(module, positions, block.ends.to(device), stem),
        past_key_values=stem,
        use_cache=stem is not None,
    )


def row_logits(module: PreTrainedModel, block: PaddedRows) -> torch.Tensor:
    """The same for plain rows, with nothing but what every causal model takes."""
    settings: dict[str, Any] = {"use_cache": False}
    # Padding on the right needs no mask: a causal model never looks ahead.
    rows, columns = block.places.to(module.device)
    if "logits_to_keep" in inspect.signature(module.forward).parameters:
        settings["logits_to_keep"], columns = columns.unique(return_inverse=True)
    logits = module(block.tokens.to(module.device), **settings).logits
    picked: torch.Tensor = logits[rows, columns]
    return picked


@torch.no_grad()
def logits_at(module: PreTrainedModel, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """Logits of a forward pass at some places only.

    Args:
        module: The model.
        places: Rows and columns of the pass, shape (2, places).
        inputs: Of the forward pass.

    Returns:
        Shape (places, vocabulary).
    """
    rows, columns = places.to(module.device)

    def pick(_: torch.nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (given[0][rows, columns][None],)

    head = module.get_output_embeddings()  # type: ignore[no-untyped-call]  # theirs
    hook = head.register_forward_pre_hook(pick)
    try:
        logits: torch.Tensor = module(**inputs).logits[0]
    finally:
        hook.remove()
    return logits


def _masks(
    module: PreTrainedModel, positions: torch.Tensor, ends: torch.Tensor, stem: Cache | None
) -> Any:
    """What each token of the trees may see of stem and trees."""
    n_rows, width = positions.shape
    n_stem = 0 if stem is None else stem.get_seq_length()
    index = torch.arange(width, device=ends.device)
    is_above = (index[:, None] >= index) & (index[:, None] < ends[:, None, :])
    visible = torch.cat([is_above.new_ones(n_rows, width, n_stem), is_above], dim=-1)
    before = torch.arange(n_stem, device=ends.device).expand(n_rows, n_stem)
    keys = torch.cat([before, positions], dim=-1)
    return attention_masks(module, visible, positions[:, :, None] - keys[:, None, :])


def _padded(rows: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
