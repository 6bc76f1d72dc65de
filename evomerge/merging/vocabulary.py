"""Whether models share one vocabulary, from their tokenizer files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit.common import ModelReference
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from evomerge.errors import ModelError
from evomerge.merging.sources import by_name, quiet_transformers

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class _Vocabulary:
    name: str
    ids: Mapping[str, int]
    special: Mapping[str, str | None]
    vocab_size: int


def tokenizers_differ(
    models: Sequence[str | dict[str, Any]], *, trust_remote_code: bool = False
) -> str:
    """One sentence on the first model whose vocabulary is not the first model's, or "".

    Compared are the vocabulary size in the configuration, every token's id, and which
    tokens begin, end, pad and stand for the unknown.

    Args:
        models: Folders or Hub ids, as a recipe names them.
        trust_remote_code: Whether models may bring their own code.

    Raises:
        ModelError: a model has no readable tokenizer.
    """
    (name, model), *others = by_name(models).items()
    first = _vocabulary(name, model, trust_remote_code)
    for name, model in others:
        difference = _difference(first, _vocabulary(name, model, trust_remote_code))
        if difference:
            return difference
    return ""


def load_tokenizer(
    model: str | dict[str, Any], *, name: str = "", trust_remote_code: bool = False
) -> tuple[PreTrainedTokenizerBase, PreTrainedConfig]:
    """A model's tokenizer and configuration.

    Raises:
        ModelError: it has no readable tokenizer.
    """
    try:
        reference = ModelReference.model_validate(model)
        with quiet_transformers():
            config = reference.config(trust_remote_code=trust_remote_code)
            tokenizer = AutoTokenizer.from_pretrained(
                reference.model.path,
                revision=reference.model.revision,
                trust_remote_code=trust_remote_code,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"no readable tokenizer ({' '.join(str(error).split())})",
            where=name or str(model),
            fix="Add tokenizer files, or name `tokenizer_source`.",
        ) from error
    return tokenizer, config


def _vocabulary(name: str, model: str | dict[str, Any], trust_remote_code: bool) -> _Vocabulary:
    tokenizer, config = load_tokenizer(model, name=name, trust_remote_code=trust_remote_code)
    special = {role: getattr(tokenizer, role, None) for role in _SPECIAL}
    return _Vocabulary(name, tokenizer.get_vocab(), special, config.get_text_config().vocab_size)


def _difference(first: _Vocabulary, other: _Vocabulary) -> str:
    if first.vocab_size != other.vocab_size:
        return (
            f"{other.name} has vocab_size {other.vocab_size}, {first.name} has {first.vocab_size}"
        )
    tokens = first.ids.keys() | other.ids.keys()
    changed = [token for token in tokens if first.ids.get(token) != other.ids.get(token)]
    if changed:
        token = min(changed, key=lambda t: (first.ids.get(t, other.ids.get(t, 0)), t))
        return (
            f"{len(changed)} tokens differ, first {token!r}: id {other.ids.get(token)} in"
            f" {other.name}, {first.ids.get(token)} in {first.name}"
        )
    for role, special in first.special.items():
        if special != other.special[role]:
            return f"{role} is {other.special[role]!r} in {other.name}, {special!r} in {first.name}"
    return ""
