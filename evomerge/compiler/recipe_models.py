"""What files show of a recipe's models before they are merged: each by itself, and side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.checks.rules import MODEL_RULES, Rules
from evomerge.foundations.errors import EvomergeError, Problem
from evomerge.foundations.findings import Severity, problems
from evomerge.foundations.permissions import Permissions
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.models.facts import ModelFacts
from evomerge.models.inspect import read_model
from evomerge.recipe.adapter_sum import bases_of
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import merged_in

_SHAPES = Rules("fitting_models:architectures", "fitting_models:depths", "fitting_models:widths")
_SHAPES_OF_LAYERS = Rules("fitting_models:architectures", "fitting_models:widths")
_TOKENS = Rules("token_ids:vocabularies")
_NONE = Permissions()
_TOKENIZER = ("tokenizer_source", "tokenizer")
_ONE_TOKENIZER = "Take models with one tokenizer; a merge may set tokenizer_source: union instead."


def misfits(where: str, recipe: Recipe, facts: Sequence[ModelFacts]) -> list[Problem]:
    """What keeps models out of one recipe, by the rules of a search.

    What a merge inside it makes is not known yet, and not compared.

    Args:
        where: What the recipe is called.
        recipe: What merges or mixes them.
        facts: Of its models, all of which are sound by themselves.
    """
    by_name = {one.name: one for one in facts}

    def beside(names: Iterable[ModelName], rules: Rules) -> Iterator[Problem]:
        models = [name for name in dict.fromkeys(names) if name.text in by_name]
        if len(models) > 1:
            for problem in _broken(models, [by_name[name.text] for name in models], rules):
                fix = _ONE_TOKENIZER if rules is _TOKENS else problem.fix
                yield Problem(problem.what, where, fix)

    found: list[Problem] = []
    for document in recipe.documents:
        # A recipe of slices may take them from models of several depths.
        rules = _SHAPES_OF_LAYERS if document.get("slices") else _SHAPES
        found += beside(_base_first(document), rules)
    if not any(document.get(key) for document in recipe.documents for key in _TOKENIZER):
        found += beside(recipe.models, _TOKENS)
    return list(dict.fromkeys(found))


def _base_first(document: Any) -> list[ModelName]:
    return [*merged_in({"base_model": document.get("base_model")}), *merged_in(document)]


def _broken(
    models: Sequence[ModelName],
    facts: Sequence[ModelFacts],
    rules: Rules,
    permissions: Permissions = _NONE,
) -> list[Problem]:
    """What rules of the models of a genome find wrong with these, held against the first."""
    block = {"models": [model.in_recipe for model in models], "merge_method": "linear"}
    genome = Genome.model_validate({"genome": block, "tasks": ["any"]})
    context = CheckContext(genome, permissions, facts)
    return problems([one for rule in rules for one in rule(context)], Severity.ERROR)


def models_of(
    recipe: Recipe,
    permissions: Permissions,
    known: dict[ModelName, ModelFacts | list[Problem]],
) -> tuple[list[ModelFacts], list[Problem]]:
    """The facts of its models, and what is wrong with each of them by itself."""
    facts: list[ModelFacts] = []
    wrong: list[Problem] = []
    for model in bases_of(recipe).named:  # no folder holds a sum
        if model not in known:
            known[model] = _facts_of(model, permissions)
        one = known[model]
        if isinstance(one, ModelFacts):
            facts.append(one)
        else:
            wrong += one
    return facts, wrong


def _facts_of(model: ModelName, permissions: Permissions) -> ModelFacts | list[Problem]:
    try:
        facts = read_model(model, may_unpickle=model.text in permissions.pickle)
    except EvomergeError as error:
        return list(error.problems)
    # The rules of models alone look at the models of a genome; each of these has one of its own.
    return _broken([model], [facts], MODEL_RULES, permissions) or facts
