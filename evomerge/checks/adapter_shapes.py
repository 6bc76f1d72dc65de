"""Whether LoRA adapters fit the models they are folded into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from evomerge.checks.context import CheckContext
from evomerge.checks.heads import is_tied
from evomerge.checks.reference_model import some
from evomerge.foundations.findings import Finding, error, note, warning
from evomerge.merge_spaces import merge_space_for
from evomerge.models.facts import AdapterFacts, ModelFacts

_PREFIX = "base_model.model."
# Adapter tensor -> which axis of it is an axis of the tensor it changes.
_FACTORS = {".lora_A.weight": (1, 1), ".lora_B.weight": (0, 0)}
_WHOLE = ".modules_to_save."
Shape = tuple[int, ...]
_COMPARED = ("r", "lora_alpha", "target_modules", "use_rslora", "use_dora", "bias")


def adapter_files(context: CheckContext) -> Iterator[Finding]:
    """Adapters that are none, broken, in pickle files, or of a kind that cannot be folded."""
    for model, adapter in _with_adapters(context):
        for name, reason in adapter.broken.items():
            yield error(f"{name} of {adapter.name} is broken: {reason}", model.key, _AGAIN)
        if "adapter_config.json" not in adapter.files:
            yield error(
                f"{adapter.name}, which stands behind '+', is no adapter: it has no"
                " adapter_config.json",
                model.key,
                f"For a folder whose name holds '+' write {{model: {{path: {model.name}}}}}.",
            )
        elif not adapter.has_safetensors and adapter.pickles:
            if not {model.name, adapter.name} & context.permissions.pickle:
                yield error(
                    f"{adapter.name} has its weights in pickle files only"
                    f" ({some(adapter.pickles)}), which can run code when they are read",
                    model.key,
                    f"Save it as safetensors, or allow it with --allow-pickle {adapter.name}.",
                )
        elif not adapter.tensors and not adapter.broken:
            yield error(
                f"{adapter.name} has no weights, expected adapter_model.safetensors",
                model.key,
                _AGAIN,
            )
        yield from _kind(model, adapter)


_AGAIN = "Download or save the adapter again."


def _kind(model: ModelFacts, adapter: AdapterFacts) -> Iterator[Finding]:
    kind = str(adapter.config.get("peft_type", "LORA"))
    if kind != "LORA":
        yield error(
            f"{adapter.name} is an adapter of type {kind}, expected LORA",
            model.key,
            "Fold it into its model with PEFT first.",
        )
    if adapter.config.get("layer_replication"):
        yield error(
            f"{adapter.name} repeats layers of its model (layer_replication), so the result has"
            " another depth",
            model.key,
            "Fold it into its model with PEFT first.",
        )


def adapter_bases(context: CheckContext) -> Iterator[Finding]:
    """Adapters that were trained on another model."""
    for model, adapter in _with_adapters(context):
        trained_on = adapter.config.get("base_model_name_or_path")
        if not isinstance(trained_on, str) or not trained_on or "config.json" not in model.files:
            continue
        named = model.name.partition("+")[0].partition("@")[0]
        if _last(trained_on) != _last(named):
            yield warning(
                f"{adapter.name} was trained on {trained_on}, got {named}",
                model.key,
                f"Write {trained_on}+{adapter.name} if they are not the same model.",
            )


def _last(name: str) -> str:
    """The name without organisation or folder, and without the mark of a quantised copy."""
    return PurePosixPath(name).name.lower().removesuffix("-bnb-4bit")


def adapter_shapes(context: CheckContext) -> Iterator[Finding]:
    """Adapter tensors of another width than what they change, or without anything to change."""
    for model, adapter in _with_adapters(context):
        if not model.tensors or adapter.config.get("target_parameters"):
            continue  # names of parameters follow the class in memory, not the files
        wrong, homeless = [], []
        for name, tensor in sorted(adapter.tensors.items()):
            target, axes = _target(name, is_transposed=bool(adapter.config.get("fan_in_fan_out")))
            changed = model.tensors.get(target)
            if changed is None:
                # Of a tied model peft changes the embeddings, which are its head.
                is_head = target.startswith("lm_head.") and is_tied(model)
                homeless += [name] if axes and not is_head else []
            elif not _fits(tensor.shape, changed.shape, axes):
                wrong.append(f"{name} {list(tensor.shape)} for {target} {list(changed.shape)}")
        if wrong:
            yield error(
                f"{len(wrong)} tensors of {adapter.name} do not fit its model: {some(wrong)}",
                model.key,
                "Name the model that the adapter was trained on.",
            )
        if homeless:
            yield warning(
                f"{len(homeless)} tensors of {adapter.name} change nothing that is in the files of"
                f" its model: {some(homeless)}",
                model.key,
                "Name the model that the adapter was trained on.",
            )


def _fits(got: Shape, expected: Shape, axes: tuple[int, int] | None) -> bool:
    """Whether an adapter's tensor fits; without axes it replaces the model's as a whole."""
    if axes is None:
        return got == expected
    return len(got) == len(expected) == 2 and got[axes[0]] == expected[axes[1]]


def _target(name: str, *, is_transposed: bool) -> tuple[str, tuple[int, int] | None]:
    """The model's tensor that an adapter's tensor changes, and which axes must agree.

    Args:
        name: Of the adapter's tensor.
        is_transposed: Whether the model keeps its matrices the other way round, as GPT-2 does.
    """
    inner = name.removeprefix(_PREFIX)
    for suffix, (own_axis, axis) in _FACTORS.items():
        if inner.endswith(suffix):
            axes = (own_axis, 1 - axis if is_transposed else axis)
            return inner.removesuffix(suffix) + ".weight", axes
    return inner.replace(_WHOLE, ".").replace(".base_layer.", "."), None


def adapters_differ(context: CheckContext) -> Iterator[Finding]:
    """How adapters of several kinds are treated; where they are summed they may not differ."""
    if not merge_space_for(context.genome.genome).folds_adapters:
        return
    adapters = [adapter for _, adapter in _with_adapters(context)]
    differing = [key for key in _COMPARED if len({str(_setting(one, key)) for one in adapters}) > 1]
    if differing:
        yield note(
            f"the adapters differ in {', '.join(differing)}; each is folded into its model before"
            " merging, so nothing is lost",
            "genome.models",
        )


def _setting(adapter: AdapterFacts, key: str) -> object:
    value = adapter.config.get(key)
    return sorted(map(str, value)) if isinstance(value, list) else value


def _with_adapters(context: CheckContext) -> Iterator[tuple[ModelFacts, AdapterFacts]]:
    """Models named with ``+``; an adapter alone is no model."""
    for model in context.models:
        if model.adapter is not None and "config.json" in model.files:
            yield model, model.adapter
