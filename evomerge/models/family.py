"""A family of models: the tensors of an architecture, in the order in which mergekit takes them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from evomerge.models.facts import ModelFacts

# Buffers of old checkpoints that transformers computes itself today.
COMPUTED = (".inv_freq", ".attention.bias", ".attn.bias", ".masked_bias", ".position_ids")
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
class ModelPart:
    """One of several parts of a model, as mergekit's ``modules:`` name it.

    Attributes:
        before: Tensors before its first layer.
        layer: Tensors of each layer.
        after: Tensors after its last layer.
        n_layers: Its layers.
    """

    before: tuple[Weight, ...]
    layer: tuple[Weight, ...]
    after: tuple[Weight, ...]
    n_layers: int

    def weights(self) -> Iterator[Weight]:
        """Every tensor of it; one that mergekit names in several layers as often."""
        yield from self.before
        for index in range(self.n_layers):
            for weight in self.layer:
                yield weight.of_layer(index)
        yield from self.after


@dataclass(frozen=True)
class Family:
    """What mergekit knows of an architecture.

    Attributes:
        before: Tensors before the first layer; of several parts, those of the language model.
        layer: Tensors of each layer, likewise.
        after: Tensors after the last layer, likewise.
        layers_key: Where the configuration has the number of layers.
        parts: Name -> part, where there are several.
        copied: Names of files beside the weights that mergekit copies.
    """

    before: tuple[Weight, ...] = ()
    layer: tuple[Weight, ...] = ()
    after: tuple[Weight, ...] = ()
    layers_key: str = "num_hidden_layers"
    parts: Mapping[str, ModelPart] = field(default_factory=dict)
    copied: tuple[str, ...] = ()

    def n_layers(self, model: ModelFacts) -> int:
        """Number of layers by the configuration, else by the tensor names."""
        configured = model.configured(self.layers_key)
        if isinstance(configured, int) and 0 < configured <= MAX_LAYERS:
            return configured
        return layers_by_names(model)

    def weights(self, n_layers: int) -> Iterator[Weight]:
        """Every tensor of a model with so many layers, each once; the language model's first."""
        whole = [ModelPart(self.before, self.layer, self.after, n_layers), *self.parts.values()]
        known: set[str] = set()
        for weight in (weight for part in whole for weight in part.weights()):
            if weight.name not in known:
                known.add(weight.name)
                yield weight

    def beside(self, n_layers: int) -> Iterator[Weight]:
        """Every tensor of the parts beside the language model."""
        own = {
            weight.name
            for weight in ModelPart(self.before, self.layer, self.after, n_layers).weights()
        }
        yield from (weight for weight in self.weights(n_layers) if weight.name not in own)


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
