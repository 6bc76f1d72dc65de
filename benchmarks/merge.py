"""Seconds a merge: mergekit in memory, its kernels on resident tensors, ours, and the floor.

    python benchmarks/merge.py [--size 25m|120m] [--rounds N] [--methods NAME,NAME] [--no-memory]

Llama-shaped models of random weights in bfloat16: a base and three fine-tunes of it. Recipes
compute in float32 and round once; every round has new weights and densities, so nothing is
skipped, and first merges, which fill the caches, are shown apart. "in memory" is what
mergekit-evolve's in-memory mode does for a trial: plan, read, merge and copy into a model, with
mergekit's executor. Methods for which there is no kernel of ours run mergekit's. The floor is
one pass of multiply-add over the same tensors: `torch.add(base, source, alpha=w, out=home)`,
then two `home.add_(source, alpha=w)`, in bfloat16 with its roundings. "compiled" are the sums that
torch.compile joins into one pass, which a search begins to use when it has read enough for it to
pay (`fused.PAYS_AFTER`) and this does at once. All take turns in one process; the best of the
rounds counts.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mergekit.architecture import get_architecture_info
from mergekit.config import MergeConfiguration
from mergekit.graph import Executor
from mergekit.merge import _model_out_config
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from evomerge.merging.kernels import fused
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe

SIZES = {
    "25m": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 11},
    "120m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 14},
}
METHODS = (
    "linear",
    "task_arithmetic",
    "ties",
    "dare_ties",
    "dare_linear",
    "della",
    "della_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
    "slerp",
    "nuslerp",
    "multislerp",
    "sce",
)
N_SOURCES = 3
PAIRS = {"slerp": 1, "nuslerp": 2}  # methods of two models -> how many are sources of a base
COMPILED = frozenset({"linear", "task_arithmetic"})
NO_BASE = frozenset({"linear", "nuslerp", "multislerp"})  # its norms: task vectors of zeros
WEIGHTED = frozenset(METHODS) - {"slerp", "sce"}
WITH_DENSITY = WEIGHTED - {"linear", "task_arithmetic", "nuslerp", "multislerp"}


def write_models(folder: Path, size: str) -> list[Path]:
    """A base and fine-tunes: the base plus noise of a hundredth of its spread."""
    config = AutoConfig.for_model(
        "llama",
        vocab_size=8192 if size == "25m" else 16384,
        num_attention_heads=6 if size == "25m" else 12,
        tie_word_embeddings=False,
        **SIZES[size],
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    words = {f"w{i}": i for i in range(config.vocab_size)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), unk_token="w0"
    )
    folders = []
    for i in range(N_SOURCES + 1):
        noise = {name: (i > 0) * 2e-4 * torch.randn_like(t) for name, t in own.items()}
        model.load_state_dict({name: own[name] + noise[name] for name in own})
        folders.append(folder / f"model_{i}")
        model.to(torch.bfloat16).save_pretrained(folders[-1])
        model.to(torch.float32)
        tokenizer.save_pretrained(folders[-1])
    return folders


def recipe(method: str, folders: list[Path], draw: random.Random) -> Recipe:
    """A point with other weights and densities for every model."""
    base, *sources = map(str, folders)
    sources = sources[: PAIRS.get(method, N_SOURCES)]

    def parameters() -> dict[str, float]:
        found = {"weight": draw.uniform(0.1, 0.9)} if method in WEIGHTED else {}
        if method in WITH_DENSITY:
            found["density"] = draw.uniform(0.3, 0.7)
        return found

    config: dict[str, Any] = {"merge_method": method, "dtype": "float32", "out_dtype": "bfloat16"}
    if method == "linear":
        sources = [base, *sources]
    elif method not in NO_BASE:
        config["base_model"] = base
    config["models"] = [{"model": m, "parameters": parameters()} for m in sources]
    if method in ("slerp", "sce"):
        key = "t" if method == "slerp" else "select_topk"
        config["parameters"] = {key: draw.uniform(0.3, 0.7)}
    return Recipe(config)


def in_memory(recipe: Recipe, homes: dict[str, torch.Tensor]) -> None:
    """A trial's merge as mergekit-evolve's in-memory mode does it."""
    config = MergeConfiguration.model_validate(recipe.config)
    options = MergeOptions(quiet=True)
    architecture = get_architecture_info(config, options)
    planner = MergePlanner(config, architecture, options, _model_out_config(config, architecture))
    planner._plan()  # plan_in_memory raises with any current pydantic; this is what it does
    names = {task: info.name for info, task in planner._tensors}
    for task, tensor in Executor(list(names)).run(quiet=True):
        homes[names[task]].copy_(tensor)


def floor_of(folders: list[Path]) -> Callable[[], None]:
    """One pass of multiply-add over the tensors of all models."""
    base, *sources = (load_file(folder / "model.safetensors") for folder in folders)
    homes = {name: torch.empty_like(tensor) for name, tensor in base.items()}

    def run() -> None:
        for name, home in homes.items():
            torch.add(base[name], sources[0][name], alpha=0.3, out=home)
            for source in sources[1:]:
                home.add_(source[name], alpha=0.3)

    return run


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(method: str, folders: list[Path], n_rounds: int, *, with_memory: bool) -> None:
    """Prints one line of the table."""
    floor = floor_of(folders)
    homes = load_file(folders[0] / "model.safetensors")
    mergers = {"reference": ResidentMerger(engine="reference"), "fast": ResidentMerger()}
    if method in COMPILED:
        with patch.object(fused, "PAYS_AFTER", 0):
            mergers["compiled"] = ResidentMerger()
    draw = random.Random(0)
    first = {
        name: seconds(partial(merger.merge, recipe(method, folders, draw)))
        for name, merger in mergers.items()
    }
    best = dict.fromkeys((*mergers, "memory", "floor"), float("inf"))
    for _ in range(n_rounds):
        point = recipe(method, folders, draw)
        took = {name: seconds(partial(merger.merge, point)) for name, merger in mergers.items()}
        took["floor"] = seconds(floor)
        took["memory"] = seconds(partial(in_memory, point, homes)) if with_memory else float("inf")
        best = {name: min(best[name], took[name]) for name in best}
    compiled = best.get("compiled", float("nan"))
    print(
        f"{method:16} {first['fast']:8.3f} {best['memory']:10.4f} {best['reference']:10.4f}"
        f" {best['fast']:8.4f} {compiled:8.4f} {best['floor']:8.4f}"
        f" {best['memory'] / best['fast']:13.1f} {best['reference'] / best['fast']:9.2f}"
        f" {best['fast'] / best['floor']:12.2f} {compiled / best['floor']:16.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="25m", type=str.lower)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--no-memory", action="store_true", help="leave mergekit's own mode out")
    arguments = parser.parse_args()
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        folders = write_models(Path(temporary), arguments.size)
        n_parameters = sum(t.numel() for t in load_file(folders[0] / "model.safetensors").values())
        print(f"{n_parameters / 1e6:.0f}M parameters, {torch.get_num_threads()} threads, seconds")
        print(
            f"{'method':16} {'first':>8} {'in memory':>10} {'mergekit':>10} {'ours':>8}"
            f" {'compiled':>8} {'floor':>8} {'memory / ours':>13} {'mk / ours':>9}"
            f" {'ours / floor':>12} {'compiled / floor':>16}"
        )
        for method in arguments.methods.split(","):
            measure(method, folders, arguments.rounds, with_memory=not arguments.no_memory)


if __name__ == "__main__":
    main()
