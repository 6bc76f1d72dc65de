"""Heads of loaded models that are tensors of their own although a configuration ties them."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel


def keep_own_heads(module: PreTrainedModel) -> None:
    """Keeps what a model was loaded with: nobody ties later what is apart now.

    transformers leaves a head alone that differs from the embeddings in the files, whatever the
    configuration says; lm-eval ties every model anew once it has it.

    Args:
        module: As loaded. Where a tensor is apart that its configuration ties to another, the
            configuration of the object, not that of a folder, says so from now on.
    """
    named: dict[str, Any] = dict(module.named_parameters(remove_duplicate=False))
    tied = module.get_expanded_tied_weights_keys(all_submodels=True)
    if all(named.get(one) is named.get(other) for one, other in tied.items()):
        return
    for part in module.modules():
        if isinstance(part, PreTrainedModel) and hasattr(part.config, "tie_word_embeddings"):
            part.config.tie_word_embeddings = False
