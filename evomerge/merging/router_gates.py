"""The gates of a mixture of experts, as mergekit-moe makes them: drawn, or from prompts.

A gate is a vector per layer and expert; a token goes to the experts whose gates have the largest
products with its hidden state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mergekit.moe.config import Expert, MoEMergeConfig
from mergekit.moe.router import (
    get_cheap_embedding,
    get_gate_params,
    get_hidden_states,
    tokenize_prompts,
)
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from evomerge.merging.live_weights import Weights
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.moe import DRAWN

EMBEDDINGS = "model.embed_tokens.weight"
_EMBEDDED = "cheap_embed"
_BFLOAT16 = "bfloat16"  # in which mergekit runs the base, whatever its dtype


def needs(mode: str) -> str | None:
    """Which tensors of the base gates are made of: a text in their names; None: they are drawn."""
    return None if mode in DRAWN else EMBEDDINGS if mode == _EMBEDDED else ""


def gated(config: MoEMergeConfig) -> list[Expert]:
    """The experts that have gates: all, then the shared ones.

    Shared ones without prompts have none where prompts make gates.
    """
    shared = list(config.shared_experts or [])
    has_gates = config.gate_mode in DRAWN or any(one.positive_prompts for one in shared)
    return [*config.experts, *(shared if has_gates else [])]


def drawn_or_of_folder(
    config: MoEMergeConfig, tokenizer: PreTrainedTokenizerBase, resident: ResidentMerger
) -> torch.Tensor:
    """The gates where they do not depend on the base, or it is a model in files.

    The global random state of torch is left as it was.

    Args:
        config: What is joined, its base where it can be read.
        tokenizer: As mergekit-moe sets it up.
        resident: Whose seed and device they are made with.

    Returns:
        Shape (layers, experts, hidden size).
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(resident.merge_seed)
        gates: torch.Tensor = get_gate_params(
            config.base_model,
            tokenizer,
            gated(config),
            mode=config.gate_mode,
            trust_remote_code=resident.trust_remote_code,
            device=str(resident.device),
        )
    return gates


def of_tensors(
    config: MoEMergeConfig,
    base: PreTrainedConfig,
    tensors: Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    device: str,
) -> torch.Tensor:
    """The gates where the base has just been merged and is in no file.

    Args:
        config: What is joined.
        base: Configuration of the base.
        tensors: Those of the base that :func:`needs` names, as a built folder would hold them.
        tokenizer: As mergekit-moe sets it up.
        device: Where the base runs.

    Returns:
        Shape (layers, experts, hidden size).
    """
    with torch.no_grad():
        states = _Embedded(base, tensors) if needs(config.gate_mode) else None
        of_prompts: Any = states or _Hidden(base, tensors, config.gate_mode, device)
        gates = []
        for expert in gated(config):
            found = of_prompts(tokenize_prompts(expert.positive_prompts, tokenizer))
            if expert.negative_prompts:
                found = found - of_prompts(tokenize_prompts(expert.negative_prompts, tokenizer))
            gates.append(found / found.norm(p=2, dim=-1, keepdim=True).clamp(min=1e-8))
        return torch.stack(gates, dim=0).permute(1, 0, 2)


class _Embedded:
    """Sums of embeddings, the same for every layer."""

    def __init__(self, base: PreTrainedConfig, tensors: Mapping[str, torch.Tensor]) -> None:
        self._base, self._tensor = base, tensors[EMBEDDINGS]

    def __call__(self, tokens: Any) -> torch.Tensor:
        found: torch.Tensor = get_cheap_embedding(
            self._tensor.cpu(),
            tokens,
            num_layers=self._base.num_hidden_layers,
            vocab_size=self._base.vocab_size,
        )
        return found


class _Hidden:
    """Hidden states of the base, layer by layer."""

    def __init__(
        self, base: PreTrainedConfig, tensors: Mapping[str, torch.Tensor], mode: str, device: str
    ) -> None:
        self._weights = Weights.load(base, tensors, device=device, dtype=_BFLOAT16)
        self._is_average = mode == "hidden_avg"

    def __call__(self, tokens: Any) -> torch.Tensor:
        found: torch.Tensor = get_hidden_states(
            self._weights.module, tokenized=tokens, average=self._is_average
        )
        return found
