"""What lm-eval's tasks say of themselves, before a model answers them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from evomerge.evaluators.lm_eval.blame import of_each
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf, TaskEntry
from evomerge.evaluators.task_facts import GroupFacts, PartFacts, TaskFacts

DOCUMENTS_COUNTED = 8  # whose options stand for those of all
DEFAULT_NEW_TOKENS = 256  # as generation has it where a task gives no max_gen_toks


def facts_of(entry: TaskEntry) -> TaskFacts:
    """The facts of one entry of the genome's tasks."""
    parts = tuple(part_facts(leaf) for leaf in entry.leaves)
    return TaskFacts(
        entry.key,
        entry.higher_is_better,
        parts,
        entry.is_pooled,
        entry.is_known,
        tuple(_groups(entry)),
    )


def _groups(entry: TaskEntry) -> Iterator[GroupFacts]:
    """The group of an entry, and those inside it, outer ones first."""
    if entry.group is None:
        return
    for group in (entry.group, *entry.group.get_all_groups()):
        rules = {rule.metric: rule.weight_by_size for rule in group.aggregate_metric_list or ()}
        yield GroupFacts(
            entry.key.task if group is entry.group else group.name,
            tuple(task.task_name for task in group.get_all_tasks()),
            bool(rules.get(entry.key.metric, True)),
        )


def part_facts(leaf: Leaf) -> PartFacts:
    """The facts of one task."""
    task = leaf.task
    n_available = len(task.eval_docs)
    n_documents = min(n_available, n_available if leaf.limit is None else leaf.limit)
    n_fewshot = int(task.config.num_fewshot or 0)
    generates = task.OUTPUT_TYPE == "generate_until"
    settings = task.config.generation_kwargs or {}
    return PartFacts(
        leaf.name,
        n_available,
        n_documents if leaf.samples is None else len(leaf.samples),
        float(task.config.repeats) if generates else _options(leaf),
        n_fewshot,
        n_fewshot > 0 and _fewshot_split(task) == _scored_split(task),
        int(settings.get("max_gen_toks", DEFAULT_NEW_TOKENS)) if generates else 0,
        generates and bool(settings.get("do_sample")),
    )


def _options(leaf: Leaf) -> float:
    """Options per document, over the first ones; twice where they are asked without question."""
    task = leaf.task
    if task.OUTPUT_TYPE != "multiple_choice":
        return 1.0
    documents = enumerate(islice(task.eval_docs, DOCUMENTS_COUNTED))
    counts = of_each(leaf.name, lambda document: len(task.doc_to_choice(document)), documents)
    times = 2 if "acc_mutual_info" in task.aggregation() else 1
    return times * sum(counts) / len(counts) if counts else 1.0


def _scored_split(task: Any) -> str | None:
    split: str | None = task.config.test_split or task.config.validation_split
    return split


def _fewshot_split(task: Any) -> str | None:
    """Where worked examples come from, by lm-eval's rule; None where the task lists them."""
    config, own = task.config, task.fewshot_cfg
    if own is not None and own.split is None and own.samples is not None:
        return None
    chosen = (own.split if own is not None else None) or config.fewshot_split
    split: str | None = chosen or config.training_split or config.validation_split
    return split or config.test_split
