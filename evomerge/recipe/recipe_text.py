"""A mergekit document as YAML, as people write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_KEY_ORDER = (  # as people write recipes; other keys follow in alphabetical order
    "name", "mixture", "merge_method", "source_model", "model", "recipe", "layer_range",
    "filter", "value", "models", "slices", "sources", "base_model", "parameters",
    "tokenizer_source", "tokenizer", "chat_template", "dtype", "out_dtype",
)  # fmt: skip


class _RecipeDumper(yaml.SafeDumper):
    """Lists of numbers on one line, as mergekit writes them; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, values: Sequence[Any]) -> yaml.Node:
    flow = all(isinstance(value, (int, float)) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


_RecipeDumper.add_representer(list, _represent_list)


def to_text(document: Mapping[str, Any]) -> str:
    """YAML that mergekit reads; equal documents give equal text."""
    return yaml.dump(
        _in_order(document),
        Dumper=_RecipeDumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


def _in_order(value: Any) -> Any:
    """The same content with its keys in ``_KEY_ORDER``, whatever order a ledger kept."""
    if isinstance(value, Mapping):
        known = [key for key in _KEY_ORDER if key in value]
        return {k: _in_order(value[k]) for k in (*known, *sorted(set(value) - set(known)))}
    return [_in_order(item) for item in value] if isinstance(value, (list, tuple)) else value
