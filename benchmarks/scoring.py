"""What scoring and generation cost: lm-eval's own backend against shared tokens.

A Llama of 38M random weights in float32 answers synthetic tasks. Both take turns in one process,
with the same batch_size and with the default of each; best of several, in seconds of the
processor. A row says how many times fewer tokens the model read, and how many times less time it
took. Nothing is asserted.

    python benchmarks/scoring.py [--batch 8] [--settings same defaults] [--repeats 3]
                                 [--documents 25] [--prompts 200] [--threads 2] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.inference import ENGINES

VOCABULARY = 12_000
N_SPECIAL = 3
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{train: {folder}/train.jsonl, test: {folder}/{name}.jsonl}}}}
training_split: train
test_split: test
fewshot_split: train
fewshot_config: {{sampler: {sampler}}}
num_fewshot: {shots}
doc_to_text: "{{{{question}}}}"
"""
CHOICE = """
output_type: multiple_choice
doc_to_choice: options
doc_to_target: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
GENERATION = """
output_type: generate_until
doc_to_target: "{{options[0]}}"
generation_kwargs: {until: STOPS, max_gen_toks: MAX_NEW}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
# Examples in the prompt; under "... to the end" no stop text ever comes up.
SHOTS = {
    "shared few-shot": 5,
    "own few-shot": 5,
    "zero-shot": 0,
    "generation": 0,
    "few-shot generation": 5,
    "generation to the end": 0,
}
BARS = {"shared few-shot": 8.0, "own few-shot": 2.5, "zero-shot": 1.5, "generation": 3.0}
# batch_size of lm-eval's backend and of ours; None for the one of the command line.
SETTINGS: dict[str, tuple[int | None, Literal["auto"] | None]] = {
    "same": (None, None),
    "defaults": (1, "auto"),
}
MAX_NEW = 128
STOPS = '["33"]'  # in some three words of a hundred


def seconds() -> float:
    """Of the processor, over all threads: a busy machine stretches them less than the clock's."""
    return time.process_time()


def word(index: int) -> str:
    """One token of the vocabulary."""
    return f"w{index}"


def text(draw: random.Random, length: int) -> str:
    """Words of one token each."""
    return " ".join(word(draw.randrange(VOCABULARY - N_SPECIAL)) for _ in range(length))


def tokenizer() -> PreTrainedTokenizerFast:
    """A word is a token."""
    special = ["<unk>", "<s>", "</s>"]
    words = [*special, *map(word, range(VOCABULARY - N_SPECIAL))]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def model() -> Any:
    """38M parameters, the head untied."""
    config = AutoConfig.for_model(
        "llama",
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    built = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in built.model.layers.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3.0)  # smaller weights say one word again and again
    return built


def write_tasks(folder: Path, n_documents: int, n_prompts: int) -> None:
    """YAML and documents of every workload."""
    draw = random.Random(0)

    def documents(count: int, lengths: Callable[[], int]) -> str:
        rows = (
            {"question": text(draw, lengths()), "options": [text(draw, 8) for _ in range(4)]}
            for _ in range(count)
        )
        return "\n".join(map(json.dumps, rows))

    (folder / "train.jsonl").write_text(documents(40, lambda: 70))
    for name, shots in SHOTS.items():
        is_text = "generation" in name
        task = name.replace(" ", "_").replace("-", "_")
        stops = '["never"]' if name.endswith("end") else STOPS
        settings_of_text = GENERATION.replace("STOPS", stops).replace("MAX_NEW", str(MAX_NEW))
        kind = settings_of_text if is_text else CHOICE
        sampler = "default" if name == "own few-shot" else "first_n"
        settings = {"name": task, "folder": folder, "sampler": sampler, "shots": shots}
        (folder / f"{task}.yaml").write_text(TASK.format(**settings) + kind)
        count = n_prompts if is_text else n_documents
        rows = documents(count, lambda few=is_text: draw.randint(8, 96) if few else 64)
        (folder / f"{task}.jsonl").write_text(rows)


def requests_of(folder: Path, name: str) -> list[Any]:
    """The requests lm-eval builds for a task."""
    task = name.replace(" ", "_").replace("-", "_")
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    built = manager.load([task])["tasks"][task]
    built.set_fewshot_seed(seed=1234)
    built.build_all_requests()
    return list(built.instances)


def difference(found: list[Any], expected: list[Any]) -> str:
    """How far answers lie apart."""
    if isinstance(found[0], str):
        n_same = sum(one == other for one, other in zip(found, expected, strict=True))
        return f"{n_same} of {len(found)} texts equal"
    furthest = max(abs(one[0] - other[0]) for one, other in zip(found, expected, strict=True))
    return f"log-likelihoods within {furthest:.0e}"


@dataclass
class Measured:
    """One way of answering.

    Attributes:
        seconds: The best of several.
        n_tokens: Read by the model's first layer, padding included.
        answers: What came out.
    """

    seconds: float = float("inf")
    n_tokens: int = 0
    answers: list[Any] = field(default_factory=list)


def measure(
    module: Any, ways: dict[str, Any], requests: list[Any], repeats: int
) -> dict[str, Measured]:
    """What each way takes; they take turns."""
    found = {name: Measured() for name in ways}
    kind = requests[0].request_type
    counts: list[int] = []
    hook = module.get_input_embeddings().register_forward_hook(
        lambda _module, given, _found: counts.append(given[0].numel())
    )
    for _ in range(repeats):
        for name, way in ways.items():
            counts.clear()
            started = seconds()
            answers = getattr(way, kind)(requests, disable_tqdm=True)
            best = min(found[name].seconds, seconds() - started)
            found[name] = Measured(best, sum(counts), answers)
    hook.remove()
    return found


def ways_of(module: Any, setting: str, batch: int) -> dict[str, Any]:
    """What answers requests under a setting, lm-eval's backend first."""
    theirs, ours = SETTINGS[setting]
    own = LiveLanguageModel(ENGINES["transformers"](tokenizer(), ours or batch))
    own.bind(module)
    return {"lm-eval": HFLM(module, tokenizer=tokenizer(), batch_size=theirs or batch), "own": own}


def line(name: str, setting: str, n_requests: int, found: dict[str, Measured]) -> str:
    """One row of the table."""
    theirs, own = found["lm-eval"], found["own"]
    return (
        f"{name:22} {setting:9} {n_requests:8} {theirs.seconds:9.2f} {own.seconds:8.2f} "
        f"{theirs.n_tokens / own.n_tokens:13.1f} {theirs.seconds / own.seconds:10.1f} "
        f"{BARS.get(name, '')!s:>5}  {difference(own.answers, theirs.answers)}"
    )


def main() -> None:
    """Measures the workloads with a bar, or those named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", default=8, type=int)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--documents", default=25, type=int)
    parser.add_argument("--prompts", default=200, type=int)
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--only", nargs="+", default=list(BARS), choices=list(SHOTS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    module = model()
    n_parameters = sum(parameter.numel() for parameter in module.parameters())
    print(f"{n_parameters / 1e6:.0f}M parameters, float32, {options.threads} threads")
    print(
        f"same: both batch_size {options.batch}; defaults: lm-eval batch_size 1, evomerge auto\n"
        f"{'':22} {'setting':9} requests lm-eval s    own s fewer tokens  less time   bar  answers",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_tasks(folder, options.documents, options.prompts)
        for name in options.only:
            requests = requests_of(folder, name)
            for setting in options.settings:
                ways = ways_of(module, setting, options.batch)
                found = measure(module, ways, requests, options.repeats)
                print(line(name, setting, len(requests), found), flush=True)


if __name__ == "__main__":
    main()
