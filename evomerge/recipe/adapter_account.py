"""Where the tensors of a LoRA adapter go: with the tensors that they change."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.models.facts import ModelFacts
from evomerge.recipe.tensor_account import TensorAccount

_PREFIX = "base_model.model."
_HOMELESS = "it changes no tensor of its model"
_HEAD = "lm_head."  # of a tied model, which has the embeddings in its place


def with_adapter(account: TensorAccount, model: ModelFacts) -> Iterator[TensorAccount]:
    """The account of a model, and that of its adapter where it has one.

    Args:
        account: Of the model.
        model: What was accounted for.
    """
    yield account
    adapter = model.adapter
    if adapter is None or not adapter.tensors or adapter.missing:
        return
    merged: set[str] = set()
    left_out: dict[str, str] = {}
    by_class = bool(adapter.config.get("target_parameters"))  # names of the class in memory
    for name in sorted(adapter.tensors):
        target = changed_by(name)
        is_tied = target.startswith(_HEAD) and target not in model.tensors
        if target in account.left_out:
            left_out[name] = account.left_out[target]
        elif target in model.tensors or is_tied or by_class:
            merged.add(name)
        else:
            left_out[name] = _HOMELESS
    yield TensorAccount(adapter.name, account.key, frozenset(merged), {}, left_out, is_adapter=True)


def changed_by(name: str) -> str:
    """The tensor of the model that an adapter's tensor changes or replaces, by its name."""
    inner = name.removeprefix(_PREFIX)
    before, lora, _ = inner.partition(".lora_")
    if lora:
        return f"{before}.weight"
    return inner.replace(".modules_to_save.", ".").replace(".base_layer.", ".")
