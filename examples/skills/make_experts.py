"""Trains a small base model and one expert for each of the three skills, on the CPU.

A common ancestor learns all three skills until it is fairly good at each; it is kept as `base`.
Each expert continues from it with one skill only, masters that one and loses much of the others.
Merging wins because the experts drift apart from one point: their gains add up, their losses
cancel. The drifts are of unequal length on purpose, so that equal weights are not the best ones.

Differs from usual training: no BOS is ever shown, because lm-eval adds none by default.

Example: python examples/skills/make_experts.py --out examples/skills/models
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from make_data import DATA_SEED, N_LETTERS, RESERVED_OF, SKILLS, Row, training_rows

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

DEFAULT_OUT = Path(__file__).resolve().parent / "models"
SETTINGS_FILE = "experts.json"  # written last: a folder that has it is complete
PAD, BOS, EOS = "<pad>", "<s>", "</s>"
N_THREADS = 1  # nearly as fast as 2 at this size, and the same bits on any number of cores
REPORT_EVERY = 25  # steps
BASE_MIX = ("sort", "sort", "reverse", "reverse", "reverse", "twice", "twice")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Course:
    """One stretch of training.

    Args:
        skills: What the rows are drawn from; a name given twice is drawn twice as often.
        n_steps: Optimizer steps of one batch each.
        learning_rate: Reached after `n_warmup` steps.
        n_warmup: Steps of linear growth from zero.
        end_factor: What is left of the rate at the end; it falls linearly from the first step.
    """

    skills: tuple[str, ...]
    n_steps: int
    learning_rate: float
    n_warmup: int = 10
    end_factor: float = 0.05


@dataclass(frozen=True)
class Settings:
    """All that decides the weights, next to the versions of Python and torch."""

    seed: int = 0
    n_threads: int = N_THREADS
    hidden_size: int = 128
    intermediate_size: int = 256
    n_layers: int = 6
    n_heads: int = 4
    batch_size: int = 64
    data: tuple[int, int, int] = (DATA_SEED, N_LETTERS, RESERVED_OF)
    base: Course = Course(BASE_MIX, 220, 2e-3, n_warmup=40, end_factor=0.5)
    experts: dict[str, Course] = field(
        default_factory=lambda: {
            "expert-sort": Course(("sort",), 90, 1e-3),
            "expert-reverse": Course(("reverse",), 90, 1e-3),
            "expert-twice": Course(("twice",), 110, 1.5e-3),
        }
    )

    @property
    def digest(self) -> str:
        """Twelve hex digits: the same settings give the same digest."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def folders(self) -> list[str]:
        """Names of the model folders, the base first."""
        return ["base", *self.experts]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: lossless for any text, and one token for each word of the skills."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        min_frequency=1,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words = [*SKILLS, " =", *(f" {letter}" for letter in string.ascii_lowercase)]
    bpe.train_from_iterator(words, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,  # BOS is in the vocabulary, but not declared: none is trained
        pad_token=PAD,
        eos_token=EOS,
        model_max_length=64,
    )


