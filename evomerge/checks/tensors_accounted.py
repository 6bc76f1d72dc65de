"""Where the tensors of the models go, as far as the merge space decides it."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.foundations.findings import Finding, note
from evomerge.recipe.tensor_account import TensorAccount, accounts_of


def accounted(context: CheckContext) -> Iterator[Finding]:
    """Tensors that are not merged, and why; silent about models all of whose tensors are."""
    for account in accounts(context):
        for sentence in account.sentences:
            yield note(sentence, account.key)


def accounts(context: CheckContext) -> tuple[TensorAccount, ...]:
    """The tensors of each model in the recipe in the middle of the space; none without a space."""
    merge_space = context.merge_space
    if merge_space is None:
        return ()
    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial))
    return tuple(accounts_of(recipe, context.models))
