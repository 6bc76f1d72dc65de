"""A mixture as anybody would write it: members that transformers loads, and the formula.

What a run found of a mixture is compared with this; nothing of how a run mixes takes part. Whole
rows are read for every token, without a cache.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from evomerge.models.own_heads import keep_own_heads
from evomerge.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from evomerge.evaluators.built_model import BuiltMixture, BuiltModel


class PlainMixture(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]  # theirs
    """Gives the logarithm of the mean of its members' probabilities, computed in float64.

    Args:
        members: The models.
        mixture: How they are combined.
    """

    _supports_sdpa = _supports_flash_attn = _supports_attention_backend = True

    def __init__(self, members: list[PreTrainedModel], mixture: BuiltMixture) -> None:
        super().__init__(copy.deepcopy(members[0].config))
        self.members = torch.nn.ModuleList(members)
        self.generation_config = members[0].generation_config
        self._pool = mixture.pool
        self._weights = mixture.pool.weights

    def answer_for(self, task: str) -> None:
        """Has it answer with the weights of a task from now on."""
        self._weights = self._pool.of_tasks.get(task, self._pool.weights)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Log-probabilities of the next token at every position, float32."""
        positions = None if attention_mask is None else (attention_mask.cumsum(-1) - 1).clamp(min=0)
        given = {"attention_mask": attention_mask, "position_ids": positions}
        logs = [
            (weight, member(input_ids, **given).logits.double().log_softmax(-1))
            for weight, member in zip(self._weights, self.members, strict=True)
            if weight > 0
        ]
        most = max(log.shape[-1] for _, log in logs)
        total: Any = 0.0
        for weight, log in logs:
            # Whoever has no row for a token gives it the probability 0.
            log = torch.nn.functional.pad(log, (0, most - log.shape[-1]), value=-torch.inf)
            total = total + weight * (log if self._pool.mean == "geometric" else log.exp())
        found = total.log_softmax(-1) if self._pool.mean == "geometric" else total.log()
        return CausalLMOutput(logits=found.float())

    def prepare_inputs_for_generation(  # type: ignore[override]  # transformers names each it sets
        self, input_ids: Any, attention_mask: Any = None, **_: Any
    ) -> dict[str, Any]:
        """The whole rows, each time."""
        return {"input_ids": input_ids, "attention_mask": attention_mask}


def image_door_for(config: PreTrainedConfig) -> Any:
    """The class of transformers by which a model that sees is loaded; None of all others."""
    kind = type(config)
    sees = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and kind not in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForImageTextToText if sees else None


def module_of(built: BuiltModel) -> PreTrainedModel:
    """What a built model is, as transformers loads it; a mixture of what it loads."""
    if built.mixture is None:
        return _loaded(built, str(built.folder))
    folders = map(str, built.mixture.folders)
    return PlainMixture([_loaded(built, folder) for folder in folders], built.mixture)


def _loaded(built: BuiltModel, folder: str) -> PreTrainedModel:
    with quiet_transformers():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=built.trust_remote_code)
        door = image_door_for(config) or AutoModelForCausalLM
        module: Any = door.from_pretrained(
            folder,
            dtype=built.settings.dtype or "auto",
            trust_remote_code=built.trust_remote_code,
        )
    loaded: PreTrainedModel = module.to(torch.device(built.device)).eval()
    keep_own_heads(loaded)
    return loaded
