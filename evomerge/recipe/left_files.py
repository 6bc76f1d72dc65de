"""Files beside the weights that mergekit does not copy, without which a model cannot see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.recipe.plain import Recipe

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
    last = recipe.documents[-1] if recipe.documents and recipe.is_stage else {}
    named = last.get("base_model")
    donor = ModelName.model_validate(named) if named else next(iter(recipe.models), None)
    has_own_tokens = bool(last.get("tokenizer") or last.get("tokenizer_source"))
    for model in models:
        if not last or ModelName.model_validate(model.reference) != donor:
            continue
        family = family_of(model)
        if family is None or not family.parts:
            continue
        copied = {*family.copied, *(() if has_own_tokens else (_WITH_THE_TOKENIZER,))}
        left = tuple(name for name in _OF_SIGHT if name in model.files and name not in copied)
        if left:
            yield LeftFiles(model.name, model.key, left)
