"""Digests of the documents of lm-eval tasks, and whether they are a public benchmark's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from lm_eval.api.samplers import FirstNSampler

from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf, TaskEntry
from evomerge.evaluators.lm_eval.task_digests import used_documents
from evomerge.evaluators.task_contents import TaskContents, digests_of
from evomerge.foundations.reading import is_there

_N_EXAMPLES_READ = 5_000  # worked examples may come from a training split of any size
# What `datasets` calls files; any other name is a data set of the Hub, or a folder.
_FILE_FORMATS = frozenset({"json", "csv", "text", "parquet", "arrow", "pandas", "xml"})


def contents_of(entries: Sequence[TaskEntry]) -> Iterator[TaskContents]:
    """The contents of every task, in order."""
    for entry in entries:
        for leaf in entry.leaves:
            digests = partial(document_digests, leaf.task)
            yield TaskContents(
                entry.key.task,
                leaf.name,
                tuple(map(digests, used_documents(leaf))),
                digests_of(map(digests, _examples(leaf))),
                _hides_own(leaf.task),
                benchmark_of(leaf.task.config),
            )


def document_digests(task: Any, document: Any) -> tuple[str, str]:
    """Of what a document asks a model, and of its row in the data.

    The first is the same for equal questions, options and answers as the task writes them,
    whatever the documents are numbered and however their blanks and capitals are; the second for
    equal data, whatever a task makes of them.
    """
    row = repr(sorted(document.items()) if isinstance(document, Mapping) else document)
    question = (" ".join(part.split()).casefold() for part in _question(task, document))
    return _digest("\x1f".join(question)), _digest(row)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _question(task: Any, document: Any) -> list[str]:
    """What a model reads and should answer; the document itself where the task is no template."""
    try:
        parts = [task.doc_to_text(document), task.doc_to_target(document)]
        if getattr(task.config, "doc_to_choice", None) is not None:
            parts.append(task.doc_to_choice(document))
    # Templates and functions of tasks; what is wrong is told by another rule.
    except (Exception, SystemExit):
        parts = []
    return [str(part) for part in parts] if any(parts) else [repr(document)]


def benchmark_of(config: Any) -> str:
    """``test of openai/gsm8k`` where documents are a public set's, not of its training split."""
    path = str(config.dataset_path or "")
    split = str(config.test_split or config.validation_split or "")
    is_public = path not in _FILE_FORMATS and not is_there(path)
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
