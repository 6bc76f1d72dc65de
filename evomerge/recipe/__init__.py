"""Recipes: what mergekit builds, and what it makes of their keys."""

from evomerge.recipe.plain import SIGNIFICANT_DIGITS, Recipe, rounded

__all__ = ["Recipe", "SIGNIFICANT_DIGITS", "rounded"]
