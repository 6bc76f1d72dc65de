"""Trials per hour of the same search done otherwise, in one run, the order alternated.

    python benchmarks/peers.py [skills] [large] [--trials N] [--peer-trials N] [--rounds N]
                               [--documents N] [--threads N] [--dtype float32|bfloat16] [--quick]

- disk: merge into a folder with mergekit, lm-eval loads it (mergekit-evolve's default way);
- memory: mergekit's in-memory plan writes into one live model, lm-eval builds its tasks anew
  (mergekit-evolve's ``--in-memory`` way);
- evomerge: ``evomerge run``.

mergekit-evolve's ways are written from mergekit's and lm-eval's public API (`mergekit_evolve.py`),
because the command does not start with current lm-eval. Each has two rows. By default it gives
lm-eval no batch size, which is a batch size of 1. ``--batch-size 16`` reaches the disk way only:
the in-memory way wraps its model as ``HFLM(pretrained=model)`` and stays at 1; its second row
is a change of its code. ``evomerge run`` stands at its default, ``batch_size: auto``.

``large`` is four models of 120 million random weights and a 5-shot task of four options, whose
shots are the same for all documents, as MMLU's are.

All ways get the same recipes, tasks and dtype (``--dtype``; mergekit-evolve's own is bfloat16), and
only whole trials are timed: no imports, no first reading of models and data. The score that each
finds for one and the same recipe stands in the last column.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import datasets
import torch
from mergekit_evolve import MergekitEvolve
from tiny_search import Size, write
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.genome.load import load_genome
from evomerge.nouns.events import TrialFinished
from evomerge.recipe.plain import Recipe

BATCH = 16  # what a user gives
NO_FINALS = ["validation=[]", "holdout=[]"]
WORDS = [f"word{index}" for index in range(2000)]
LARGE = {"vocab_size": 2016, "hidden_size": 896, "intermediate_size": 2560, "num_hidden_layers": 12}
QUICK = Size(models=2, documents=8, granularity="model")
GENOME = """
genome:
  models: [{folder}/model_1, {folder}/model_2, {folder}/model_3]
  base_model: {folder}/base
  merge_method: task_arithmetic
  layer_granularity: 4
tasks: [{{name: large, num_fewshot: 5}}]
task_search_path: [{folder}]
"""
TASK = """
task: large
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/test.jsonl, train: {folder}/train.jsonl}}}}
test_split: test
fewshot_split: train
fewshot_config: {{sampler: first_n}}
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@dataclass(frozen=True)
class Judged:
    """A recipe and its mean score over the tasks."""

    recipe: Recipe
    score: float


Trial = Callable[..., float]  # of a recipe, and of at most so many documents of each task


@dataclass
class Way:
    """One way to do the search.

    Attributes:
        label: What it is.
        batch: What stands for its batch size.
        bar: How many times as fast evomerge should be.
        trial: Scores a recipe; None for `evomerge run`.
        seconds: Of each trial.
        score: Of the first recipe.
    """

    label: str
    batch: str
    bar: str = ""
    trial: Trial | None = None
    seconds: list[float] = field(default_factory=list)
    score: float = float("nan")

    def take(self, recipes: list[Recipe]) -> None:
        """Times a trial of each recipe."""
        for index, recipe in enumerate(recipes):
            started = time.perf_counter()
            score = self.trial(recipe) if self.trial is not None else self.score
            self.seconds.append(time.perf_counter() - started)
            self.score = score if index == 0 else self.score


def ours(
    genome: Path, n_trials: int, folder: Path, dtype: str
) -> tuple[list[float], list[Judged], dict[str, str]]:
    """Seconds of each trial of an ``evomerge run``, its recipes, and the metric of each task."""
    optimizer = f"optimizer={{name: random, budget: {n_trials}}}"
    changes = [optimizer, f"evaluation.dtype={dtype}", *NO_FINALS]
    definition, source = load_genome(genome, changes)
    seconds, judged, metrics = [], [], {}
    search = search_for(compile_genome(definition, source), folder)
    before = time.perf_counter()
    for event in search.run():
        if isinstance(event, TrialFinished):
            now = time.perf_counter()
            if not event.candidate.is_baseline and event.outcome.evaluation is not None:
                own = event.outcome.evaluation.metrics[: len(definition.tasks)]
                score = statistics.mean(metric.value for metric in own)
                metrics = {m.key.task: f"{m.key.metric},{m.key.filter}" for m in own}
                seconds.append(now - before)
                judged.append(Judged(event.candidate.recipe, score))
            before = now
    return seconds, judged, metrics


