"""Whether each model is, by itself, something that can be merged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.checks.reference_model import some
from evomerge.foundations.errors import nearest
from evomerge.foundations.findings import Finding, error, warning
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of, known_architectures
from evomerge.models.family import layers_by_names
from evomerge.models.native import is_native, native_types

_NO_CHECKPOINT = (
    ("model_index.json", "it is a diffusers pipeline"),
    ("params.json", "it has weights as Meta or Mistral ship them"),
    ("adapter_config.json", "it is a LoRA adapter"),
)
_AGAIN = "Download or save the model again."


def checkpoint(context: CheckContext) -> Iterator[Finding]:
    """No transformers checkpoint: no config.json, GGUF, an adapter alone."""
    for model in context.models:
        if "config.json" in model.files:
            continue
        reasons = [reason for name, reason in _NO_CHECKPOINT if name in model.files]
        if any(name.endswith(".gguf") for name in model.files):
            reasons = ["it holds a quantised GGUF file"]
        fix = "Name a folder or repository with config.json and safetensors weights."
        if model.adapter is not None:
            base = model.adapter.config.get("base_model_name_or_path") or "MODEL"
            fix = f"Name the model it belongs to: {base}+{model.name}."
        reason = f"; {reasons[0]}" if reasons else ""
        yield error(
            f"{model.name} is no transformers checkpoint: it has no config.json{reason}",
            model.key,
            fix,
        )


def weight_files(context: CheckContext) -> Iterator[Finding]:
    """Weights that are not there, cut off, or in pickle files."""
    for model in context.models:
        for name, reason in model.broken.items():
            yield error(f"{name} of {model.name} is broken: {reason}", model.key, _AGAIN)
        if "config.json" not in model.files:
            continue
        if model.missing:
            yield error(
                f"{len(model.missing)} of the weight files that the index of {model.name} names"
                f" are not there: {some(model.missing)}",
                model.key,
                _AGAIN,
            )
        elif not model.has_safetensors and model.pickles:
            yield from _pickled(context, model)
        elif not model.tensors and not model.broken:
            is_gguf = any(name.endswith(".gguf") for name in model.files)
            but = ", but a quantised GGUF file" if is_gguf else ""
            yield error(
                f"{model.name} has no weights{but}, expected model.safetensors or an index of its"
                " parts",
                model.key,
                _AGAIN,
            )


def _pickled(context: CheckContext, model: ModelFacts) -> Iterator[Finding]:
    if model.name not in context.permissions.pickle:
        yield error(
            f"{model.name} has its weights in pickle files only ({some(model.pickles)}), which can"
            " run code when they are read",
            model.key,
            f"Save it as safetensors, or allow it with --allow-pickle {model.name}.",
        )
    elif model.folder is None:
        yield error(
            f"{model.name} has its weights in pickle files, which cannot be looked into on the Hub",
            model.key,
            "Download it first.",
        )
    else:
        yield warning(
            f"{model.name} has its weights in pickle files; they are read slowly",
            model.key,
            "Save it as safetensors once.",
        )


def quantization(context: CheckContext) -> Iterator[Finding]:
    """Weights that are stored in few bits cannot be averaged."""
    for model in context.models:
        settings: Any = model.config.get("quantization_config")
        if settings is None:
            settings = model.text_config.get("quantization_config")
        if settings is not None:
            method = settings.get("quant_method") if isinstance(settings, dict) else None
            yield error(
                f"{model.name} is quantised ({method or 'unknown method'}), expected weights in"
                " bfloat16, float16 or float32",
                model.key,
                "Name the repository it was made from.",
            )


def own_code(context: CheckContext) -> Iterator[Finding]:
    """Types that transformers does not know, and code that a model brings instead."""
    for model in context.models:
        model_type = model.config.get("model_type")
        if not model.config or context.permissions.trust_remote_code:
            continue
        if isinstance(model_type, str) and is_native(model_type):
            continue
        settings = model.tokenizer.settings if model.tokenizer is not None else {}
        if "auto_map" in model.config or "auto_map" in settings:
            yield error(
                f"{model.name} needs Python code of its own (auto_map): transformers has no model"
                f" type {model_type!r}",
                model.key,
                "Read that code; if you trust it add --trust-remote-code.",
            )
        else:
            close = nearest(str(model_type), native_types())
            yield error(
                f"{model.name} has model type {model_type!r}, which this transformers does not"
                f" know{close}",
                model.key,
                "Mend its config.json, or install a newer transformers.",
            )


def known_architecture(context: CheckContext) -> Iterator[Finding]:
    """Architectures of which mergekit cannot tell every tensor's place."""
    for model in context.models:
        if not model.config:
            continue
        family, name = family_of(model), model.architecture
        if family is None:
            yield error(_no_definition(model), model.key, "Merge models of a known architecture.")
        elif family.parts and not family.layer:
            yield error(
                f"architecture {name} has several parts ({', '.join(family.parts)}), none of which"
                " is a language model that writes",
                model.key,
                "Merge decoders, or vision-language models.",
            )
        elif family.parts and "." not in family.layers_key:
            yield error(
                f"mergekit looks for {family.layers_key} of {name} outside of text_config, where"
                " transformers 5 has put it, and stops",
                model.key,
                "Merge models of another architecture, e.g. Qwen2.5-VL or Qwen3-VL.",
            )


def _no_definition(model: ModelFacts) -> str:
    if not model.architecture:
        named = model.config.get("architectures")
        return f"config.json of {model.name} names architectures {named!r}, expected one"
    what = f"mergekit has no definition of architecture {model.architecture}"
    close = nearest(model.architecture, known_architectures())
    if close or not model.tensors:
        return what + close
    n_layers = layers_by_names(model)
    outside = [
        name for name in model.tensors if not any(part.isdigit() for part in name.split("."))
    ]
    return (
        f"{what}; its tensor names show {n_layers} layers and {len(outside)} tensors outside them"
    )
