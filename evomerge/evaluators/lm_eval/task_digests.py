"""What the scores of a task stand on, as a digest that tells whether two can be compared."""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import Any

from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf, TaskEntry
from evomerge.foundations.canonical import digest

# Where documents lie says nothing of what they are; they are read themselves.
_WHEREABOUTS = ("dataset_path", "dataset_name", "dataset_kwargs", "metadata")
_N_EXAMPLES_READ = 2_000  # worked examples may come from a training split of any size
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def identity_of(entry: TaskEntry) -> str:
    """Digest of an entry's documents, prompts' definition and metric."""
    return digest(
        _plain(
            {
                **_metric(entry),
                "leaves": [_leaf(leaf) for leaf in entry.leaves],
            }
        )
    )


def _metric(entry: TaskEntry) -> dict[str, Any]:
    """The metric as the YAML tells it; else what is asked for: results were perhaps not seen."""
    if entry.declared is None:
        return {"metric": f"{entry.key.task}/{entry.requested or ''}"}
    key, higher_is_better = entry.declared
    return {"metric": str(key), "higher_is_better": higher_is_better}


def _leaf(leaf: Leaf) -> dict[str, Any]:
    return {
        "name": leaf.name,
        "settings": {k: v for k, v in leaf.task.dump_config().items() if k not in _WHEREABOUTS},
        "documents": used_documents(leaf),
        "examples": _examples(leaf.task),
        **({} if leaf.language is None else {"language": leaf.language.gate.stands_on}),
    }


def used_documents(leaf: Leaf) -> list[Any]:
    """The documents that are scored, in order."""
    documents = leaf.task.eval_docs
    if leaf.samples is not None:
        return [documents[index] for index in leaf.samples]
    size = len(documents) if leaf.limit is None else min(leaf.limit, len(documents))
    return [documents[index] for index in range(size)]


def _examples(task: Any) -> list[Any]:
    """Documents that worked examples of the prompts are drawn from."""
    if not task.get_config("num_fewshot"):
        return []
    with_examples = islice(task.fewshot_docs() or (), _N_EXAMPLES_READ)
    return list(with_examples)


def _plain(value: Any) -> Any:
    """The value as JSON holds it; functions and objects as text without addresses."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return _ADDRESS.sub("", repr(value))