def compare(name: str, genome: Path, arguments: argparse.Namespace) -> None:
    """Prints the medians and their ratios."""
    definition, _ = load_genome(genome, NO_FINALS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        peers = MergekitEvolve(definition, folder, arguments.dtype)
        ways = ways_of(peers)
        mine = ways[-1]
        with quiet():
            n_peer = arguments.peer_trials
            _, judged, peers.metrics = ours(genome, n_peer, folder / "warm", arguments.dtype)
            recipes = [one.recipe for one in judged]
            for way in ways[:-1]:
                way.trial(recipes[0], limit=1)
        for index in range(arguments.rounds):
            run = partial(ours, genome, arguments.trials, folder / f"run-{index}", arguments.dtype)
            for way in ways if index % 2 == 0 else ways[::-1]:
                with quiet():
                    if way is mine:
                        seconds, judged, _ = run()
                        way.seconds += seconds
                        way.score = judged[0].score
                    else:
                        way.take(recipes)
        print(table(name, ways))


def ways_of(peers: MergekitEvolve) -> list[Way]:
    """mergekit-evolve's, then ours."""
    disk, memory = peers.disk, peers.memory
    return [
        Way("merge to disk", "1, its default", "20", partial(disk, batch=None)),
        Way("merge to disk", f"{BATCH}, given", "20", partial(disk, batch=BATCH)),
        Way("in memory", "1, always", "5", partial(memory, batch=None)),
        Way("in memory", f"{BATCH}, patched", "5", partial(memory, batch=BATCH)),
        Way("evomerge run", "auto, its default"),
    ]


def table(name: str, ways: list[Way]) -> str:
    """Medians, how many times as fast evomerge is, and what each found for one recipe."""
    mine = statistics.median(ways[-1].seconds)
    lines = [
        f"{name:14} {'batch size':18} {'s a trial':>10} {'trials an hour':>15} "
        f"{'evomerge is':>12} {'bar':>4} {'score':>8}"
    ]
    for way in ways:
        each = statistics.median(way.seconds)
        times = "" if way is ways[-1] else f"{each / mine:.1f} x"
        lines.append(
            f"{way.label:14} {way.batch:18} {each:10.3f} {3600 / each:15.0f} "
            f"{times:>12} {way.bar:>4} {way.score:8.4f}"
        )
    return "\n".join(lines)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and loggers."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def write_large(folder: Path, n_documents: int) -> Path:
    """Four models of 120 million random weights and a 5-shot task; its shots are MMLU's way."""
    vocabulary = {text: index for index, text in enumerate(["<unk>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )
    for index, name in enumerate(("base", "model_1", "model_2", "model_3")):
        torch.manual_seed(index)
        config = LlamaConfig(**LARGE, num_attention_heads=14, max_position_embeddings=2048)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / name)
        fast.save_pretrained(folder / name)
    rng = random.Random(0)
    for split, count in (("test", n_documents), ("train", 50)):
        rows = [
            {
                "text": " ".join(rng.choices(WORDS, k=40)),
                "options": [" ".join(rng.choices(WORDS, k=4)) for _ in range(4)],
                "answer": rng.randrange(4),
            }
            for _ in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "large.yaml").write_text(TASK.format(folder=folder))
    genome = folder / "genome.yml"
    genome.write_text(GENOME.format(folder=folder))
    return genome


def written(name: str, folder: Path, n_documents: int) -> Path:
    """The genome of a workload."""
    if name == "skills":
        return Path("genomes/skills.yml")
    folder.mkdir()
    with quiet():
        return write(folder, QUICK) if name == "quick" else write_large(folder, n_documents)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", nargs="*", default=["skills", "large"])
    parser.add_argument("--trials", default=8, type=int, help="of evomerge, in each round")
    parser.add_argument("--peer-trials", default=2, type=int, help="of the others, in each round")
    parser.add_argument("--rounds", default=2, type=int)
    parser.add_argument("--documents", default=200, type=int, help="of large")
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--quick", action="store_true", help="tiny models that tell nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} threads, {arguments.dtype}, medians; score: of the same recipe")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        datasets.config.HF_DATASETS_CACHE = folder / "datasets"
        for name in ["quick"] if arguments.quick else arguments.workloads:
            compare(name, written(name, folder / name, arguments.documents), arguments)


if __name__ == "__main__":
    main()
