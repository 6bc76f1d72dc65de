"""Memory that the gates of a mixture of experts take where its base is merged, too."""

from __future__ import annotations

import math
from collections.abc import Iterator

from evomerge.checks.context import CheckContext
from evomerge.checks.given_to_workers import n_sharing
from evomerge.checks.need import COMPUTED_BYTES, ITEM_BYTES, Need


def gate_needs(context: CheckContext) -> Iterator[Need]:
    """What a base takes that reads prompts beside the live mixture; nothing where none does."""
    space = context.merge_space
    if space is None or not space.reads_prompts or not context.models:
        return
    workers = n_sharing(context.genome)
    item = ITEM_BYTES.get(space.out_dtype, COMPUTED_BYTES)
    n_values = max(
        sum(math.prod(tensor.shape) for tensor in model.tensors.values())
        for model in context.models
    )
    yield Need("the base of a mixture, as it is merged", workers * n_values * item)
    # mergekit-moe lets it read prompts in bfloat16, whatever its dtype.
    yield Need("the same while it reads prompts", workers * n_values * ITEM_BYTES["bfloat16"])
