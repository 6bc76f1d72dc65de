"""The family of a model that sees and that mergekit has no file on, as mergekit infers it.

mergekit makes an empty model of the configuration and groups the names of its tensors by the stacks
of layers they stand in: each stack is a part, and what is in none is a part called ``default``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from evomerge.foundations.canonical import canonical_json
from evomerge.models.facts import ModelFacts
from evomerge.models.family import MAX_LAYERS, Family, ModelPart, Weight
from evomerge.models.native import is_native

DEFAULT = "default"
_LAYER_INDEX = re.compile(r"\.(\d{1,9})\.")
_DEPTHS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "depth")
_KEPT = 16


def inferred(model: ModelFacts) -> Family | None:
    """The family; None of text models, and of what transformers has no class for."""
    config = model.config
    model_type = config.get("model_type")
    if not isinstance(config.get("text_config"), dict) or not isinstance(model_type, str):
        return None
    if _most_layers(config) > min(MAX_LAYERS, len(model.tensors) or MAX_LAYERS):
        return None  # an empty model of so many would be made for hours
    return _family(canonical_json(config)) if model.architecture and is_native(model_type) else None


def _most_layers(config: Mapping[str, Any]) -> int:
    """Layers of the deepest of its parts, as the configuration has them."""
    parts = (config, *(part for part in config.values() if isinstance(part, dict)))
    told = (part.get(key) for part in parts for key in _DEPTHS)
    return max((one for one in told if isinstance(one, int)), default=0)


@lru_cache(maxsize=_KEPT)
def _family(config: str) -> Family | None:
    found = _tensors(json.loads(config))
    if found is None:
        return None
    names, axes, tied = found
    stacks: dict[str, dict[str, None]] = {}
    depths: dict[str, int] = {}
    loose: list[str] = []
    for name in names:
        index = _LAYER_INDEX.search(name)
        if index is None:
            loose.append(name)
            continue
        stack = name[: index.start()]
        template = _LAYER_INDEX.sub(".{layer}.", name, count=1)
        stacks.setdefault(stack, {})[template] = None
        depths[stack] = max(depths.get(stack, 0), 1 + int(index.group(1)))

    def weights(templates: Any) -> tuple[Weight, ...]:
        return tuple(Weight(one, axes.get(one), one in tied) for one in templates)

    embeddings = [name for name in loose if name in axes and name not in tied]
    language = next((one for one in stacks if _is_of(one, embeddings)), None)
    if language is None or len(stacks) == 1:
        return None
    around = [name for name in loose if name in axes or _is_of(language, [name])]
    return Family(
        before=weights(name for name in around if name in embeddings),
        layer=weights(stacks[language]),
        after=weights(name for name in around if name not in embeddings),
        layers_key="text_config.num_hidden_layers",
        parts={
            DEFAULT: ModelPart(weights(loose), (), (), 0),
            **{name: ModelPart((), weights(stacks[name]), (), depths[name]) for name in stacks},
        },
    )


def _is_of(stack: str, names: list[str]) -> bool:
    """Whether a stack of layers belongs to the module that one of some tensors hangs in."""
    return any(stack.rpartition(".")[0] == name.rsplit(".", 2)[0] for name in names)


def _tensors(config: Mapping[str, Any]) -> tuple[list[str], Mapping[str, int], set[str]] | None:
    """Names of all tensors, those that token ids index with their axis, and which may be tied."""
    import torch  # heavy, and needed by few
    from mergekit.architecture.auto import infer_vocabulary_axes
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig
    from transformers.initialization import no_init_weights
    from transformers.modeling_utils import _get_tied_weight_keys

    from evomerge.models.quiet import quiet_transformers

    try:
        with quiet_transformers(), torch.device("meta"), no_init_weights():
            known = AutoConfig.for_model(**config)
            kind: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(known)]
            empty = kind(known)
            empty.tie_weights()
    except Exception:  # as mergekit: no model that sees, or a stranger's configuration makes none
        return None
    patterns = _get_tied_weight_keys(empty)
    names = list(empty.state_dict())
    tied = {name for name in names if any(re.search(pattern, name) for pattern in patterns)}
    return names, infer_vocabulary_axes(empty), tied
