"""Writes the tables of docs/genome.md from the schema, so that they cannot drift.

Run it to write docs/genome.md anew; with ``--check`` it exits 1 if the page would change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from generated_page import between, write_or_check
from pydantic import BaseModel

from evomerge.evaluators import EVALUATORS
from evomerge.executors import EXECUTORS
from evomerge.genome.execution_block import Execution
from evomerge.genome.field_words import default, type_name
from evomerge.genome.merge_block import SPACE_KEYS, MergeDefinition, TokenizerBlock
from evomerge.genome.parameter_values import Setting
from evomerge.genome.schema import Genome, OptimizerBlock
from evomerge.genome.source_blocks import ModuleBlock, Source
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.merge_spaces import MERGE_SPACES

PAGE = Path(__file__).with_name("genome.md")
BLOCKS: dict[str, tuple[type[BaseModel], dict[str, str]]] = {
    "top": (
        Genome,
        {
            "genome": "see below",
            "tasks": "tasks: [my_task]",
            "validation": "validation: [my_task_validation]",
            "holdout": "holdout: [my_task_holdout]",
            "objective": "objective: worst",
            "baselines": "baselines: [models, base, average]",
            "optimizer": "optimizer: {name: tpe, budget: 60}",
            "evaluation": "evaluation: {batch_size: 16}",
            "execution": "execution: {workers: 2}",
            "trackers": "trackers: [page]",
            "output": "output: adapter",
            "run_dir": "run_dir: runs/first-try",
            "seed": "seed: 7",
            "task_search_path": "task_search_path: [tasks/skills]",
            "limit": "limit: 100",
            "validation_limit": "validation_limit: 200",
            "holdout_limit": "holdout_limit: 500",
            "num_fewshot": "num_fewshot: 5",
            "shuffle": "shuffle: true",
            "random_init": "random_init: true",
            "finalists": "finalists: 3",
            "apply_chat_template": "apply_chat_template: false",
            "fewshot_as_multiturn": "fewshot_as_multiturn: true",
        },
    ),
    "genome": (
        MergeDefinition,
        {
            "models": "models: [org/math-7b, org/code-7b]",
            "modules": "modules: {text_decoder: {models: [org/vl-math, org/vl-code]}}",
            "space": "space: parameters",
            "merge_method": "merge_method: task_arithmetic",
            "merge_method_packages": "merge_method_packages: [my_methods]",
            "base_model": "base_model: org/base-7b",
            "parameters": "parameters: {weight: {range: [0, 1.2]}}",
            "adapters": "adapters: factors",
            "granularity": "granularity: layers",
            "layer_granularity": "layer_granularity: 4",
            "filters": "filters: [self_attn, mlp]",
            "smooth": "smooth: true",
            "normalize": "normalize: false",
            "allow_negative_weights": "allow_negative_weights: true",
            "dtype": "dtype: bfloat16",
            "out_dtype": "out_dtype: bfloat16",
            "tokenizer_source": "tokenizer_source: base",
            "tokenizer": "tokenizer: {source: union}",
            "chat_template": "chat_template: chatml",
            "name": "name: my merge",
        },
    ),
    "source": (
        Source,
        {
            "model": "model: org/math-7b@main",
            "parameters": "parameters: {weight: {range: [0.2, 1]}}",
        },
    ),
    "module": (
        ModuleBlock,
        {
            "models": "models: [org/vl-math, org/vl-code]",
            "parameters": "parameters: {weight: {range: [0, 1]}}",
        },
    ),
    "setting": (
        Setting,
        {
            "filter": "filter: self_attn",
            "value": "value: 0.5",
            "range": "range: [0, 1.5]",
            "log": "log: true",
            "integer": "integer: [1, 20]",
            "choice": "choice: [true, false]",
            "initial": "initial: [0.2, 0.5, 0.3]",
        },
    ),
    "tokenizer": (
        TokenizerBlock,
        {
            "source": "source: union",
            "tokens": "tokens: {<pad>: {source: org/math-7b}}",
            "pad_to_multiple_of": "pad_to_multiple_of: 64",
        },
    ),
    "task": (
        Task,
        {
            "name": "name: gsm8k_train",
            "metric": "metric: exact_match,flexible-extract",
            "weight": "weight: 2",
            "limit": "limit: 200",
            "num_fewshot": "num_fewshot: 4",
            "samples": "samples: 200",
            "language": "language: ja",
        },
    ),
    "optimizer": (
        OptimizerBlock,
        {
            "name": "name: cma_es",
            "budget": "budget: 200",
            "population_size": "population_size: 12",
            "chain": "chain: [gradient, {name: cma_es, budget: 60}]",
            "islands": "islands: [tpe, {name: swarm, population_size: 10}]",
            "migrate_every": "migrate_every: 30",
            "start": "start: average",
            "seed_from": "seed_from: runs/first-try",
            "seed": "seed: 3",
            "patience": "patience: 40",
            "timeout": "timeout: 3600",
        },
    ),
    "evaluation": (
        EvaluationBlock,
        {
            "batch_size": "batch_size: 16",
            "device": "device: cuda:1",
            "dtype": "dtype: float32",
            "apply_chat_template": "apply_chat_template: true",
            "backend": "backend: transformers",
            "exactness": "exactness: reference",
            "fewshot_as_multiturn": "fewshot_as_multiturn: true",
            "system_instruction": "system_instruction: Answer briefly.",
            "gen_kwargs": "gen_kwargs: {max_gen_toks: 128}",
        },
    ),
    "execution": (
        Execution,
        {
            "executor": "executor: processes",
            "workers": "workers: 2",
            "trial_timeout": "trial_timeout: 600",
        },
    ),
}


def table(model: type[BaseModel], examples: dict[str, str]) -> Iterator[str]:
    """The rows of one block; fails where an example is missing or names no key."""
    if set(examples) != set(model.model_fields):
        raise SystemExit(f"{model.__name__}: examples and keys differ")
    yield "| key | type | default | meaning | example |"
    yield "|---|---|---|---|---|"
    for name, field in model.model_fields.items():
        meaning = (field.description or "").replace("|", "\\|")
        cells = (
            f"`{name}`",
            type_name(field.annotation),
            default(field),
            meaning,
            f"`{examples[name]}`",
        )
        yield f"| {' | '.join(cells)} |"


def spaces() -> Iterator[str]:
    """One row per merge space, and a table of the settings of each that has any."""
    yield "| name | what it is | merge method | keys of `genome:` that may stand beside it |"
    yield "|---|---|---|---|"
    for name in MERGE_SPACES:
        kind = MERGE_SPACES[name]
        keys = sorted(kind.reads - ({"merge_method"} if kind.merge_method else set()))
        method = f"`{kind.merge_method}`" if kind.merge_method else "the genome's"
        method = "none" if kind.mixes else method
        listed = "all" if kind.reads == SPACE_KEYS else ", ".join(f"`{key}`" for key in keys)
        yield f"| `{name}` | {MERGE_SPACES.summary(name)} | {method} | {listed} |"
    for name in MERGE_SPACES:
        yield from own_settings(name, MERGE_SPACES[name].Settings)


def executors() -> Iterator[str]:
    """One row per executor, and a table of the settings of each that has any."""
    yield "| name | where trials run |"
    yield "|---|---|"
    for name in EXECUTORS:
        yield f"| `{name}` | {EXECUTORS.summary(name)} |"
    by_settings: dict[type[BaseModel], list[str]] = {}
    for name in EXECUTORS:
        by_settings.setdefault(EXECUTORS[name].Settings, []).append(name)
    for settings, names in by_settings.items():
        yield from own_settings("` and `".join(names), settings)


def own_settings(name: str, settings: type[BaseModel]) -> Iterator[str]:
    """A table of what one name of a table reads beside the common keys, where that is anything."""
    fields = settings.model_fields
    if not fields:
        return
    yield from ("", f"Settings of `{name}`:", "", "| key | type | default | meaning |")
    yield "|---|---|---|---|"
    for key, field in fields.items():
        cells = (f"`{key}`", type_name(field.annotation), default(field))
        yield f"| {' | '.join(cells)} | {(field.description or '').replace('|', '/')} |"


def kinds() -> Iterator[str]:
    """The kinds of tasks, and the settings of each that has some."""
    yield "| key | what it is | reads |"
    yield "|---|---|---|"
    for name in EVALUATORS:
        common = (key for key in Task.model_fields if key in EVALUATORS[name].reads | {"weight"})
        reads = ", ".join(f"`{key}`" for key in common)
        yield f"| `{name}` | {EVALUATORS.summary(name)} | {reads} |"
    for name in EVALUATORS:
        own = EVALUATORS[name].Settings.model_fields
        if own:
            short = "list" if type_name(next(iter(own.values())).annotation) == "list" else "text"
            yield from ("", f"Under `{name}:`, or the first of these alone as a {short}:", "")
            yield from ("| key | type | default | meaning |", "|---|---|---|---|")
        for key, field in own.items():
            cells = (type_name(field.annotation), default(field), field.description or "")
            yield f"| `{key}` | {' | '.join(cells)} |"
        if EVALUATORS[name].measures:
            yield from ("", "| metric | better when | range | what it is |", "|---|---|---|---|")
        for measure in EVALUATORS[name].measures:
            better = "higher" if measure.higher_is_better else "lower"
            yield f"| `{measure.name}` | {better} | {measure.range_text} | {measure.what} |"


def remade(text: str) -> str:
    """The page with every table between its markers made anew."""
    for block, (model, examples) in BLOCKS.items():
        made = "\n".join(table(model, examples))
        text = between(text, f"<!-- table {block} -->\n", f"<!-- end {block} -->", made)
    text = between(text, "<!-- executors -->\n", "<!-- end executors -->", "\n".join(executors()))
    text = between(text, "<!-- spaces -->\n", "<!-- end spaces -->", "\n".join(spaces()))
    return between(text, "<!-- kinds -->\n", "<!-- end kinds -->", "\n".join(kinds()))


if __name__ == "__main__":
    write_or_check(PAGE, remade)
