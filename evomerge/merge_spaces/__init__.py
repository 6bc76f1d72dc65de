"""What varies, and what it means as a recipe: the table of merge spaces.

=============== ============================================================================
name            what varies
=============== ============================================================================
parameters      the parameters of one merge method, as finely as the genome says
slerp_pairs     which two of several models a layer group interpolates between, and where
adapter_factors the coefficients of LoRA adapters whose A and B are summed apart
=============== ============================================================================
"""

from evomerge.foundations.registry import Registry
from evomerge.genome.merge_block import MergeDefinition
from evomerge.merge_spaces.base import MergeSpace

MERGE_SPACES: Registry[type[MergeSpace]] = Registry(
    "space",
    {
        "parameters": "evomerge.merge_spaces.parameter_space:ParameterSpace",
        "slerp_pairs": "evomerge.merge_spaces.slerp_pairs:SlerpPairs",
        "adapter_factors": "evomerge.merge_spaces.adapter_factors:AdapterFactors",
    },
)


def merge_space_for(definition: MergeDefinition) -> type[MergeSpace]:
    """The merge space that serves a genome."""
    return next(space for space in MERGE_SPACES.values() if space.serves(definition))