def make_model(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with random weights; the caller seeds torch."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.n_layers,
        num_attention_heads=settings.n_heads,
        num_key_value_heads=settings.n_heads,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    config._attn_implementation = "eager"  # the fastest at this size
    model = LlamaForCausalLM(config)
    model.generation_config.do_sample = False
    return model


def batch(rows: list[Row], tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    """Token ids and labels, both (n_rows, n_tokens); only the answer and its EOS are labelled."""
    import torch

    n_prompt = [len(ids) for ids in tokenizer([row.prompt for row in rows])["input_ids"]]
    texts = [f"{row.prompt} {row.answer}{EOS}" for row in rows]
    all_ids = tokenizer(texts)["input_ids"]
    width = max(len(ids) for ids in all_ids)
    inputs = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    for i, (ids, start) in enumerate(zip(all_ids, n_prompt, strict=True)):
        inputs[i, : len(ids)] = torch.tensor(ids)
        labels[i, start : len(ids)] = torch.tensor(ids[start:])
    return inputs, labels


def rate_factor(course: Course, step: int) -> float:
    """Share of the learning rate at a step, in (0, 1]."""
    warm = min(1.0, (step + 1) / course.n_warmup)
    return warm * (1 - (1 - course.end_factor) * step / course.n_steps)


def train(
    model: LlamaForCausalLM,
    batches: Iterator[tuple[Tensor, Tensor]],
    course: Course,
    report: Say,
) -> None:
    """Runs one course on the model, in place."""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), course.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    model.train()
    started = time.perf_counter()
    for step, (inputs, labels) in enumerate(islice(batches, course.n_steps)):
        for group in optimizer.param_groups:
            group["lr"] = course.learning_rate * rate_factor(course, step)
        loss = model(inputs, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == course.n_steps:
            seconds = time.perf_counter() - started
            report(f"step {step + 1}/{course.n_steps}  loss {loss.item():.3f}  {seconds:.0f} s")


def train_all(settings: Settings, out: Path, say: Say) -> None:
    """Trains the base, then each expert from it, and saves each as a folder under `out`."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(settings.n_threads)
    torch.manual_seed(settings.seed)
    tokenizer = make_tokenizer()
    model = make_model(settings, tokenizer)
    n_parameters = sum(tensor.numel() for tensor in model.parameters())
    say(f"{n_parameters:,} parameters, {settings.n_layers} layers, seed {settings.seed}")
    ancestor: dict[str, Tensor] = {}
    for name, course in {"base": settings.base, **settings.experts}.items():
        if ancestor:
            model.load_state_dict(ancestor)
        rows = training_rows(course.skills, random.Random(f"{settings.seed}/{name}"))
        batches = (batch(list(islice(rows, settings.batch_size)), tokenizer) for _ in count())
        train(model, batches, course, partial(say_of, name, say))
        save(model, tokenizer, out / name)
        if not ancestor:
            ancestor = {key: tensor.clone() for key, tensor in model.state_dict().items()}


def say_of(name: str, say: Say, text: str) -> None:
    """Says a line of progress under the name of a model."""
    say(f"{name}: {text}")


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes a model folder that transformers 4 and 5, mergekit and lm-eval load."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers 5 writes a class name that transformers 4 does not know; both know this one.
    path = folder / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def recorded_digest(out: Path) -> str | None:
    """Digest of the settings a folder was made with; None if it is absent or incomplete."""
    try:
        record = json.loads((out / SETTINGS_FILE).read_text(encoding="utf-8"))
        folders, digest = list(record["folders"]), str(record["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_complete = all((out / name / "model.safetensors").is_file() for name in folders)
    return digest if is_complete else None


def make_experts(out: Path, settings: Settings, force: bool, say: Say) -> bool:
    """Makes the folder of models unless it is there already.

    Args:
        out: Holds the finished models; written beside it first, then renamed.
        settings: Decides the weights.
        force: Train even if the models are there.
        say: Takes one line of progress.

    Returns:
        False if the models were there already.

    Raises:
        click.ClickException: `out` holds something that this script did not make.
    """
    if not force and recorded_digest(out) == settings.digest:
        say(f"{out}: the models are there already (settings {settings.digest}).")
        return False
    if out.exists() and not (out.is_dir() and (is_ours(out) or not any(out.iterdir()))):
        raise click.ClickException(
            f"{out}: holds files that make_experts.py did not write. Choose another --out."
        )
    started = time.perf_counter()
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    train_all(settings, partial, say)
    record = {"digest": settings.digest, "folders": settings.folders, "settings": asdict(settings)}
    (partial / SETTINGS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)
    say(f"{out}: {', '.join(settings.folders)} in {time.perf_counter() - started:.0f} s")
    return True


def is_ours(out: Path) -> bool:
    """True if a folder holds nothing but what this script writes, finished or not."""
    names = {path.name for path in out.iterdir()}
    return names <= {SETTINGS_FILE, *Settings().folders}


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=DEFAULT_OUT,
    help="Folder for the models.  [default: examples/skills/models]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides the weights.")
@click.option("--force", is_flag=True, help="Train even if the models are there already.")
def main(out: Path, seed: int, force: bool) -> None:
    """Train the base and its three experts, once.

    Example: python examples/skills/make_experts.py --out examples/skills/models
    """
    make_experts(out, Settings(seed=seed), force, lambda text: click.echo(text, err=True))


if __name__ == "__main__":
    main()
