"""A search over tiny models of random weights, in any size: what the benchmarks here measure.

Models are Llama-shaped, their documents are written as AI2's ARC writes them and asked as lm-eval
asks them (`arc_easy`), so that everything around kernels and forward passes is what it is in life.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.genome.load import load_genome
from evomerge.run.search import Search

WORDS = [f"word{index}" for index in range(200)]
LETTERS = list("ABCD")
_TASK = """
task: tiny_arc
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/test.jsonl}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{choices.label.index(answerKey)}}}}"
doc_to_choice: "{{{{choices.text}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
_GENOME = """
genome:
  models: [{models}]
{base}
{space}
tasks: [{{name: tiny_arc, metric: acc}}]
task_search_path: [{folder}]
optimizer: {{name: {optimizer}, budget: {budget}, population_size: {population}}}
"""
_MERGES = """
  merge_method: {method}
  granularity: {granularity}
  {layer_granularity}
  {parameters}
"""


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        models: Fine-tunes of the base that are merged.
        layers: Of each model.
        documents: Of the one task, four options each.
        granularity: The genome's.
        layer_granularity: Likewise; None where ``granularity`` takes none.
        width: Of the hidden states.
        optimizer: Its name.
        budget: Trials it proposes.
        population: Trials it proposes at once.
        mean: Of probabilities, where mixtures are searched; empty: merges are.
        vocabulary: Rows of embeddings and head; 0: as many as there are tokens.
        dtype: Of the models' files.
        method: Merge method.
    """

    models: int = 2
    layers: int = 2
    documents: int = 100
    granularity: str = "model"
    layer_granularity: int | None = None
    width: int = 32
    optimizer: str = "random"
    budget: int = 6
    population: int = 1
    mean: str = ""
    vocabulary: int = 0
    dtype: str = "float32"
    method: str = "task_arithmetic"


@contextmanager
def tiny_search(folder: Path, size: Size, execution: str = "{}") -> Iterator[Search]:
    """The search over models and documents that are written into a folder.

    Args:
        folder: For all of it.
        size: How large everything is.
        execution: Where its trials run, as a genome has it.
    """
    disable_progress_bar()
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder / "datasets"
    try:
        file = write(folder, size)
        file.write_text(f"{file.read_text()}execution: {execution}\n")
        genome, source = load_genome(file)
        yield search_for(compile_genome(genome, source), folder / "run")
    finally:
        datasets.config.HF_DATASETS_CACHE = before


def write(folder: Path, size: Size) -> Path:
    """Writes models, task and genome; returns the genome."""
    write_models(folder, size)
    draw = random.Random(0)
    rows = (
        {
            "question": " ".join(draw.choices(WORDS, k=4)),
            "choices": {"text": draw.sample(WORDS, 4), "label": LETTERS},
            "answerKey": draw.choice(LETTERS),
        }
        for _ in range(size.documents)
    )
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "task.yaml").write_text(_TASK.format(folder=folder))
    step = size.layer_granularity
    merges = _MERGES.format(
        method=size.method,
        parameters="" if size.method == "linear" else "parameters: {weight: {range: [0, 1]}}",
        granularity=size.granularity,
        layer_granularity="" if step is None else f"layer_granularity: {step}",
    )
    text = _GENOME.format(
        folder=folder,
        base="" if size.method == "linear" else f"  base_model: {folder}/base",
        models=", ".join(f"{folder}/model-{index}" for index in range(size.models)),
        space=f"  space: {{name: mixture, mean: {size.mean}}}" if size.mean else merges,
        optimizer=size.optimizer,
        budget=size.budget,
        population=size.population,
    )
    (folder / "genome.yml").write_text(text)
    return folder / "genome.yml"


def write_models(folder: Path, size: Size) -> None:
    """A base, and fine-tunes of it: the base plus noise."""
    tokens = ["<unk>", "<s>", "</s>", "Question:", "Answer:", *WORDS]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(tokens)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    config = AutoConfig.for_model(
        "llama",
        vocab_size=size.vocabulary or len(tokens),
        hidden_size=size.width,
        intermediate_size=2 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(getattr(torch, size.dtype))
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in ("base", *(f"model-{index}" for index in range(size.models))):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        model.load_state_dict({key: t + 0.02 * torch.randn_like(t) for key, t in own.items()})
