"""What surrounds the weights of a mixture of experts: which kind it is, configuration, tokenizer.

mergekit-moe's own functions decide and write it, from the configurations of what is joined; those
of merges that are in no folder are written into a temporary one, without weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mergekit.common import ModelReference
from mergekit.moe import ALL_OUTPUT_ARCHITECTURES
from mergekit.moe.common import select_dtype
from mergekit.moe.config import MoEMergeConfig
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from evomerge.foundations.errors import MergeError
from evomerge.foundations.scratch import scratch
from evomerge.genome.model_names import ModelName
from evomerge.merging.built_files import generation_of
from evomerge.merging.hub_cache import reachable
from evomerge.merging.live_weights import model_class
from evomerge.merging.resident import ResidentMerger
from evomerge.merging.router_gates import drawn_or_of_folder, needs
from evomerge.models.quiet import quiet_mergekit, quiet_transformers
from evomerge.recipe.joined_parts import Part
from evomerge.recipe.moe import joined_in
from evomerge.recipe.moe_outputs import OUTPUTS
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import with_models

_FIRST_CHOICE = "Mixtral"  # where several fit
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class JoinedFrame:
    """A built mixture without its weights.

    Attributes:
        joined: What mergekit-moe reads.
        base: Configuration of the base.
        prompter: The tokenizer as mergekit-moe sets it up for prompts.
        config: Of the mixture, as transformers reads it back.
        generation: As a loaded mixture would have it.
        tokenizer: As transformers reads it back.
        dtype: Of the mixture in files; None: each tensor keeps its own.
        live_dtype: Of the live model; None: what the built folder loads in.
        device: Where it is.
        has_head: Whether the base has a head of its own.
        gates: Those that no merge changes; None: they are made of the base as it is merged.
    """

    joined: MoEMergeConfig
    base: PreTrainedConfig
    prompter: PreTrainedTokenizerBase
    config: PreTrainedConfig
    generation: GenerationConfig
    tokenizer: PreTrainedTokenizerBase
    dtype: torch.dtype | None
    live_dtype: str | None
    device: torch.device
    has_head: bool
    gates: torch.Tensor | None

    @classmethod
    def of(cls, recipe: Recipe, parts: Sequence[Part], resident: ResidentMerger) -> JoinedFrame:
        """What mergekit-moe would write beside the weights.

        Raises:
            MergeError: it makes no mixture of these models, or none that transformers holds.
        """
        with scratch() as folder, quiet_transformers(), quiet_mergekit():
            for part in parts:
                if not part.is_model:
                    (folder / part.name).mkdir()
                    resident.write_frame(part.recipe, folder / part.name)
            made = recipe.made

            def there(model: ModelName) -> ModelName:
                path = str(folder / model.path) if model.path in made else model.path
                return model.model_copy(update={"path": path})

            own = with_models(joined_in(reachable(recipe).config), there)
            joined = MoEMergeConfig.model_validate(own)
            _refuse_noise(joined)
            trust_remote_code = resident.trust_remote_code
            base = joined.base_model.config(trust_remote_code=trust_remote_code)
            prompter = _prompter(joined.base_model, trust_remote_code)
            prompter.save_pretrained(folder / "out")
            _out_config(joined, base, trust_remote_code).save_pretrained(folder / "out")
            is_fixed = parts[0].is_model or needs(joined.gate_mode) is None
            return cls(
                joined=joined,
                base=base,
                prompter=prompter,
                config=AutoConfig.from_pretrained(
                    folder / "out", trust_remote_code=trust_remote_code
                ),
                generation=generation_of(folder / "out"),
                tokenizer=AutoTokenizer.from_pretrained(
                    folder / "out", trust_remote_code=trust_remote_code
                ),
                dtype=select_dtype(joined, base),
                live_dtype=resident.dtype,
                device=resident.device,
                has_head=_HEAD in resident.names(parts[0].recipe),
                gates=drawn_or_of_folder(joined, prompter, resident) if is_fixed else None,
            )

    @property
    def gate_mode(self) -> str:
        """How gates are made."""
        return str(self.joined.gate_mode)

    def zeros(self) -> dict[str, torch.Tensor]:
        """A checkpoint of zeros: name -> tensor."""
        with torch.device("meta"):
            empty = model_class(self.config)(self.config)
        dtype = self.dtype or torch.float32
        return {
            name: torch.zeros(tensor.shape, dtype=dtype)
            for name, tensor in empty.state_dict().items()
            if name != _HEAD or self.has_head
        }


def _out_config(
    joined: MoEMergeConfig, base: PreTrainedConfig, trust_remote_code: bool
) -> PreTrainedConfig:
    fitting = [
        one
        for one in ALL_OUTPUT_ARCHITECTURES
        if one.name().lower().startswith((joined.architecture or "").lower())
        and one.supports_config(joined, trust_remote_code=trust_remote_code)
    ]
    if not fitting:
        types = sorted({str(base.model_type)})
        raise MergeError(
            f"mergekit-moe makes no {joined.architecture or 'mixture'} of these models "
            f"({', '.join(types)})",
            where="merge",
        )
    output = next((one for one in fitting if one.name() == _FIRST_CHOICE), fitting[0])
    config = output._generate_config(
        base, num_experts=len(joined.experts), experts_per_token=joined.experts_per_token
    )
    if not isinstance(config, PreTrainedConfig):
        known = next((o for name, o in OUTPUTS.items() if output.name().lower().startswith(name)))
        raise MergeError(
            f"transformers holds no {output.name()} of this kind: {known.unheld}", where="merge"
        )
    dtype = select_dtype(joined, base)
    if dtype is not None:
        config.dtype = dtype
    return config


def _prompter(base: ModelReference, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The base's tokenizer, padded on the left as mergekit-moe pads, and kept so."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        base.model.path, revision=base.model.revision, trust_remote_code=trust_remote_code
    )
    tokenizer.padding_side = "left"
    tokenizer.pad_token_id = tokenizer.bos_token_id
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _refuse_noise(joined: MoEMergeConfig) -> None:
    for expert in (*joined.experts, *(joined.shared_experts or [])):
        if expert.noise_scale is not None:
            raise MergeError(
                "noise_scale draws noise while the folder is written; it cannot be scored before",
                where="merge",
            )
