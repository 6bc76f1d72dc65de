"""Tiny vision-language models, random, in five architectures: base and fine-tunes of all parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig, PreTrainedConfig

from tests.suite_seed import of_suite
from tests.tiny_models import VOCAB_SIZE, tiny_tokenizer
from tests.written_once import written_once

N_LAYERS = 3
_TEXT: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
_TURNED = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
_QWEN = {"depth": 2, "hidden_size": 16, "num_heads": 2, "patch_size": 4, "out_hidden_size": 32}
_SIGHT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
_IDS = {"vision_start_token_id": 4, "vision_end_token_id": 5, "image_token_id": 6}
_OF_QWEN = {**_IDS, "video_token_id": 7, "tie_word_embeddings": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {
        "text_config": {**_TEXT, "rope_parameters": _TURNED},
        "vision_config": {**_QWEN, "intermediate_size": 24, "fullatt_block_indexes": [1]},
        **_OF_QWEN,
    },
    "qwen3_vl": {
        "text_config": {**_TEXT, "rope_parameters": _TURNED},
        "vision_config": {
            **_QWEN,
            "depth": 4,
            "intermediate_size": 24,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1, 2],
        },
        **_OF_QWEN,
    },
    "qwen2_vl": {
        "text_config": {**_TEXT, "rope_parameters": _TURNED},
        "vision_config": {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
        **_OF_QWEN,
    },
    "gemma3": {
        "text_config": {**_TEXT, "query_pre_attn_scalar": 8},
        "vision_config": {**_SIGHT, "vision_use_head": False},
        "mm_tokens_per_image": 4,
        "image_token_index": 6,
    },
    "mistral3": {
        "text_config": {**_TEXT, "model_type": "mistral"},
        "vision_config": {**_SIGHT, "model_type": "pixtral"},
        "image_token_index": 6,
    },
    "llava": {
        "text_config": {**_TEXT, "model_type": "llama"},
        "vision_config": {**_SIGHT, "model_type": "clip_vision_model", "projection_dim": 16},
        "image_token_index": 6,
        "image_seq_length": 16,
    },
}
# Of what transformers 5 writes, the names that files on the Hub have and mergekit looks for.
_AS_ON_THE_HUB: dict[str, Callable[[str], str]] = {
    "gemma3": lambda name: name.replace("vision_tower.", "vision_tower.vision_model."),
}
PROCESSOR = {"image_processor_type": "Qwen2VLImageProcessor"}


def tiny_vision_config(kind: str, **settings: Any) -> PreTrainedConfig:
    """A configuration of three layers of width 32 and a tower of two of width 16."""
    return AutoConfig.for_model(kind, **{**SETTINGS[kind], **settings})


@written_once
def tiny_vision_model(
    folder: Path,
    kind: str = "qwen2_5_vl",
    *,
    seed: int = 0,
    is_on_hub: bool = True,
    **settings: Any,
) -> Path:
    """Writes one model with tokenizer and image settings.

    Args:
        folder: Where to; created.
        kind: Its type, one of ``SETTINGS``.
        seed: Of the noise on the weights that all models of a kind share; 0 for none.
        is_on_hub: Whether its tensors have the names that files on the Hub have, where mergekit
            wants those and transformers 5 writes others.
        settings: Of the configuration, or ``save_original_format`` of transformers.
    """
    form = {"save_original_format": settings.pop("save_original_format", kind != "llava")}
    config = tiny_vision_config(kind, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(of_suite(0))
        found: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
        model = found(config)
        with torch.no_grad():
            for own, scale in ((0, 0.2), (seed, 0.1 * bool(seed))):
                torch.manual_seed(of_suite(own))
                for parameter in model.parameters():
                    parameter += scale * torch.randn(parameter.shape)
    model.to(torch.bfloat16).save_pretrained(folder, **form)
    rename = _AS_ON_THE_HUB.get(kind)
    if rename is not None and is_on_hub:
        file = folder / "model.safetensors"
        held = {rename(name): tensor for name, tensor in load_file(file).items()}
        save_file(held, file, metadata={"format": "pt"})
    tiny_tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def tiny_vision_family(folder: Path, kind: str = "qwen2_5_vl", n_models: int = 2) -> list[Path]:
    """Writes ``base`` and ``model_1`` ... ``model_n``; returns their folders, base first."""
    names = ["base", *(f"model_{index + 1}" for index in range(n_models))]
    return [tiny_vision_model(folder / name, kind, seed=i) for i, name in enumerate(names)]
