"""Texts that a source is the teacher of: from JSON lines, a task's documents, a Hub data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from evomerge.foundations.errors import GenomeError, MissingExtraError, told
from evomerge.optimizers.gradient.gradient_settings import Prompts
from evomerge.optimizers.gradient.prompt_rows import rows_of, text_of
from evomerge.training.passes import Text


def texts_of(
    prompts: Iterable[Prompts],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    documents: Mapping[str, Sequence[Text]],
) -> list[Text]:
    """The texts of one source.

    Args:
        prompts: Where they are.
        tokenizer: Reads them.
        max_length: Tokens of a text that are read.
        documents: Task -> its documents with their answers.

    Raises:
        GenomeError: a file, a task or a data set cannot be read.
    """
    found: list[Text] = []
    for one in prompts:
        if one.task is not None:
            own = documents.get(one.task)
            if not own:
                raise GenomeError(
                    f"no answers of a search task {one.task!r}", where="optimizer.prompts"
                )
            found += [Text(text.tokens[:max_length]) for text in islice(own, one.limit)]
            continue
        rows = rows_of(Path(one.file)) if one.file is not None else _of_dataset(one)
        place = str(one.file or one.dataset)
        for row in islice(rows, one.limit):
            text = text_of(row, one.column, place)
            tokens = tuple(tokenizer(text, truncation=True, max_length=max_length).input_ids)
            if len(tokens) > 1:
                found.append(Text(tokens))
    if not found:
        raise GenomeError(
            "the prompts are empty, expected texts of two tokens or more",
            where="optimizer.prompts",
            fix="Name another file, task or data set.",
        )
    return found


def _of_dataset(prompts: Prompts) -> Iterator[Mapping[str, Any]]:
    try:
        import datasets  # as heavy as it is rarely needed
    except ImportError as error:
        raise MissingExtraError("prompts of a data set need the package datasets") from error
    try:
        yield from datasets.load_dataset(prompts.dataset, split=prompts.split, streaming=True)
    # The Hub, the network, the split, the format: anything may be missing.
    except Exception as error:
        raise GenomeError(
            f"the data set {prompts.dataset} cannot be read ({told(error)})",
            where="optimizer.prompts",
            fix="Save its texts as JSON lines and name that file.",
        ) from error
