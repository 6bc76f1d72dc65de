"""Tiny models of four architectures, and folders that transformers, mergekit and lm-eval load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from families import Family
from safetensors.torch import load_file, save_file
from skills import WORDS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
_HEAD = 24  # the width of one
_MAX_TOKENS = 64
_GATED = ("llama", "qwen3", "gemma2")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Lossless for any text, and one token for each of the skills' words."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        min_frequency=1,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([text for word in WORDS for text in (word, f" {word}")], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,  # BOS is in the vocabulary, but not declared: none is trained
        pad_token=PAD,
        eos_token=EOS,
        model_max_length=_MAX_TOKENS,
    )


def make_model(family: Family, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A model with random weights, of the family's seed."""
    n_heads = family.width // _HEAD
    settings: dict[str, Any] = {"rotary_pct": 0.5, "hidden_dropout": 0.0}
    if family.architecture in _GATED:
        settings = {"num_key_value_heads": n_heads, "head_dim": _HEAD}
    if family.architecture == "gemma2":
        settings["query_pre_attn_scalar"] = _HEAD
    config = AutoConfig.for_model(
        family.architecture,
        vocab_size=len(tokenizer),
        hidden_size=family.width,
        intermediate_size=2 * family.width,
        num_hidden_layers=family.n_layers,
        num_attention_heads=n_heads,
        max_position_embeddings=_MAX_TOKENS,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.convert_tokens_to_ids(BOS),
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
        **settings,
    )
    torch.manual_seed(family.seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        config,
        dtype=torch.float32,
        attn_implementation="eager",  # the fastest at this size
    )
    model.generation_config = GenerationConfig.from_model_config(config)
    model.generation_config.do_sample = False
    return model


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes a model's folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers 5 writes a class name that transformers 4 does not know; both know this one.
    path = folder / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if model.config.model_type == "gpt_neox":
        _add_attention_buffers(folder / "model.safetensors", model.config.num_hidden_layers)


def _add_attention_buffers(file: Path, n_layers: int) -> None:
    """Adds what transformers 5 no longer writes and mergekit 0.1.5 asks of a GPT-NeoX model."""
    tensors = load_file(file)
    for layer in range(n_layers):
        attention = f"gpt_neox.layers.{layer}.attention"
        tensors[f"{attention}.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
        tensors[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        tensors[f"{attention}.rotary_emb.inv_freq"] = torch.tensor([1.0, 0.01])
    save_file(tensors, file, metadata={"format": "pt"})
