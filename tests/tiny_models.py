"""Tiny random models with a real tokenizer file, in five architectures, built on the spot.

A family is a base and fine-tunes of it: the base's weights plus noise, so that task vectors
are small and differ in sign, as in life. Everything depends on the seed alone, and on the one
of the whole suite: ``pytest --model-seed 1`` asks the same of other weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.suite_seed import of_suite
from tests.written_once import written_once

ARCHITECTURES = ("llama", "qwen2", "mistral", "gpt_neox", "gemma2")
VOCAB_SIZE = 96
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>")

_CORPUS = (
    "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs!",
    "one two three four five six seven eight nine ten; 0 1 2 3 4 5 6 7 8 9 + - * / = ? ( ) , :",
    "how vexingly quick daft zebras jump, and the other animals then think that they should.",
)
_GATED = {"num_key_value_heads": 2, "intermediate_size": 64}
_SETTINGS: dict[str, dict[str, Any]] = {
    "llama": _GATED,
    "qwen2": _GATED,
    "mistral": {**_GATED, "sliding_window": None},
    "gpt_neox": {"intermediate_size": 64, "rotary_pct": 0.5},
    "gemma2": {**_GATED, "head_dim": 8, "query_pre_attn_scalar": 8},
    "qwen3": {**_GATED, "head_dim": 8},  # asked for by name only, as is:
    "granite": _GATED,
    "qwen2_moe": {  # of which mergekit has no definition
        **_GATED,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 64,
    },
    "gemma3_text": {**_GATED, "head_dim": 8, "query_pre_attn_scalar": 8},
}


@cache
def _tokenizer_text() -> str:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    text: str = tokenizer.to_str()
    return text


def tiny_tokenizer(extra_tokens: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A BPE tokenizer of 96 tokens, more with ``extra_tokens``; ids 0-3 are special."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_text()),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    tokenizer.add_tokens(list(extra_tokens))
    return tokenizer


def tiny_config(architecture: str, **settings: Any) -> Any:
    """A two-layer configuration of width 32; ``settings`` override any of it."""
    return AutoConfig.for_model(
        architecture,
        **{
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 3,
            "tie_word_embeddings": False,
            **_SETTINGS[architecture],
            **settings,
        },
    )


def _perturb(model: PreTrainedModel, seed: int, scale: float) -> None:
    """Adds noise to every parameter, norms and biases too."""
    generator = torch.Generator().manual_seed(of_suite(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


@written_once
def tiny_model(
    folder: Path,
    architecture: str = "llama",
    *,
    seed: int = 0,
    base: Path | None = None,
    drift: float = 0.05,
    dtype: str = "float32",
    extra_tokens: Iterable[str] = (),
    **settings: Any,
) -> Path:
    """Writes one model with tokenizer and generation settings into a folder.

    Args:
        folder: Where to; created.
        architecture: One of ``ARCHITECTURES``.
        seed: Of the weights, or of the noise added to ``base``.
        base: Start from this model instead of a random one (same settings).
        drift: Standard deviation of the noise.
        dtype: In which the weights are stored.
        extra_tokens: Appended to the vocabulary; embeddings grow with it.
        settings: Fields of ``tiny_config``, e.g. ``tie_word_embeddings=True``.

    Returns:
        ``folder``.
    """
    tokenizer = tiny_tokenizer(extra_tokens)
    config = tiny_config(architecture, **{"vocab_size": len(tokenizer), **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(of_suite(seed))
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if base is not None:
        source = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                rows = source.get_parameter(name)
                parameter[: len(rows)] = rows
    _perturb(model, seed, drift)
    model.generation_config = GenerationConfig.from_model_config(config)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    if architecture == "gpt_neox":
        _add_pythia_tensors(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _add_pythia_tensors(folder: Path) -> None:
    """Adds what GPT-NeoX files on the Hub hold and transformers 5 no longer writes.

    mergekit 0.1.5 refuses a GPT-NeoX model without its old attention buffers, or without
    ``embed_out`` where the head is tied.
    """
    file = folder / "model.safetensors"
    tensors = load_file(file)
    if "embed_out.weight" not in tensors:
        tensors["embed_out.weight"] = tensors["gpt_neox.embed_in.weight"].clone()
    n_layers = 1 + max(int(name.split(".")[2]) for name in tensors if ".layers." in name)
    for layer in range(n_layers):
        attention = f"gpt_neox.layers.{layer}.attention"
        tensors[f"{attention}.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
        tensors[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        tensors[f"{attention}.rotary_emb.inv_freq"] = torch.tensor([1.0, 0.01])
    save_file(tensors, file, metadata={"format": "pt"})


def tiny_family(
    folder: Path, architecture: str = "llama", *, n_models: int = 2, **settings: Any
) -> list[Path]:
    """Writes ``base`` and ``model_1`` ... ``model_n``; returns their folders, base first."""
    base = tiny_model(folder / "base", architecture, **settings)
    names = range(1, n_models + 1)
    return [
        base,
        *(
            tiny_model(folder / f"model_{i}", architecture, seed=i, base=base, **settings)
            for i in names
        ),
    ]


@written_once
def tiny_reward_model(folder: Path, *, num_labels: int = 1, **settings: Any) -> Path:
    """Writes a model that classifies sequences, by default into one number, with tokenizer."""
    config = tiny_config("llama", num_labels=num_labels, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(of_suite(11))
        model = AutoModelForSequenceClassification.from_config(config)
    _perturb(model, 12, 0.2)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
