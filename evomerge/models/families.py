"""mergekit's model families: which tensors an architecture has, and which of them are optional.

The definitions are mergekit's own files, read without importing it, which takes seconds. Two
families that mergekit defines in Python are asked from it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evomerge.foundations.reading import listed, read_text
from evomerge.models.facts import ModelFacts

# Buffers of old checkpoints that transformers computes itself today.
COMPUTED = (".inv_freq", ".attention.bias", ".attn.bias", ".masked_bias", ".position_ids")
_IN_PYTHON = ("AfmoeForCausalLM", "Glm4MoeForCausalLM")
_LAYER_INDEX = re.compile(r"\.(\d{1,9})\.")
MAX_LAYERS = 10_000  # more is a mistake of the configuration, and would be listed for minutes


@dataclass(frozen=True)
class Weight:
    """One tensor of a family, or of each of its layers.

    Attributes:
        name: With ``{layer}`` for the layer's index.
        vocabulary_axis: The axis that token ids index; None where there is none.
        is_optional: Whether models may be without it.
        others: Names it may have instead.
    """

    name: str
    vocabulary_axis: int | None = None
    is_optional: bool = False
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, its own first."""
        return (self.name, *self.others)

    def of_layer(self, index: int) -> Weight:
        """The tensor of one layer."""
        name, *others = (text.replace("{layer}", str(index)) for text in self.names)
        return replace(self, name=name, others=tuple(others))


@dataclass(frozen=True)
class Family:
    """What mergekit knows of an architecture.

    Attributes:
        modules: Names of its parts; evomerge merges families of one part.
        before: Tensors before the first layer.
        layer: Tensors of each layer.
        after: Tensors after the last layer.
        layers_key: Where the configuration has the number of layers.
    """

    modules: tuple[str, ...]
    before: tuple[Weight, ...] = ()
    layer: tuple[Weight, ...] = ()
    after: tuple[Weight, ...] = ()
    layers_key: str = "num_hidden_layers"

    def n_layers(self, model: ModelFacts) -> int:
        """Number of layers by the configuration, else by the tensor names."""
        configured = model.configured(self.layers_key)
        if isinstance(configured, int) and 0 < configured <= MAX_LAYERS:
            return configured
        return layers_by_names(model)

    def weights(self, n_layers: int) -> Iterator[Weight]:
        """Every tensor of a model with so many layers."""
        yield from self.before
        for index in range(n_layers):
            for weight in self.layer:
                yield weight.of_layer(index)
        yield from self.after


def layers_by_names(model: ModelFacts) -> int:
    """Number of layers by the numbers in the tensor names, in the largest stack that they show.

    Projectors and towers beside it are numbered, too.
    """
    n_bytes: dict[str, int] = defaultdict(int)
    last: dict[str, int] = {}
    for name, tensor in model.tensors.items():
        found = _LAYER_INDEX.search(name)
        if found is not None:
            stack = name[: found.start()]
            n_bytes[stack] += tensor.n_bytes
            last[stack] = max(last.get(stack, 0), int(found.group(1)))
    if not last:
        return 0
    largest = max(last, key=lambda stack: (n_bytes[stack], last[stack]))
    return min(1 + last[largest], len(model.tensors))


def family_of(model: ModelFacts) -> Family | None:
    """The family of a model as mergekit chooses it; None where mergekit has no definition."""
    name = model.architecture
    if name in _IN_PYTHON:
        return _from_mergekit(model)
    found = _definitions().get(name, [])
    if len(found) > 1:
        found = [
            one for one in found if one.get("model_type", "") == model.config.get("model_type")
        ]
    return _family(found[0], model) if found else None


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
    modules = definition.get("modules")
    if modules is not None:
        return Family(tuple(modules))
    key = definition.get("num_layers_config_key") or "num_hidden_layers"
    n_layers = Family(("",), layers_key=key).n_layers(model)
    return Family(
        modules=("default",),
        before=_weights(definition["pre_weights"], n_layers),
        layer=_weights(definition["layer_templates"]["weights"], n_layers),
        after=_weights(definition["post_weights"], n_layers),
        layers_key=key,
    )


def _weights(entries: list[dict[str, Any]], n_layers: int) -> tuple[Weight, ...]:
    def filled(template: str) -> str:
        text = template.replace("${layer_index}", "{layer}")
        return text.replace("${num_layers}", str(n_layers))

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
        modules=("default",),
        before=tuple(map(_of_theirs, known.pre_weights(config))),
        layer=tuple(layer),
        after=tuple(map(_of_theirs, known.post_weights(config))),
    )


def _of_theirs(weight: Any) -> Weight:
    others = (*(weight.aliases or ()), *(weight.tied_names or ()))
    return Weight(weight.name, weight.vocabulary_axis, weight.optional, others)
