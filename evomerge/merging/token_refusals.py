"""Why mergekit would end a merge at its tokens: its own alignment, run on rows of one number.

Headers say how many rows a model has; what is in them decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace

import torch
from mergekit.common import ImmutableMap, ModelReference
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import GatherTensors
from mergekit.tokenizer import BuildTokenizer, PermutedVocabulary, TokenizerInfo
from pydantic import ValidationError

from evomerge.foundations.counted import counted
from evomerge.merging.sources import build_tokenizer
from evomerge.merging.structure import Configuration
from evomerge.models.facts import ModelFacts
from evomerge.models.quiet import quiet_transformers
from evomerge.models.vocabulary import FAILURES
from evomerge.models.vocabulary_rows import vocabulary_rows
from evomerge.recipe.base import Document

_SHOWN = 3  # tokens named in a message


def token_refusals(
    document: Document, models: Sequence[ModelFacts], *, trust_remote_code: bool = False
) -> list[str]:
    """What keeps every merge of a document from its tokens; empty where nothing does.

    Args:
        document: As mergekit reads it; of one that it does not, other rules tell.
        models: Those that it merges, with their files; where one is missing nothing is said.
        trust_remote_code: Whether models may bring their own code.
    """
    try:
        config = Configuration.model_validate(dict(document))
    except ValidationError:
        return []
    facts = {ModelReference.model_validate(one.reference): one for one in models}
    referenced = config.referenced_models()
    if any(model not in facts or facts[model].folder is None for model in referenced):
        return []
    source = config.tokenizer.source if config.tokenizer else config.tokenizer_source
    if source is None:
        return []
    task = BuildTokenizer(
        base_model=config.base_model,
        referenced_models=tuple(referenced),
        tokenizer_source=source,
        trust_remote_code=trust_remote_code,
        add_tokens=tuple(_tokens(config)),
    )
    try:
        with quiet_transformers():
            tokenizer = build_tokenizer(task)
    except FAILURES as error:
        return [f"it cannot make the tokenizer: {_words(error)}"]
    of_weights = vocabulary_rows([facts[model] for model in referenced])
    found: dict[str, None] = {}
    for rows in of_weights.values():
        own = {model: rows[facts[model].name] for model in referenced if facts[model].name in rows}
        found |= dict.fromkeys(_of_weight(config, task, tokenizer, own))
    return list(found)


def _tokens(config: MergeConfiguration) -> Mapping[str, object]:
    return (config.tokenizer and config.tokenizer.tokens) or {}


def _of_weight(
    config: MergeConfiguration,
    task: BuildTokenizer,
    made: TokenizerInfo,
    rows: Mapping[ModelReference, int],
) -> Iterator[str]:
    """What keeps the rows of one tensor from being aligned.

    Args:
        config: What is merged.
        task: What makes the tokenizer.
        made: By it.
        rows: Of each model that has the tensor.
    """
    lacking = [*_without_rows(made, rows)]
    yield from lacking
    if lacking:  # mergekit ends there
        return
    vocabulary = made.tokenizer.get_vocab()
    tensors = {model: torch.zeros(n_rows, 1) for model, n_rows in rows.items()}
    for token in _tokens(config):
        alignment = PermutedVocabulary(
            gather_tensors=GatherTensors(weight_info=ImmutableMap(data={})),
            tokenizer_task=task,
            tokens=ImmutableMap(data={token: _tokens(config)[token]}),
            pad_to_multiple_of=None,
            base_model=config.base_model,
            vocabulary_axis=0,
        )
        try:
            alignment.execute(_of_token(token, vocabulary[token], made), tensors)
        # What mergekit's alignment ends with; of anything else the fault is not the recipe's.
        except (AssertionError, LookupError, NotImplementedError, ValueError) as error:
            yield f"token {token!r}: {_words(error)}"


def _without_rows(made: TokenizerInfo, rows: Mapping[ModelReference, int]) -> Iterator[str]:
    """Models whose tokenizer has tokens of the result beyond the rows of their embeddings."""
    vocabulary = made.tokenizer.get_vocab()
    for model, n_rows in rows.items():
        places = made.permutations[model]
        own = made.original_vocabs.get(model, {})
        lacking = [
            f"{token!r} (id {own.get(token, places.get(index))})"
            for token, index in sorted(vocabulary.items(), key=lambda pair: pair[1])
            if places.get(index, n_rows) >= n_rows
        ]
        if lacking:
            more = ", ..." if len(lacking) > _SHOWN else ""
            yield (
                f"{model} has {n_rows} rows and none for {counted(len(lacking), 'token')} of its "
                f"tokenizer: {', '.join(lacking[:_SHOWN])}{more}"
            )


def _of_token(token: str, index: int, made: TokenizerInfo) -> SimpleNamespace:
    """What was made, as if the result had one token: all others cost time and change nothing."""
    return SimpleNamespace(
        tokenizer=SimpleNamespace(get_vocab=lambda: {token: 0}),
        permutations={model: {0: places[index]} for model, places in made.permutations.items()},
        original_vocabs=made.original_vocabs,
    )


def _words(error: Exception) -> str:
    """What mergekit says; where that is a block of the recipe, what it lacks."""
    if isinstance(error, NotImplementedError):  # it says no more than the block itself
        return "its rows have no source; name a model, {kind: zero} or {kind: model_token}"
    return " ".join(str(error).split()) or type(error).__name__
