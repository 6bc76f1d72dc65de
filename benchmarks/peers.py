"""Trials per hour of the same search done three ways, in one run, their order alternated.

    python benchmarks/peers.py [--trials N] [--rounds N] [skills] [large]

- disk: merge into a folder with mergekit, then lm-eval loads it (mergekit-evolve's default way);
- memory: mergekit's in-memory plan writes into one live model, lm-eval builds its tasks anew
  (mergekit-evolve's ``--in-memory`` way);
- evomerge: ``evomerge run``.

The peers are written from mergekit's and lm-eval's public API, because mergekit-evolve itself does
not start with current lm-eval. All three get the same recipes, tasks, dtype and batch size, and
only whole trials are timed: no imports, no first loading of models or data.
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
from pathlib import Path
from typing import Any

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from mergekit.architecture import get_architecture_info
from mergekit.config import MergeConfiguration
from mergekit.graph import Executor
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from evomerge.compiler import compile_genome, search_for
from evomerge.events import TrialFinished
from evomerge.genome import Genome, load_genome
from evomerge.recipe import Recipe

BATCH = 16
WORDS = [f"word{index}" for index in range(2000)]
LARGE = {"vocab_size": 2016, "hidden_size": 896, "intermediate_size": 2560, "num_hidden_layers": 12}
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
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""

Trial = Callable[[Recipe], None]


class Peers:
    """mergekit-evolve's two ways of judging a recipe.

    Args:
        genome: Which tasks.
        folder: Where merges are written.
    """

    def __init__(self, genome: Genome, folder: Path) -> None:
        self.folder = folder
        self.manager = TaskManager(include_path=list(genome.task_search_path))
        self.tasks = [task.name for task in genome.tasks]
        self.fewshot = genome.tasks[0].num_fewshot
        self.limit = genome.tasks[0].limit
        self.options = MergeOptions(quiet=True)
        self.live: HFLM | None = None

    def disk(self, recipe: Recipe) -> None:
        """Merge to a folder, load it, build the tasks, score."""
        with tempfile.TemporaryDirectory(dir=self.folder) as built:
            run_merge(MergeConfiguration.model_validate(recipe.config), built, self.options)
            self._score("hf", {"pretrained": built, "dtype": "float32", "batch_size": BATCH})

    def memory(self, recipe: Recipe) -> None:
        """Merge into one live model, build the tasks, score."""
        config = MergeConfiguration.model_validate(recipe.config)
        architecture = get_architecture_info(config, self.options)
        if self.live is None:
            donor = config.base_model.model.path
            model = AutoModelForCausalLM.from_pretrained(donor, dtype=torch.float32).eval()
            tokenizer = AutoTokenizer.from_pretrained(donor)
            self.live = HFLM(model, tokenizer=tokenizer, batch_size=BATCH, device="cpu")
        own = dict(self.live.model.named_parameters())
        planner = MergePlanner(config, architecture, self.options, self.live.model.config)
        planner._plan()  # plan_in_memory raises with any current pydantic; this is what it does
        name_of = {task: weight.name for weight, task in planner._tensors}
        for task, value in Executor(list(name_of), math_device="cpu").run(quiet=True):
            if name_of[task] in own:
                own[name_of[task]].data.copy_(value)
        self._score(self.live, None)

    def _score(self, model: Any, arguments: dict[str, Any] | None) -> None:
        lm_eval.simple_evaluate(
            model=model,
            model_args=arguments,
            tasks=self.tasks,
            num_fewshot=self.fewshot,
            limit=self.limit,
            task_manager=self.manager,
            device="cpu",
            log_samples=False,
        )


def ours(genome: Path, n_trials: int, folder: Path) -> tuple[list[float], list[Recipe]]:
    """Seconds of each trial of an ``evomerge run``, and its recipes."""
    changes = [f"optimizer={{name: random, budget: {n_trials}}}", "validation=[]", "holdout=[]"]
    definition, source = load_genome(genome, changes)
    seconds, recipes = [], []
    search = search_for(compile_genome(definition, source), folder)
    before = time.perf_counter()
    for event in search.run():
        if isinstance(event, TrialFinished):
            now = time.perf_counter()
            if not event.candidate.is_baseline:
                seconds.append(now - before)
                recipes.append(event.candidate.recipe)
            before = now
    return seconds, recipes


def timed(trial: Trial, recipes: list[Recipe]) -> list[float]:
    """Seconds of each trial."""
    found = []
    for recipe in recipes:
        started = time.perf_counter()
        trial(recipe)
        found.append(time.perf_counter() - started)
    return found


def compare(name: str, genome: Path, n_trials: int, n_rounds: int) -> None:
    """Prints the three medians and their ratios."""
    definition, _ = load_genome(genome, ["validation=[]", "holdout=[]"])
    ways: dict[str, list[float]] = {"disk": [], "memory": [], "evomerge": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        peers = Peers(definition, folder)
        _, recipes = ours(genome, n_trials, folder / "warm")
        with quiet():
            timed(peers.disk, recipes[:1])
            timed(peers.memory, recipes[:1])
        for index in range(n_rounds):
            order = list(ways) if index % 2 == 0 else list(ways)[::-1]
            for way in order:
                with quiet():
                    if way == "evomerge":
                        ways[way] += ours(genome, n_trials, folder / f"run-{index}")[0]
                    else:
                        trial = peers.disk if way == "disk" else peers.memory
                        ways[way] += timed(trial, recipes[: max(n_trials // 4, 2)])
    mine = statistics.median(ways["evomerge"])
    for way, seconds in ways.items():
        each = statistics.median(seconds)
        print(
            f"{name:<8} {way:<10} {each:8.3f} s a trial {3600 / each:10.0f} trials an hour"
            f"   evomerge is {each / mine:5.1f} times as fast"
        )


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


def write_large(folder: Path) -> Path:
    """Four models of 120 million random weights and a 5-shot task of 200 documents."""
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
    for split, count in (("test", 200), ("train", 50)):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", nargs="*", default=["skills", "large"])
    parser.add_argument("--trials", default=8, type=int)
    parser.add_argument("--rounds", default=2, type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.workloads:
            genome = Path("genomes/skills.yml")
            if name == "large":
                with quiet():
                    genome = write_large(Path(temporary))
            compare(name, genome, arguments.trials, arguments.rounds)


if __name__ == "__main__":
    main()
