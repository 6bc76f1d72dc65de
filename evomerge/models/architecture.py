"""What a merge space needs to know of the models: layers and tensor names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from evomerge.genome.model_names import ModelName


@dataclass(frozen=True)
class Architecture:
    """The tensors that all models of a merge have in common, by place.

    Of models with several parts the layers are those of the language model.

    Attributes:
        name: Class name as in ``config.json``, e.g. ``"LlamaForCausalLM"``.
        n_layers: Number of transformer layers.
        embeddings: Names of the tensors before the first layer.
        layer_tensors: Names of one layer's tensors with ``{layer}`` in place of its
            index, e.g. ``"model.layers.{layer}.mlp.up_proj.weight"``.
        final_norm: Names of the tensors after the last layer that are not the head.
        head: Names of the output head's tensors; empty where it is tied to the
            embeddings and has no tensor of its own.
        depths: Layers of the models that have another number of them.
        lists_layers: Whether its configuration says of every layer which kind it is.
        has_buffers: Whether checkpoints hold buffers beside them that transformers computes itself.
        has_own_width: Whether its heads together are of another width than its hidden states.
        beside: Names of the tensors of the parts beside the language model, e.g. one that sees.
        parts: Name -> part, where there are several; together they have all tensors.
        alike: Tensor name -> model -> a number, the same for models that hold equal tensors
            there; tensors and models are left out where nothing is known to be equal.
    """

    name: str
    n_layers: int
    embeddings: tuple[str, ...]
    layer_tensors: tuple[str, ...]
    final_norm: tuple[str, ...]
    head: tuple[str, ...]
    has_buffers: bool = False
    depths: Mapping[ModelName, int] = field(default_factory=dict)
    lists_layers: bool = False
    has_own_width: bool = False
    beside: tuple[str, ...] = ()
    parts: Mapping[str, Architecture] = field(default_factory=dict)
    alike: Mapping[str, Mapping[ModelName, int]] = field(default_factory=dict, compare=False)

    def depth_of(self, model: ModelName) -> int:
        """Number of layers of one of the models."""
        return self.depths.get(model, self.n_layers)

    @property
    def language(self) -> str:
        """The part that holds its layers; empty where it has no parts."""
        parts = self.parts.items()
        return next((n for n, part in parts if part.layer_tensors == self.layer_tensors), "")

    @property
    def absent_head(self) -> tuple[str, ...]:
        """Names a filter may give to a head that has no tensor because it is tied."""
        return () if self.head else ("lm_head", "lm_head.weight", "embed_out", "embed_out.weight")

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of all."""
        layers = (
            name.format(layer=layer)
            for layer in range(self.n_layers)
            for name in self.layer_tensors
        )
        return (*self.embeddings, *layers, *self.final_norm, *self.head, *self.beside)

    def agree(self, models: Iterable[ModelName], tensors: Iterable[str]) -> bool:
        """Whether some models are known to hold equal tensors, at each of some names."""
        models = tuple(models)
        for name in tensors:
            numbers = self.alike.get(name, {})
            if len({numbers.get(model) for model in models}) > 1 or models[0] not in numbers:
                return False
        return True
