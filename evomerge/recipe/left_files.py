"""Files beside the weights that mergekit does not copy, without which a model cannot see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.recipe.base import Document
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import merged_in

_OF_SIGHT = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
_WITH_THE_TOKENIZER = "video_preprocessor_config.json"  # where mergekit makes none of its own


@dataclass(frozen=True)
class LeftFiles:
    """What one model has and a merge of it has not.

    Attributes:
        model: As its user names it.
        key: Where it stands in the genome.
        names: Of the files.
    """

    model: str
    key: str
    names: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What to know of them."""
        listed = " and ".join(self.names)
        return f"mergekit copies no {listed} of {self.model}: what it builds reads no images"


def left_files_of(recipe: Recipe, models: Iterable[ModelFacts]) -> Iterator[LeftFiles]:
    """What a recipe's build lacks of the model that gives it its configuration; often nothing.

    Args:
        recipe: Of a kind whose model holds all that its merges make.
        models: Its sources.
    """
    if not recipe.is_stage or not recipe.documents:
        return
    made = dict(zip(recipe.made, recipe.documents, strict=False))  # the last may have no name
    document = recipe.documents[-1]
    donor, copies_all = _donor(document), _copies_tokens(document)
    while donor is not None and donor.path in made:  # which has what its own donor gave it
        document = made.pop(donor.path)
        donor, copies_all = _donor(document), copies_all and _copies_tokens(document)
    for model in models:
        if ModelName.model_validate(model.reference) != donor:
            continue
        family = family_of(model)
        if family is None or not family.parts:
            continue
        copied = {*family.copied, *((_WITH_THE_TOKENIZER,) if copies_all else ())}
        left = tuple(name for name in _OF_SIGHT if name in model.files and name not in copied)
        if left:
            yield LeftFiles(model.name, model.key, left)


def _donor(document: Document) -> ModelName | None:
    """The model that gives a merge its configuration; None where what stands there is no name."""
    named = document.get("base_model")
    if not named:
        return next(iter(merged_in(document)), None)
    try:
        return ModelName.model_validate(named)
    except ValidationError:  # of a stranger's file, which mergekit refuses
        return None


def _copies_tokens(document: Document) -> bool:
    """Whether the tokenizer and what lies with it are the donor's files; else they are written."""
    return not any(document.get(key) for key in ("tokenizer", "tokenizer_source", "chat_template"))
