"""mergekit's model families: which tensors an architecture has, and which of them are optional.

The definitions are mergekit's own files, read without importing it, which takes seconds. Two
families that mergekit defines in Python are asked from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evomerge.foundations.reading import listed, read_text
from evomerge.models.facts import ModelFacts
from evomerge.models.family import MAX_LAYERS, Family, ModelPart, Weight, layers_by_names
from evomerge.models.inferred import inferred

_LANGUAGE = "text_decoder"  # mergekit's name for it
_IN_PYTHON = ("AfmoeForCausalLM", "Glm4MoeForCausalLM")


def family_of(model: ModelFacts) -> Family | None:
    """The family of a model as mergekit chooses it; None where mergekit has no definition.

    It infers one for models that see, from the tensors that their class has.
    """
    name = model.architecture
    if name in _IN_PYTHON:
        return _from_mergekit(model)
    found = _definitions().get(name, [])
    if len(found) > 1:
        found = [
            one for one in found if one.get("model_type", "") == model.config.get("model_type")
        ]
    return _family(found[0], model) if found else inferred(model)


def known_architectures() -> list[str]:
    """Class names that mergekit has a definition for."""
    return sorted({*_definitions(), *_IN_PYTHON})


@cache
def _definitions() -> dict[str, list[dict[str, Any]]]:
    """Architecture -> the content of mergekit's files on it."""
    spec = find_spec("mergekit")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("mergekit is not installed", name="mergekit")
    folder = Path(spec.submodule_search_locations[0]) / "_data" / "architectures"
    found: dict[str, list[dict[str, Any]]] = {}
    for path in (path for path in listed(folder) if path.suffix == ".json"):
        definition = json.loads(read_text(path))
        for name in definition["architectures"]:
            found.setdefault(name, []).append(definition)
    return found


def _family(definition: Mapping[str, Any], model: ModelFacts) -> Family:
    parts = definition.get("modules")
    if parts is None:
        return _one(definition, model)
    found = {
        name: _one(part["architecture"], model, part.get("weight_prefix") or "")
        for name, part in parts.items()
    }
    return replace(
        found.get(_LANGUAGE, Family()),
        copied=tuple(definition.get("tagalong_files") or ()),
        parts={
            name: ModelPart(one.before, one.layer, one.after, _depth(parts[name], one, model))
            for name, one in found.items()
        },
    )


def _one(definition: Mapping[str, Any], model: ModelFacts, prefix: str = "") -> Family:
    """The family of a text model, or one part of several as if it were one."""
    key = definition.get("num_layers_config_key") or "num_hidden_layers"
    n_layers = Family(layers_key=key).n_layers(model)
    return Family(
        before=_weights(definition["pre_weights"], n_layers, prefix),
        layer=_weights(definition["layer_templates"]["weights"], n_layers, prefix),
        after=_weights(definition["post_weights"], n_layers, prefix),
        layers_key=key,
    )


def _depth(part: Mapping[str, Any], family: Family, model: ModelFacts) -> int:
    """Layers of a part: mergekit's own number, the configuration's, or those of its tensors."""
    own = part["architecture"].get("override_num_layers")
    configured = model.configured(family.layers_key)
    if own is not None:
        return int(own)
    if isinstance(configured, int) and 0 <= configured <= MAX_LAYERS:
        return configured
    stored = (
        any(weight.of_layer(index).name in model.tensors for weight in family.layer)
        for index in count()
    )
    return next(index for index, is_there in enumerate(stored) if not is_there)


def _weights(
    entries: Sequence[Mapping[str, Any]], n_layers: int, prefix: str
) -> tuple[Weight, ...]:
    def filled(template: str) -> str:
        text = template.replace("${layer_index}", "{layer}")
        return prefix + text.replace("${num_layers}", str(n_layers))

    return tuple(
        Weight(
            filled(entry["name"]),
            entry.get("vocabulary_axis"),
            bool(entry.get("optional")),
            tuple(map(filled, (*entry.get("aliases", ()), *entry.get("tied_names", ())))),
        )
        for entry in entries
    )


def _from_mergekit(model: ModelFacts) -> Family:
    """A family whose first layers differ from its others; what some lack counts as optional."""
    from mergekit.architecture import arch_info_for_config  # heavy, and needed by few

    config = SimpleNamespace(**{**model.text_config, "architectures": [model.architecture]})
    (module,) = arch_info_for_config(config).modules.values()
    known, n_layers = module.architecture, layers_by_names(model)
    first, last = (
        {
            weight.name.replace(f".{i}.", ".{layer}.", 1): weight
            for weight in known.layer_weights(i, config)
        }
        for i in (0, n_layers - 1)
    )
    layer = (
        replace(
            _of_theirs(w),
            name=n,
            others=(),
            is_optional=w.optional or n not in first or n not in last,
        )
        for n, w in {**first, **last}.items()
    )
    return Family(
        before=tuple(map(_of_theirs, known.pre_weights(config))),
        layer=tuple(layer),
        after=tuple(map(_of_theirs, known.post_weights(config))),
    )


def _of_theirs(weight: Any) -> Weight:
    others = (*(weight.aliases or ()), *(weight.tied_names or ()))
    return Weight(weight.name, weight.vocabulary_axis, weight.optional, others)
