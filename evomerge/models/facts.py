"""The facts of one model that its small files show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WEIGHT_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NO_WEIGHTS = ("training_args.bin", "optimizer", "scheduler", "rng_state")  # pickles beside them


@dataclass(frozen=True)
class TensorFacts:
    """One tensor, as a safetensors header has it.

    Attributes:
        shape: Its shape.
        dtype: Its dtype as the header writes it, e.g. ``"BF16"``.
        n_bytes: Its size.
        file: The file it is in.
        offset: First byte of its values in that file.
    """

    shape: tuple[int, ...]
    dtype: str
    n_bytes: int
    file: str = ""
    offset: int = 0


@dataclass(frozen=True)
class TokenizerFacts:
    """One tokenizer.

    Attributes:
        settings: Content of ``tokenizer_config.json``.
        vocabulary: Token -> id, added tokens among them; None where only a SentencePiece or
            another file holds it that is not read here.
        digest: Of what decides the vocabulary; equal digests, equal vocabularies.
        added: Id -> text of the tokens that were added to a trained vocabulary.
        special: Role, e.g. ``"eos_token"`` -> text.
        chat_template: Digest of the template; "" where there is none.
        is_fast: Whether it has ``tokenizer.json``.
        is_slow: Whether it has the file of a slow tokenizer, e.g. ``tokenizer.model``.
    """

    settings: Mapping[str, Any]
    vocabulary: Mapping[str, int] | None = field(repr=False)
    digest: str
    added: Mapping[int, str]
    special: Mapping[str, str]
    chat_template: str
    is_fast: bool
    is_slow: bool


@dataclass(frozen=True)
class FileFacts:
    """What a folder or repository holds.

    Attributes:
        folder: Where its files are, in the Hub's cache too; None where they are on the Hub only.
        files: File name -> bytes.
        tensors: Tensor name -> facts.
        missing: Weight files that the index names and that are not there.
        broken: File name -> why it cannot be read.
    """

    folder: Path | None = None
    files: Mapping[str, int] = field(default_factory=dict)
    tensors: Mapping[str, TensorFacts] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def pickles(self) -> tuple[str, ...]:
        """Weight files that can run code when they are read."""
        names = (name for name in self.files if name.endswith(_PICKLES))
        return tuple(sorted(name for name in names if not name.startswith(_NO_WEIGHTS)))

    @property
    def has_safetensors(self) -> bool:
        """Whether it has, or should have, weights that are only data."""
        return WEIGHT_INDEX in self.files or any(n.endswith(".safetensors") for n in self.files)


@dataclass(frozen=True)
class AdapterFacts(FileFacts):
    """A LoRA adapter that is folded into a model.

    Attributes:
        name: As the genome names it.
        config: Content of ``adapter_config.json``.
    """

    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFacts(FileFacts):
    """One model.

    Attributes:
        name: As the genome names it.
        reference: As a recipe names it.
        key: Where it stands in the genome: ``"genome.models[1]"``, ``"genome.base_model"``.
        config: Content of ``config.json``.
        generation: Content of ``generation_config.json``.
        tokenizer: None where it has no tokenizer files.
        adapter: What stands behind ``+`` in its name.
        card: The header of its ``README.md``.
        like: Where it is yet to be made: the model, as a recipe names it, whose facts these are.
    """

    name: str = ""
    reference: str | dict[str, Any] = ""
    key: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: TokenizerFacts | None = None
    adapter: AdapterFacts | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    like: str | dict[str, Any] | None = None

    @property
    def is_foreseen(self) -> bool:
        """Whether it is yet to be made."""
        return self.like is not None

    @property
    def is_on_hub(self) -> bool:
        """Whether its files are on the Hub and not on this machine."""
        return self.folder is None and not self.is_foreseen

    @property
    def architecture(self) -> str:
        """Class name, by the configuration; "" where it names none or several."""
        names = self.config.get("architectures")
        is_one = isinstance(names, list) and len(names) == 1 and isinstance(names[0], str)
        return names[0] if is_one and isinstance(names, list) else ""

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The configuration of the language model, also inside one with other parts."""
        inner = self.config.get("text_config")
        return inner if isinstance(inner, dict) else self.config

    def configured(self, key: str) -> Any:
        """A value of the configuration; dots lead into it; None where it says nothing."""
        found: Any = self.config
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found
