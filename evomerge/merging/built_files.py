"""What surrounds the weights in a built folder: configuration, tokenizer, generation settings.

mergekit's own functions write them into a temporary folder, once per recipe structure;
transformers reads them back. So they are what a user of the built folder would get.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit.merge import (
    _copy_tagalong_files,
    _copy_tokenizer,
    _set_chat_template,
    _update_config_vocab,
)
from mergekit.options import MergeOptions
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.errors import ModelError
from evomerge.foundations.reading import is_file, listed, read_bytes, read_text
from evomerge.foundations.scratch import scratch
from evomerge.merging.structure import Structure

_MODEL_FILES = ("config.json", "generation_config.json")
# These say where a file came from, never what a model does.
_ORIGIN_KEYS = ("_name_or_path", "name_or_path", "transformers_version")


@dataclass(frozen=True)
class BuiltFolder:
    """The built folder without its weights.

    Attributes:
        config: As transformers reads it back.
        generation: As a loaded model would have it.
        tokenizer: As transformers reads it back.
    """

    config: PreTrainedConfig
    generation: GenerationConfig
    tokenizer: PreTrainedTokenizerBase

    @property
    def config_text(self) -> str:
        """Equal for configurations that make equal models."""
        return canonical_json(_without_origin(json.loads(self.config.to_json_string(False))))


Tokenizers = dict[tuple[tuple[str, str], ...], PreTrainedTokenizerBase]  # names, contents of files


class Outputs:
    """Reads outputs and keeps tokenizers, so that equal ones are one object.

    Args:
        options: mergekit's.
        tokenizers: Those read so far; None: none.
    """

    def __init__(self, options: MergeOptions, tokenizers: Tokenizers | None = None) -> None:
        self._options = options
        self._tokenizers: Tokenizers = {} if tokenizers is None else tokenizers

    def of(self, structure: Structure) -> BuiltFolder:
        """What ``mergekit-yaml`` would write beside the weights.

        Raises:
            ModelError: the model that gives the tokenizer has none.
        """
        with scratch() as folder:
            self.write(structure, folder)
            return BuiltFolder(
                config=AutoConfig.from_pretrained(
                    folder, trust_remote_code=self._options.trust_remote_code
                ),
                generation=generation_of(folder),
                tokenizer=self._tokenizer(folder, structure),
            )

    def write(self, structure: Structure, folder: Path) -> None:
        """Writes what ``mergekit-yaml`` would write beside the weights."""
        config = structure.config
        if structure.tokenizer is not None:
            tokenizer = structure.tokenizer.tokenizer
            padding = config.tokenizer.pad_to_multiple_of if config.tokenizer else None
            _update_config_vocab(
                structure.out_config, structure.architecture, tokenizer, pad_to_multiple_of=padding
            )
            _set_chat_template(tokenizer, config)
            tokenizer.save_pretrained(folder)
        else:
            _copy_tokenizer(config, str(folder), options=self._options)
        structure.out_config.save_pretrained(folder)
        tagalong = structure.architecture.tagalong_files or []
        _copy_tagalong_files(config, str(folder), files=tagalong, options=self._options)

    def _tokenizer(self, folder: Path, structure: Structure) -> PreTrainedTokenizerBase:
        key = tuple(
            (path.name, _content(path)) for path in listed(folder) if path.name not in _MODEL_FILES
        )
        if not key:
            donor = structure.config.referenced_models()[0]
            raise ModelError(
                "no tokenizer files", where=str(donor), fix="Name a model that has a tokenizer."
            )
        if key not in self._tokenizers:
            self._tokenizers[key] = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=self._options.trust_remote_code
            )
        return self._tokenizers[key]


def generation_of(folder: Path) -> GenerationConfig:
    """As ``from_pretrained`` finds it: its own file, else the old fields of the config."""
    if is_file(folder / "generation_config.json"):
        return GenerationConfig.from_pretrained(folder)
    return GenerationConfig.from_pretrained(
        folder, config_file_name="config.json", _from_model_config=True
    )


def _content(path: Path) -> str:
    """The file's text; for JSON without what says only where it came from."""
    if path.suffix != ".json":
        return read_bytes(path).hex()
    return canonical_json(_without_origin(json.loads(read_text(path))))


def _without_origin(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {key: value for key, value in content.items() if key not in _ORIGIN_KEYS}
