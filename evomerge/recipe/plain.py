"""Recipe: one complete mergekit configuration, its digest and its YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from evomerge.foundations.canonical import canonical_json, digest
from evomerge.genome.model_names import ModelName
from evomerge.recipe import walk

_KEY_ORDER = (  # as people write recipes; other keys follow in alphabetical order
    "merge_method", "model", "layer_range", "filter", "value", "models", "slices", "sources",
    "base_model", "parameters", "tokenizer_source", "tokenizer", "chat_template", "dtype",
    "out_dtype",
)  # fmt: skip
SIGNIFICANT_DIGITS = 6  # float32, in which recipes compute, resolves seven


class _RecipeDumper(yaml.SafeDumper):
    """Lists of numbers on one line, as mergekit writes them; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, values: Sequence[Any]) -> yaml.Node:
    flow = all(isinstance(value, (int, float)) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


_RecipeDumper.add_representer(list, _represent_list)


def rounded(value: float) -> float:
    """The value as a recipe writes it: six significant digits."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _in_order(value: Any) -> Any:
    """The same content with its keys in ``_KEY_ORDER``, whatever order a ledger kept."""
    if isinstance(value, Mapping):
        known = [key for key in _KEY_ORDER if key in value]
        return {k: _in_order(value[k]) for k in (*known, *sorted(set(value) - set(known)))}
    return [_in_order(item) for item in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class Recipe:
    """A plain mergekit configuration; equal configurations have equal digests.

    The models stand in it as the user named them, so that it builds anywhere.

    Args:
        config: The configuration as mergekit's YAML holds it: mappings, lists, text,
            numbers. Not to be changed afterwards.
    """

    config: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the content; independent of key order."""
        return digest(self.config)

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def models(self) -> tuple[ModelName, ...]:
        """Those it merges and bases, once each, in the order in which it names them."""
        return tuple(walk.merged_in(self.config))

    @property
    def named(self) -> tuple[ModelName, ...]:
        """The same with those that only give tokens."""
        return tuple(walk.named_in(self.config))

    @property
    def methods(self) -> tuple[str, ...]:
        """The merge methods it names."""
        return (str(self.config.get("merge_method", "")),)

    @property
    def dtype(self) -> str | None:
        """That of the weights of its model; None: that of the models it merges."""
        return self.config.get("out_dtype") or self.config.get("dtype")

    @property
    def structure_key(self) -> str:
        """Equal for recipes that differ in values of parameters only."""
        return canonical_json(walk.with_settings(self.config, lambda settings: None))

    def with_models(self, change: walk.Change) -> Recipe:
        """The same merge of other models.

        Args:
            change: From a model to the one in its place, or to itself.
        """
        return Recipe(walk.with_models(self.config, change))

    def to_yaml(self) -> str:
        """YAML that ``mergekit-yaml`` builds; equal recipes give equal text."""
        return yaml.dump(
            _in_order(self.config),
            Dumper=_RecipeDumper,
            sort_keys=False,
            allow_unicode=True,
            width=100,
        )
