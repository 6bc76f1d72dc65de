"""Recipes: what mergekit builds, and what it makes of their keys."""
