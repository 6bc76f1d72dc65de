"""What tokenizer files say: vocabulary, added and special tokens, chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from evomerge.models.facts import TokenizerFacts

ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")
_FAST = "tokenizer.json"
_SLOW = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "vocab.json", "vocab.txt")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")

ReadJson = Callable[[str], dict[str, Any]]  # file name -> its object; empty where there is none
ReadBytes = Callable[[str], bytes]  # likewise


def read_tokenizer(
    files: Mapping[str, int], read_json: ReadJson, read_bytes: ReadBytes
) -> TokenizerFacts | None:
    """The tokenizer among some files; None where there is none.

    Args:
        files: Name -> bytes.
        read_json: Reads one of them as a JSON object.
        read_bytes: Reads one of them.

    Raises:
        OSError: a file cannot be read.
        ValueError: ``tokenizer.json`` is not one.
    """
    slow = [name for name in _SLOW if name in files]
    if _FAST not in files and not slow:
        return None
    settings = read_json("tokenizer_config.json")
    content = read_bytes(_FAST if _FAST in files else slow[0])
    vocabulary, added = _parsed(content) if _FAST in files else (_plain(slow, read_json), {})
    declared = {} if vocabulary is not None and _FAST in files else _declared(settings, read_json)
    added = {**added, **declared}
    if vocabulary is not None:
        vocabulary = {**vocabulary, **{text: index for index, text in declared.items()}}
    digest = hashlib.sha256(content)
    digest.update(repr(sorted(declared.items())).encode())
    return TokenizerFacts(
        settings=settings,
        vocabulary=vocabulary,
        digest=digest.hexdigest(),
        added=added,
        special=_special(settings, read_json("special_tokens_map.json")),
        chat_template=_template(files, settings, read_json, read_bytes),
        is_fast=_FAST in files,
        is_slow=bool(slow),
    )


def is_tokenizer_file(name: str) -> bool:
    """Whether a file of this name is a tokenizer."""
    return name in (_FAST, *_SLOW)


@lru_cache(maxsize=4)  # fine-tunes share the file of their base
def _parsed(content: bytes) -> tuple[dict[str, int], dict[int, str]]:
    """Vocabulary with added tokens, and the added tokens, of a ``tokenizer.json``."""
    try:
        file = json.loads(content)
        pieces = file["model"]["vocab"]
        if isinstance(pieces, dict):
            vocabulary = dict(pieces)
        else:  # Unigram: pairs of piece and score
            vocabulary = {piece: index for index, (piece, _) in enumerate(pieces)}
        added = {int(t["id"]): str(t["content"]) for t in file.get("added_tokens") or ()}
        if not all(isinstance(index, int) for index in vocabulary.values()):
            raise TypeError("an id is no number")
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"{_FAST} holds no vocabulary") from error
    vocabulary.update({text: index for index, text in added.items()})
    return vocabulary, added


def _plain(slow: list[str], read_json: ReadJson) -> dict[str, int] | None:
    vocabulary = read_json("vocab.json") if slow == ["vocab.json"] else {}
    is_plain = vocabulary and all(isinstance(index, int) for index in vocabulary.values())
    return vocabulary if is_plain else None


def _declared(settings: Mapping[str, Any], read_json: ReadJson) -> dict[int, str]:
    """Added tokens of a slow tokenizer, which stand in two files of two forms."""
    found = {}
    for text, index in read_json("added_tokens.json").items():
        if isinstance(index, int):
            found[index] = text
    decoder = settings.get("added_tokens_decoder")
    for index, token in (decoder if isinstance(decoder, dict) else {}).items():
        content = _text(token)
        if index.isdecimal() and content is not None:
            found[int(index)] = content
    return found


def _special(settings: Mapping[str, Any], special_map: Mapping[str, Any]) -> dict[str, str]:
    """tokenizer_config.json counts where both name a token, as transformers reads them."""
    found = {}
    for role in ROLES:
        text = _text(settings.get(role, special_map.get(role)))
        if text is not None:
            found[role] = text
    return found


def _text(token: Any) -> str | None:
    """A token is a text, or an object that has one."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _template(
    files: Mapping[str, int],
    settings: Mapping[str, Any],
    read_json: ReadJson,
    read_bytes: ReadBytes,
) -> str:
    """Digest of the chat template; a file of its own counts before the settings."""
    template = settings.get("chat_template")
    if _TEMPLATES[0] in files:
        template = read_bytes(_TEMPLATES[0]).decode(errors="replace")
    elif _TEMPLATES[1] in files:
        template = read_json(_TEMPLATES[1]).get("chat_template")
    if not template:
        return ""
    text = template if isinstance(template, str) else json.dumps(template)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
