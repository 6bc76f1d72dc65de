"""A model with the tokens of another one, as ``mergekit-tokensurgeon`` makes it.

Rows of tokens that both have stay, all others are made of the model's own rows. mergekit's command
reads no file; this is one that says the same::

    transplant:
      model: org/one                # whose weights; or a merge before, by its name
      tokenizer_source: org/other   # whose tokenizer
      approximation_method: omp     # further keys are the command's options, by their names
      k: 64

Goddard and Fernandes Neto (2025), https://arxiv.org/abs/2506.06607, describe ``omp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from evomerge.foundations.errors import GenomeError
from evomerge.genome.block import Number, Whole
from evomerge.genome.model_names import ModelName
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.base import Command, Document, Hear, Use
from evomerge.recipe.on_merges import OnMerges

Method = Literal[
    "common_interpolation",
    "john_hewitt",
    "landmark_pca",
    "mean",
    "mp_rope",
    "omp",
    "randn",
    "stb",
    "subword",
    "zero",
]
DRAWN = ("john_hewitt", "landmark_pca", "randn")  # its bases begin at random ones
_RESERVED = ("base", "union")  # what else a tokenizer_source may be; a folder is ./base
Match = Literal["lm_head", "embed", "yes", "no"]


class _Options(BaseModel):
    """What the file says; absent options are the command's own defaults."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName
    tokenizer_source: ModelName
    approximation_method: Method | None = None
    k: Annotated[Whole, Field(ge=1)] | None = None
    cosine_similarity: StrictBool | None = None
    weight_scheme: Literal["distance_proportional", "barycentric", "least_squares"] | None = None
    subword_method: Literal["mean", "sum", "weighted_mean", "first_last"] | None = None
    batch_size: Annotated[Whole, Field(ge=-1)] | None = None
    prefix_match: Match | None = None
    byte_match: Match | None = None
    magikarp: StrictBool | None = None
    new_vocab_noise: Number | None = None
    new_vocab_scale: Number | None = None


class Transplant(OnMerges):
    """One model or merge, and the model whose tokens it gets."""

    key = "transplant"
    program = "mergekit-tokensurgeon"
    runs_code = True  # of both models' tokenizers, whatever --trust-remote-code says
    unadapted = "a model with other tokens has rows that no adapter of its base makes"

    @classmethod
    def takes(cls, documents: Sequence[YamlFile]) -> bool:
        """It stands in the last document."""
        data = documents[-1].data
        return isinstance(data, dict) and cls.key in data

    @classmethod
    def said(cls, document: YamlFile, hear: Hear) -> dict[str, Any]:
        """See :meth:`OnMerges.said`."""
        found = document.data[cls.key]
        if not isinstance(found, dict) or len(document.data) > 1:
            raise GenomeError(
                f"{cls.key} stands alone in its document and holds keys, got {document.data!r}",
                where=document.where((cls.key,)),
                fix="Write model: and tokenizer_source: under it.",
            )
        return found

    @classmethod
    def flaws(cls, last: Mapping[str, Any]) -> Iterator[str]:
        """See :meth:`OnMerges.flaws`."""
        try:
            said = _Options.model_validate(last)
            for name in (said.model, said.tokenizer_source):
                is_plain = name.text == name.in_recipe and name.lora is None
                if not is_plain or name.text[0] == "-" or name.text in _RESERVED:
                    yield f"{name} is no plain name of a model, which is all that a command takes"
        except ValidationError as error:
            for one in error.errors(include_url=False):
                path = ".".join(map(str, one["loc"]))
                yield f"{path}: {one['msg'].removeprefix('Value error, ')}, got {one['input']!r}"

    @classmethod
    def written(cls, last: Mapping[str, Any]) -> Document:
        """See :meth:`OnMerges.written`."""
        return {cls.key: last}

    @classmethod
    def commands(
        cls, config: Mapping[str, Any], files: Sequence[str], out: str, stages: str
    ) -> tuple[Command, ...]:
        """The merges, where there are some, then the transplant."""
        given = dict(cls.placed(config, stages))
        models = [str(given.pop(key)) for key in ("model", "tokenizer_source")]
        options = [text for key, value in given.items() for text in _option(key, value)]
        arguments = (*models, out, *options)
        surgery = Command(cls.program, "mergekit.scripts.tokensurgeon", arguments)
        return (*cls.built_before(files, stages), surgery)

    @classmethod
    def uses(cls, config: Mapping[str, Any]) -> tuple[Use, ...]:
        """The model that keeps its weights; the other one gives tokens alone."""
        model = config[cls.key]["model"]
        return (Use({"merge_method": "passthrough", "models": [{"model": model}]}),)

    @classmethod
    def drawn(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Rows of tokens that the model did not have, by some methods."""
        last = config[cls.key]
        is_drawn = last.get("approximation_method") in DRAWN
        return ("rows of new tokens",) if is_drawn or last.get("new_vocab_noise") else ()


def _option(key: str, value: Any) -> list[str]:
    """An option of the command as it is typed."""
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [] if value is None else [f"--{name}", str(value)]
