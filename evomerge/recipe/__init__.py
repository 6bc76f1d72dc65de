"""Recipes: what mergekit builds, and the only place that walks one: the table of their kinds.

========== ==========================================================
kind       what it is
========== ==========================================================
mixture    several models, their probabilities combined; nothing builds it
moe        merges that ``mergekit-moe`` joins into a mixture of experts
transplant a model or merge that ``mergekit-tokensurgeon`` gives the tokens of another model
multi      several, one after the other, that ``mergekit-multi`` builds
merge      one merge: a document that ``mergekit-yaml`` builds
========== ==========================================================

The first kind that takes a file is its kind; the last one takes them all.
"""

from typing import Any

from evomerge.foundations.registry import Registry

# Of type[RecipeKind], whose module everything below would stand upon.
RECIPE_KINDS: Registry[Any] = Registry(
    "recipe kind",
    {
        "mixture": "evomerge.recipe.model_mixture:ModelMixture",
        "moe": "evomerge.recipe.moe:Moe",
        "transplant": "evomerge.recipe.transplant:Transplant",
        "multi": "evomerge.recipe.multi:Multi",
        "merge": "evomerge.recipe.merge:Merge",
    },
)
