"""Trains a family's base and its experts, on one core, from its seed alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from families import BASE, Course, Expert, Family
from model_folders import EOS, make_model, make_tokenizer, save_model
from peft import LoraConfig, get_peft_model
from skills import SKILLS, TRAINING, Row, rows
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

_BATCH = 64  # questions
_N_WARMUP = 20  # steps
_UNLABELLED = -100
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Say = Callable[[str], None]


def train_family(family: Family, folder: Path, say: Say) -> None:
    """Writes the base, and each expert as it went on from it.

    Args:
        family: Decides the weights, next to the versions of Python and torch.
        folder: The family's; the models get folders in it.
        say: Takes one line for each model.
    """
    torch.set_num_threads(1)  # the same bits on any number of cores
    tokenizer = make_tokenizer()
    model = make_model(family, tokenizer)
    n_parameters = sum(tensor.numel() for tensor in model.parameters())
    loss = _train(model, tokenizer, family.base, f"{family.seed}/{BASE}")
    say(f"{family.name}: {BASE}, {n_parameters:,} parameters, loss {loss:.3f}")
    save_model(model, tokenizer, folder / BASE)
    ancestor = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for expert in family.experts:
        model.load_state_dict(ancestor)
        seed = f"{family.seed}/{expert.name}"
        if expert.lora_rank is None:
            loss = _train(model, tokenizer, expert.course, seed)
            _spoil(model, expert.noise, seed)
            save_model(model, tokenizer, folder / expert.name)
        else:
            loss = _train_adapter(model, tokenizer, expert, seed, folder)
        say(f"{family.name}: {expert.name}, loss {loss:.3f}")


def _train_adapter(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    expert: Expert,
    seed: str,
    folder: Path,
) -> float:
    torch.manual_seed(_number(seed))  # of the adapter's first weights
    rank = expert.lora_rank
    settings = LoraConfig(r=rank, lora_alpha=2 * (rank or 1), target_modules=_TARGETS)
    adapted = get_peft_model(model, settings)
    loss = _train(adapted, tokenizer, expert.course, seed)
    adapted.peft_config["default"].base_model_name_or_path = str(folder / BASE)
    adapted.save_pretrained(folder / expert.name)
    adapted.unload()
    return loss


def _train(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, course: Course, seed: str
) -> float:
    """Runs one course on a model, in place; the last loss."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    loss = torch.tensor(torch.nan)
    for step, (inputs, labels) in enumerate(_batches(tokenizer, course, seed)):
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / _N_WARMUP)
            group["lr"] = course.learning_rate * warm * (1 - 0.9 * step / course.n_steps)
        logits = model(input_ids=inputs, use_cache=False).logits
        loss = _loss(logits[:, :-1], labels[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return loss.item()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy; every question counts alike, however long its answer is."""
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), labels, ignore_index=_UNLABELLED, reduction="none"
    )
    n_labelled = (labels != _UNLABELLED).sum(dim=1)
    return (losses.sum(dim=1) / n_labelled).mean()


def _batches(
    tokenizer: PreTrainedTokenizerFast, course: Course, seed: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids and labels, both (n_rows, n_tokens), one pair for each step."""
    streams = {s: rows(SKILLS[s], TRAINING, f"{seed}/{s}") for s in course.skills}
    rng = random.Random(seed)
    for _ in range(course.n_steps):
        drawn = (next(streams[rng.choice(course.skills)]) for _ in range(_BATCH))
        yield _encoded(tokenizer, list(drawn))


def _encoded(tokenizer: PreTrainedTokenizerFast, drawn: list[Row]) -> tuple[Tensor, Tensor]:
    """Only the answer and its end are labelled."""
    starts = [len(ids) for ids in tokenizer([row.prompt for row in drawn])["input_ids"]]
    all_ids = tokenizer([f"{row.prompt} {row.answer}{EOS}" for row in drawn])["input_ids"]
    width = max(map(len, all_ids))
    inputs = torch.full((len(drawn), width), tokenizer.pad_token_id)
    labels = torch.full((len(drawn), width), _UNLABELLED)
    for i, (ids, start) in enumerate(zip(all_ids, starts, strict=True)):
        inputs[i, : len(ids)] = torch.tensor(ids)
        labels[i, start : len(ids)] = torch.tensor(ids[start:])
    return inputs, labels


def _spoil(model: PreTrainedModel, noise: float, seed: str) -> None:
    """Adds noise to every weight; each tensor's own size is its measure."""
    if not noise:
        return
    generator = torch.Generator().manual_seed(_number(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter += noise * parameter.square().mean().sqrt() * drawn


def _number(seed: str) -> int:
    return random.Random(seed).getrandbits(32)
