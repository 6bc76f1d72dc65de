"""Digests of the documents of lm-eval tasks, and whether they are a public benchmark's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lm_eval.api.samplers import FirstNSampler
from lm_eval.tasks import TaskManager

from evomerge.evaluators.contents import TaskContents
from evomerge.evaluators.lm_eval.identity import used_documents
from evomerge.evaluators.lm_eval.tasks import Entry, Leaf

# Two documents are the same question whatever they are numbered.
_NUMBERS = frozenset(
    {"id", "_id", "idx", "index", "ind", "uid", "uuid", "guid", "qid", "doc_id", "question_id"}
)
_N_EXAMPLES_READ = 20_000  # worked examples may come from a training split of any size
# What `datasets` calls files; any other name is a data set of the Hub, or a folder.
_FILE_FORMATS = frozenset({"json", "csv", "text", "parquet", "arrow", "pandas", "xml"})


def contents_of(entries: Sequence[Entry], search_path: Sequence[str]) -> Iterator[TaskContents]:
    """The contents of every task, in order.

    Args:
        entries: The tasks, built.
        search_path: Folders with task YAML of the user's.
    """
    own = TaskManager(include_path=list(search_path), include_defaults=False).task_index
    for entry in entries:
        for leaf in entry.leaves:
            is_own = leaf.task.config.task in own or Path(entry.key.task).is_file()
            yield TaskContents(
                entry.key.task,
                leaf.name,
                tuple(map(document_digest, used_documents(leaf))),
                frozenset(map(document_digest, _examples(leaf))),
                _hides_own(leaf.task),
                "" if is_own else benchmark_of(leaf.task.config),
            )


def document_digest(document: Any) -> str:
    """The same for documents that differ only in what they are numbered."""
    content = document
    if isinstance(document, Mapping):
        told = {key: value for key, value in document.items() if key not in _NUMBERS}
        content = sorted((told or document).items())
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


def benchmark_of(config: Any) -> str:
    """``test of openai/gsm8k`` where documents are a public set's, not of its training split."""
    path = str(config.dataset_path or "")
    split = str(config.test_split or config.validation_split or "")
    is_public = path not in _FILE_FORMATS and not Path(path).exists()
    is_training = "train" in split or str(config.task).endswith("_train")
    return f"{split} of {path}" if path and split and is_public and not is_training else ""


def _examples(leaf: Leaf) -> Iterator[Any]:
    """Documents that may be worked examples in a prompt."""
    n_examples = leaf.task.get_config("num_fewshot") or 0
    if not n_examples:
        return iter(())
    takes_first = isinstance(getattr(leaf.task, "sampler", None), FirstNSampler)
    return islice(leaf.task.fewshot_docs() or (), n_examples if takes_first else _N_EXAMPLES_READ)


def _hides_own(task: Any) -> bool:
    """lm-eval leaves a document out of its own examples where both splits are one by name.

    Tasks written in Python, which have no such settings, always leave it out.
    """
    settings = getattr(task, "fewshot_cfg", None)
    return settings is None or bool(settings.split == task.config.test_split)
