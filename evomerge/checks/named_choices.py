"""Whether there is what a genome chooses by name: a tokenizer, a chat template."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from evomerge.checks.context import CheckContext
from evomerge.checks.token_ids import chosen_tokenizer
from evomerge.foundations.errors import ModelError, nearest, why
from evomerge.foundations.findings import Finding, error
from evomerge.genome.model_names import ModelName
from evomerge.models.chat_templates import is_template, template_names
from evomerge.models.repository import open_repository
from evomerge.models.tokenizer import is_tokenizer_file
from evomerge.recipe.file import stands_for_recipe

_WORDS = ("union", "base")
_RECIPE = "it is a recipe, which is built where it is merged, too"


def tokenizer_is_there(context: CheckContext) -> Iterator[Finding]:
    """A tokenizer that is neither one of mergekit's words nor a model that can be read."""
    chosen, definition = chosen_tokenizer(context), context.genome.genome
    own = [source.model for source in definition.models]
    names = [model.text for model in (*own, definition.base_model) if model is not None]
    if not chosen or chosen in (*_WORDS, *names):
        return
    lack, fix = (
        _lack_of_tokenizer(chosen),
        "Name one of these, or a folder or Hub id that is there.",
    )
    if lack == _RECIPE:
        fix = "Have it among genome.models, or name the model whose tokenizer it has."
    if lack:
        is_block = definition.tokenizer is not None
        yield error(
            f"got {chosen!r}, expected union, base, or a model with a tokenizer"
            f"{nearest(chosen, _WORDS) or f' ({lack})'}",
            "genome.tokenizer.source" if is_block else "genome.tokenizer_source",
            fix,
        )


def _lack_of_tokenizer(chosen: str) -> str:
    """Why a model gives no tokenizer; empty where it does."""
    try:
        name = ModelName.model_validate(chosen)
        if stands_for_recipe(name):
            return _RECIPE
        files = open_repository(name.path, name.revision).files
    except ModelError as problem:
        return problem.problems[0].what
    except ValidationError:
        return "no name of a model"
    except OSError as problem:
        return why(problem)
    return "" if any(map(is_tokenizer_file, files)) else "it has no tokenizer files"


def chat_template_is_known(context: CheckContext) -> Iterator[Finding]:
    """A chat template at which mergekit would end every merge."""
    chosen = context.genome.genome.chat_template
    if chosen is None or is_template(chosen):
        return
    names = ("auto", *template_names())
    yield error(
        f"got {chosen!r}, expected {', '.join(names)} or a Jinja text{nearest(chosen, names)}",
        "genome.chat_template",
        "Name one of these, or write the template itself.",
    )
