"""What files show of a recipe's models before they are merged: each by itself, and side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.checks.rules import Rules, of_models
from evomerge.foundations.errors import EvomergeError, Problem
from evomerge.foundations.findings import Finding, Severity, problems
from evomerge.foundations.permissions import Permissions
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.merge_spaces import MERGE_SPACES
from evomerge.models.facts import ModelFacts
from evomerge.models.inspect import read_model
from evomerge.recipe.adapter_sum import bases_of
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import merged_in

_SHAPES = Rules("fitting_models:architectures", "fitting_models:depths", "fitting_models:widths")
_SHAPES_OF_LAYERS = Rules("fitting_models:architectures", "fitting_models:widths")
_TOKENS = Rules("token_ids:vocabularies")
_NONE = Permissions()
# Model, and whether nothing merges it -> what its files say, or what is wrong with them.
Known = dict[tuple[ModelName, bool], ModelFacts | list[Problem]]
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
    is_mixed = recipe.pool is not None

    def beside(names: Iterable[ModelName], rules: Rules) -> Iterator[Problem]:
        models = [name for name in dict.fromkeys(names) if name.text in by_name]
        if len(models) > 1:
            context = _context(models, [by_name[name.text] for name in models], is_mixed=is_mixed)
            for problem in _errors(one for rule in rules for one in rule(context)):
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


def _context(
    models: Sequence[ModelName],
    facts: Sequence[ModelFacts],
    permissions: Permissions = _NONE,
    *,
    is_mixed: bool,
) -> CheckContext:
    """What rules of the models of a genome look at, for models of which none is its base.

    Args:
        models: As the recipe names them.
        facts: What their files say; they are held against the first.
        permissions: What the user allows.
        is_mixed: Whether they answer as they are, and are not merged.
    """
    mixing = next(name for name in MERGE_SPACES if MERGE_SPACES[name].mixes)
    space = {"space": mixing} if is_mixed else {"merge_method": "linear"}
    block = {"models": [model.in_recipe for model in models], **space}
    genome = Genome.model_validate({"genome": block, "tasks": ["any"]})
    return CheckContext(genome, permissions, facts)


def _errors(findings: Iterable[Finding]) -> list[Problem]:
    return problems([*findings], Severity.ERROR)


def models_of(
    recipe: Recipe,
    permissions: Permissions,
    known: Known,
) -> tuple[list[ModelFacts], list[Problem]]:
    """The facts of its models, and what is wrong with each of them by itself."""
    facts: list[ModelFacts] = []
    wrong: list[Problem] = []
    whole = recipe.whole_models
    for model in bases_of(recipe).named:  # no folder holds a sum
        key = model, model in whole
        if key not in known:
            known[key] = _facts_of(model, permissions, is_whole=key[1])
        one = known[key]
        if isinstance(one, ModelFacts):
            facts.append(one)
        else:
            wrong += one
    return facts, wrong


def _facts_of(
    model: ModelName, permissions: Permissions, *, is_whole: bool
) -> ModelFacts | list[Problem]:
    try:
        facts = read_model(model, may_unpickle=model.text in permissions.pickle)
    except EvomergeError as error:
        return list(error.problems)
    # The rules of models alone look at the models of a genome; each of these has one of its own.
    context = _context([model], [facts], permissions, is_mixed=is_whole)
    return _errors(of_models(context)) or facts
