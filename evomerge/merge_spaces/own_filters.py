"""The `genome:` block for a part of the models, without the filters that are for the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.genome.merge_block import MergeDefinition
from evomerge.models.architecture import Architecture


def with_own_filters(
    definition: MergeDefinition, part: Architecture, whole: Architecture
) -> MergeDefinition:
    """The same without filters that find tensors, and none of the part's.

    Args:
        definition: What the genome says.
        part: The tensors that it is for.
        whole: All tensors.
    """
    everything, own = whole.tensors, part.tensors

    def is_kept(text: str | None) -> bool:
        finds = [any(text in name for name in names) for names in (everything, own)] if text else []
        return finds != [True, False]

    def kept(parameters: Mapping[str, Any]) -> dict[str, Any]:
        found = {
            name: settings.model_copy(
                update={
                    "entries": [
                        one for one in settings.entries if one.is_default or is_kept(one.filter)
                    ]
                }
            )
            for name, settings in parameters.items()
        }
        return {name: settings for name, settings in found.items() if settings.entries}

    filters = definition.filters
    return definition.model_copy(
        update={
            "filters": None if filters is None else [text for text in filters if is_kept(text)],
            "parameters": kept(definition.parameters),
            "models": [
                source.model_copy(update={"parameters": kept(source.parameters)})
                for source in definition.models
            ],
        }
    )
