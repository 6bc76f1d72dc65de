"""Where the tensors of the models go, as far as the merge space decides it."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.checks.extremes import extreme_points
from evomerge.foundations.findings import Finding, note, warning
from evomerge.recipe.accounting import accounts_of, possible_accounts, reading_key
from evomerge.recipe.left_files import left_files_of
from evomerge.recipe.tensor_account import TensorAccount


def accounted(context: CheckContext) -> Iterator[Finding]:
    """Tensors that are not merged, and why; silent about models all of whose tensors are."""
    for account in accounts(context):
        for sentence in account.sentences:
            yield note(sentence, account.key)


def left_files(context: CheckContext) -> Iterator[Finding]:
    """Files without which what mergekit builds of models that see cannot see."""
    merge_space = context.merge_space
    if merge_space is None:
        return
    space = merge_space.space
    recipe = merge_space.recipe(space.decode(space.initial))
    for left in left_files_of(recipe, context.models):
        yield warning(left.sentence, left.key, "Copy it into the folder that is built.")


def accounts(context: CheckContext) -> tuple[TensorAccount, ...]:
    """The tensors of each model; none without a space.

    Which layers and models a space leaves out that varies them is another matter in every trial,
    and its export says it.
    """
    merge_space = context.merge_space
    if merge_space is None:
        return ()
    recipes = [*map(merge_space.recipe, extreme_points(merge_space.space))]
    if len(set(map(reading_key, recipes))) > 1:
        return tuple(possible_accounts(context.models))
    return tuple(accounts_of(recipes[0], context.models))
