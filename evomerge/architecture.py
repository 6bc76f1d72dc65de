"""What a merge space needs to know of the models: layers and tensor names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """The tensors that all models of a merge have in common, by place.

    Attributes:
        name: Class name as in ``config.json``, e.g. ``"LlamaForCausalLM"``.
        n_layers: Number of transformer layers.
        embeddings: Names of the tensors before the first layer.
        layer_tensors: Names of one layer's tensors with ``{layer}`` in place of its
            index, e.g. ``"model.layers.{layer}.mlp.up_proj.weight"``.
        final_norm: Names of the tensors after the last layer that are not the head.
        head: Names of the output head's tensors; empty where it is tied to the
            embeddings and has no tensor of its own.
    """

    name: str
    n_layers: int
    embeddings: tuple[str, ...]
    layer_tensors: tuple[str, ...]
    final_norm: tuple[str, ...]
    head: tuple[str, ...]

    @property
    def absent_head(self) -> tuple[str, ...]:
        """Names a filter may give to a head that has no tensor because it is tied."""
        return () if self.head else ("lm_head", "lm_head.weight", "embed_out", "embed_out.weight")
