"""What varies, and what it means as a recipe: the table of merge spaces, and which a genome means.

=============== ============================================================================
name            what varies
=============== ============================================================================
parameters      the parameters of one merge method, as finely as the genome says
slerp_pairs     which two of several models a layer group interpolates between, and where
adapter_factors the coefficients of LoRA adapters whose A and B are summed apart
soup            which models are in a uniform average
layers          which layer of which model runs next, how often, and how much it adds
moe             the merges that mergekit-moe joins into a mixture of experts
modules         the merges of the parts of models that have several, e.g. of one that sees
mixture         the weights of models whose next-token distributions are combined
=============== ============================================================================
"""

from evomerge.foundations.registry import Registry
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.methods import METHODS
from evomerge.merge_spaces.base import MergeSpace

MERGE_SPACES: Registry[type[MergeSpace]] = Registry(
    "space",
    {
        "parameters": "evomerge.merge_spaces.parameter_space:ParameterSpace",
        "slerp_pairs": "evomerge.merge_spaces.slerp_pairs:SlerpPairs",
        "adapter_factors": "evomerge.merge_spaces.adapter_factors:AdapterFactors",
        "layers": "evomerge.merge_spaces.layer_paths.layer_space:LayerSpace",
        "soup": "evomerge.merge_spaces.soup:Soup",
        "moe": "evomerge.merge_spaces.moe_space:MoeSpace",
        "modules": "evomerge.merge_spaces.module_space:ModuleSpace",
        "mixture": "evomerge.merge_spaces.mixture_weights:MixtureWeights",
    },
)


def by_rule(definition: MergeDefinition) -> tuple[str, str]:
    """The space of a genome that names none, and why; docs/genome.md has the rule."""
    method, n_models = definition.merge_method, len(definition.models)
    if definition.modules:
        return "modules", "modules:"
    if definition.adapters == "factors":
        return "adapter_factors", "adapters: factors"
    if method in METHODS and METHODS[method].in_pairs and n_models > 2:
        return "slerp_pairs", f"{method} over {n_models} models"
    return "parameters", f"merge_method: {method}"


def merge_space_for(definition: MergeDefinition) -> type[MergeSpace]:
    """The merge space that a genome names, or that the rule picks.

    Raises:
        UnknownNameError: the table has none of that name.
    """
    named = definition.space
    return MERGE_SPACES[by_rule(definition)[0] if named is None else named.name]
