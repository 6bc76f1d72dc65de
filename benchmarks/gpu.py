"""What an accelerator gives: merges against its memory, scoring against its matrix products.

    python benchmarks/gpu.py [--device cuda] [--size 1B 8B] [--rounds 5] [--plain] [--folder DIR]
    python benchmarks/gpu.py --device cpu --size tiny        tries the script out

Runs from a bare checkout with PyTorch, transformers (and tokenizers and safetensors, which it
brings): models are Llama-shaped, of random weights, in bfloat16. Merges go through
`evomerge.merging` where that can be imported, which takes mergekit 0.1.5 and what it needs
(`pip install mergekit==0.1.5`); scoring through evomerge's evaluator where lm-eval 0.4.13 is
there too. What cannot be imported, or everything with `--plain`, is measured as loops of plain
PyTorch that do the same work, and the table says so.

Limits are measured first: bytes read and written a second by a copy on the device and by one from
pinned host memory to it, and operations a second of a bfloat16 product of square matrices. A
merge of three sources reads them (and the base, but for linear) and writes the model; a forward
pass takes two operations per weight and token. Goal: 70 % of the copy for linear and
task_arithmetic. To save room on disk, in `--folder`, the three sources are one set of files: 2 + 2
bytes a parameter, 32 GB for 8B; on the device each is a copy of its own.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

if TYPE_CHECKING:
    from evomerge.merging.resident import ResidentMerger
    from evomerge.recipe.plain import Recipe

sys.path.insert(0, str(Path(__file__).parents[1]))  # a checkout that is not installed

T = TypeVar("T")
SHAPE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
SIZES = {
    "tiny": (256, 64, 128, 2, 4, 2),
    "1B": (128_256, 2048, 8192, 16, 32, 8),
    "8B": (128_256, 4096, 14_336, 32, 32, 8),
}
METHODS = ("linear", "task_arithmetic", "ties")
N_SOURCES = 3
LENGTH = 512  # tokens of a prompt
Tensors = dict[str, torch.Tensor]


class Bench:
    """One device: how long things take on it, and how much of its memory.

    Args:
        device: Of torch.
        rounds: The best of so many counts.
    """

    def __init__(self, device: str, rounds: int) -> None:
        self.device = torch.device(device)
        self.is_cuda = self.device.type == "cuda"
        self.rounds = rounds

    def seconds(self, run: Callable[[], object]) -> float:
        """The best of some rounds, after one that fills caches."""
        run()
        return min(self._once(run) for _ in range(self.rounds))

    def _once(self, run: Callable[[], object]) -> float:
        self.wait()
        started = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        """Until the device has done all it was told."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def peak_gb(self) -> float:
        """The most memory taken since the last call: of the device, else of the process."""
        if not self.is_cuda:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        peak = torch.cuda.max_memory_allocated(self.device) / 2**30
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        return peak

    def limits(self, n_bytes: int, side: int) -> tuple[float, float, float]:
        """Bytes a second of a copy on the device and from the host, operations a second."""
        one = torch.zeros(n_bytes // 2, dtype=torch.bfloat16, device=self.device)
        other = torch.empty_like(one)
        copied = 2 * n_bytes / self.seconds(lambda: other.copy_(one))
        host = torch.zeros(n_bytes // 2, dtype=torch.bfloat16, pin_memory=self.is_cuda)
        sent = n_bytes / self.seconds(lambda: one.copy_(host, non_blocking=True))
        square = torch.randn(side, side, device=self.device).to(torch.bfloat16)
        product = 2 * side**3 / self.seconds(lambda: square @ square)
        return copied, sent, product


def config_of(size: str) -> Any:
    """The configuration of a size."""
    return AutoConfig.for_model(
        "llama",
        **dict(zip(SHAPE, SIZES[size], strict=True)),
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )


def built(config: Any, device: torch.device) -> Any:
    """A model of random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def tokenizer_of(config: Any) -> PreTrainedTokenizerFast:
    """A word is a token."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, config.vocab_size)}
    inner = Tokenizer(models.WordLevel(words, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


# Merges


def resident(bench: Bench, config: Any, folder: Path) -> Iterator[tuple[str, float]]:
    """Method and seconds a merge, by evomerge on models in a folder.

    Raises:
        ImportError: a package is missing.
    """
    from evomerge.merging.resident import ResidentMerger
    from evomerge.recipe.plain import Recipe

    names = [str(path) for path in _written(config, folder, bench.device)]
    merger = ResidentMerger(device=str(bench.device), dtype="bfloat16")
    draw = random.Random(0)

    def recipe(method: str) -> Recipe:
        entries = []
        for name in names[1:]:
            values = {"weight": draw.uniform(0.1, 0.9)}
            if method == "ties":
                values["density"] = draw.uniform(0.3, 0.7)
            entries.append({"model": name, "parameters": values})
        base = {"tokenizer_source" if method == "linear" else "base_model": names[0]}
        dtypes = {"dtype": "float32", "out_dtype": "bfloat16"}
        return Recipe({"merge_method": method, "models": entries, **base, **dtypes})

    for method in METHODS:
        yield method, bench.seconds(partial(_merge, merger, recipe, method))


def _merge(merger: ResidentMerger, recipe: Callable[[str], Recipe], method: str) -> None:
    """Another point of a method."""
    merger.merge(recipe(method))


def _written(config: Any, folder: Path, device: torch.device) -> list[Path]:
    """A base and its fine-tunes, which are one set of files."""
    model, tokenizer = built(config, device), tokenizer_of(config)
    paths = [folder / "base", folder / "source-0"]
    for path in paths:
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=1e-3)
    for index in range(1, N_SOURCES):
        paths.append(folder / f"source-{index}")
        paths[-1].mkdir()
        for file in paths[1].iterdir():
            os.link(file, paths[-1] / file.name)
    return paths


def plain(bench: Bench, config: Any) -> Iterator[tuple[str, float]]:
    """The same for a weighted sum of plain PyTorch; ties has no plain loop."""
    home = dict(built(config, bench.device).state_dict())
    sources = [{name: t.clone() for name, t in home.items()} for _ in range(N_SOURCES + 1)]
    for method, n_read in (("linear", N_SOURCES), ("task_arithmetic", N_SOURCES + 1)):
        yield method, bench.seconds(partial(weighted_sum, home, sources[:n_read]))


def weighted_sum(home: Tensors, sources: list[Tensors]) -> None:
    """Writes 0.3 times each source, summed in the dtype of the home."""
    for name, tensor in home.items():
        torch.mul(sources[0][name], 0.3, out=tensor)
        for source in sources[1:]:
            tensor.add_(source[name], alpha=0.3)


def from_host(bench: Bench, config: Any) -> float:
    """Seconds a weighted sum of sources in host memory, the next tensor on its way meanwhile."""
    home = dict(built(config, bench.device).state_dict())
    own = {name: t.cpu() for name, t in home.items()}
    # One pinned set stands for all three: what counts is how many bytes are sent.
    host = {name: t.pin_memory() for name, t in own.items()} if bench.is_cuda else own
    queue = torch.cuda.Stream(bench.device) if bench.is_cuda else None

    def sent(name: str) -> list[torch.Tensor]:
        if queue is None:
            return [host[name]] * N_SOURCES
        with torch.cuda.stream(queue):
            return [host[name].to(bench.device, non_blocking=True) for _ in range(N_SOURCES)]

    def merge() -> None:
        names = list(home)
        ahead = sent(names[0])
        for index, name in enumerate(names):
            if queue is not None:
                here = torch.cuda.current_stream(bench.device)
                here.wait_stream(queue)
                for tensor in ahead:
                    tensor.record_stream(here)
            current, ahead = ahead, sent(names[index + 1]) if index + 1 < len(names) else []
            weighted_sum({name: home[name]}, [{name: tensor} for tensor in current])

    return bench.seconds(merge)


# Scoring


def scored(bench: Bench, config: Any, n_prompts: int) -> float:
    """Tokens a second by evomerge's evaluator, prompts all different.

    Raises:
        ImportError: a package is missing.
    """
    from lm_eval.api.instance import Instance

    from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
    from evomerge.inference import ENGINES

    draw = random.Random(0)

    def words(count: int) -> str:
        return " ".join(f"w{draw.randrange(3, config.vocab_size)}" for _ in range(count))

    requests = [
        Instance("loglikelihood", {}, (words(LENGTH - 1), f" {words(1)}"), index)
        for index in range(n_prompts)
    ]
    language_model = LiveLanguageModel(ENGINES["transformers"](tokenizer_of(config)))
    language_model.bind(built(config, bench.device))
    return n_prompts * LENGTH / bench.seconds(lambda: language_model.loglikelihood(requests))


def forward(bench: Bench, config: Any, n_prompts: int) -> float:
    """Tokens a second of bare forward passes that keep the last logits."""
    model = built(config, bench.device)
    tokens = torch.randint(3, config.vocab_size, (n_prompts, LENGTH), device=bench.device)

    @torch.no_grad()
    def run() -> None:
        for part in tokens.split(32):
            model(part, use_cache=False, logits_to_keep=1)

    return n_prompts * LENGTH / bench.seconds(run)


# The table


def by_evomerge(run: Callable[[], T], instead: Callable[[], T], is_plain: bool) -> tuple[T, str]:
    """What evomerge gives, or its stand-in where it cannot be imported; and which it was."""
    if not is_plain:
        try:
            return run(), "evomerge"
        except ImportError as error:
            print(f"plain PyTorch instead of evomerge: {error}", flush=True)
    return instead(), "plain"


def measure(bench: Bench, size: str, folder: Path, is_plain: bool) -> None:
    """Prints the table of one size."""
    config, is_tiny = config_of(size), size == "tiny"
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    n_weights = sum(parameter.numel() for parameter in empty.parameters())
    n_multiplied = n_weights - config.vocab_size * config.hidden_size  # embeddings are looked up
    copied, sent, product = bench.limits(2**24 if is_tiny else 2**31, 256 if is_tiny else 8192)
    print(f"\n{size}: {n_weights / 1e9:.2f}B weights, bfloat16, {_name(bench)}")
    print(f"limits: copy {copied / 1e9:.0f} GB/s, from the host {sent / 1e9:.0f} GB/s, "
          f"products {product / 1e12:.1f} TFLOP/s")  # fmt: skip
    print(f"{'':28} {'by':9} {'found':>16} {'of the limit':>13} {'peak GB':>9}", flush=True)
    bench.peak_gb()

    def show(label: str, by: str, found: str, share: float) -> None:
        print(f"{label:28} {by:9} {found:>16} {100 * share:11.1f} % {bench.peak_gb():9.2f}",
              flush=True)  # fmt: skip

    merges, by = by_evomerge(
        lambda: list(resident(bench, config, folder)), lambda: list(plain(bench, config)), is_plain
    )
    for method, seconds in merges:
        n_passes = N_SOURCES + 1 + (method != "linear")
        show(
            f"merge, {method}", by, f"{seconds:.4f} s", n_passes * 2 * n_weights / seconds / copied
        )
    seconds = from_host(bench, config)
    show("merge, sources on the host", "plain", f"{seconds:.4f} s",
         N_SOURCES * 2 * n_weights / seconds / sent)  # fmt: skip
    n_prompts = 4 if is_tiny else 128
    rate, by = by_evomerge(
        lambda: scored(bench, config, n_prompts),
        lambda: forward(bench, config, n_prompts),
        is_plain,
    )
    show("scoring", by, f"{rate:.0f} tokens/s", rate * 2 * n_multiplied / product)


def _name(bench: Bench) -> str:
    if bench.is_cuda:
        return str(torch.cuda.get_device_name(bench.device))
    return f"{bench.device} with {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", nargs="+", default=["1B", "8B"], choices=list(SIZES))
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--folder", type=Path, help="where models are written")
    options = parser.parse_args()
    disable_progress_bar()
    for size in options.size:
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            measure(Bench(options.device, options.rounds), size, Path(temporary), options.plain)


if __name__ == "__main__":
    main()
