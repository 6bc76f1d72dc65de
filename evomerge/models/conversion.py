"""Tensors that mergekit makes out of others, e.g. one tensor out of those of many experts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from evomerge.models.facts import ModelFacts


def unconvertible(model: ModelFacts, names: Sequence[str]) -> list[str]:
    """Those of some tensor names that mergekit cannot make from the model's tensors."""
    if not names:
        return []
    from mergekit.architecture.conversion import can_convert_checkpoint_keys  # heavy; for few

    model_type, available = str(model.config.get("model_type")), set(model.tensors)
    return [n for n in names if not can_convert_checkpoint_keys(model_type, available, n)]


def conversions(model: ModelFacts) -> Mapping[str, Sequence[str]]:
    """Name of each tensor that mergekit can make of others -> the model's tensors it takes."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping  # heavy; for few

    known = get_checkpoint_conversion_mapping(str(model.config.get("model_type")))  # type: ignore[no-untyped-call]  # transformers types little of it
    transforms = known or ()
    made: dict[str, list[str]] = defaultdict(list)
    for name in model.tensors:
        targets = {name}
        for transform in transforms:
            renamed = {one: transform.rename_source_key(one) for one in targets}
            first, *others = transform.target_patterns or ("",)
            for one, pattern in renamed.values():
                # where one tensor becomes several, the first stands for them
                if pattern is not None:
                    targets |= {one, *(one.replace(first, other, 1) for other in others)}
        for target in targets - {name}:
            made[target].append(name)
    return made
