"""What mergekit would refuse of the tokens that a genome chooses, so that every merge fails."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.checks.token_ids import chosen_tokenizer
from evomerge.foundations.findings import Finding, error
from evomerge.models.vocabulary_rows import vocabulary_rows
from evomerge.recipe.kept_stages import folded


def refused_tokens(context: CheckContext) -> Iterator[Finding]:
    """Tokens without a row, or whose rows are to come from where they cannot."""
    merge_space = context.merge_space
    if merge_space is None or not chosen_tokenizer(context) or not _may_fail(context):
        return
    from evomerge.merging.token_refusals import token_refusals  # loads mergekit

    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial))
    permissions = context.permissions
    refused = [
        why
        for document in folded(recipe, context.made).documents
        for why in token_refusals(
            document, context.models, trust_remote_code=permissions.trust_remote_code
        )
    ]
    is_block = context.genome.genome.tokenizer is not None
    for why in dict.fromkeys(refused):
        yield error(
            f"mergekit would refuse every merge: {why}",
            "genome.tokenizer" if is_block else "genome.tokenizer_source",
            "Take tokenizers that fit their models, and rows from models that have them.",
        )


def _may_fail(context: CheckContext) -> bool:
    """Whether mergekit has anything to align; models of one tokenizer stay as they are."""
    block = context.genome.genome.tokenizer
    tokenizers = [model.tokenizer for model in context.models if model.tokenizer is not None]
    if (block is not None and block.tokens) or len({one.digest for one in tokenizers}) > 1:
        return True
    n_rows = [n for rows in vocabulary_rows(context.models).values() for n in rows.values()]
    ids = [index for one in tokenizers for index in (one.vocabulary or {}).values()]
    return bool(n_rows and ids) and max(ids) >= min(n_rows)
