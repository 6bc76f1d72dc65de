"""Tensors that mergekit makes out of others, e.g. one tensor out of those of many experts."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.models.facts import ModelFacts


def unconvertible(model: ModelFacts, names: Sequence[str]) -> list[str]:
    """Those of some tensor names that mergekit cannot make from the model's tensors."""
    if not names:
        return []
    from mergekit.architecture.conversion import can_convert_checkpoint_keys  # heavy; for few

    model_type, available = str(model.config.get("model_type")), set(model.tensors)
    return [n for n in names if not can_convert_checkpoint_keys(model_type, available, n)]
