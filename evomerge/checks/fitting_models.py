"""Whether the models of a genome fit together: architecture, depth, width, positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.checks.reference_model import others_of, reference_of, some
from evomerge.foundations.findings import Finding, error, warning
from evomerge.foundations.reading import real_path
from evomerge.merge_spaces import merge_space_for
from evomerge.models.completeness import weights_of
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.models.family import COMPUTED, ModelPart

N_SHOWN = 5  # differing tensors
_WIDTHS = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
# What changes how positions are seen, and its default where a configuration is silent.
_POSITIONS = (
    "rope_theta",
    "rope_scaling",
    "partial_rotary_factor",
    "sliding_window",
    "max_position_embeddings",
)


def one_folder_each(context: CheckContext) -> Iterator[Finding]:
    """Models that are one folder under several names."""
    first: dict[tuple[object, ...], ModelFacts] = {}
    for model in context.models:
        if model.folder is None:
            continue
        adapter = model.adapter
        place = adapter and (real_path(adapter.folder) if adapter.folder else adapter.name)
        other = first.setdefault((real_path(model.folder), place), model)
        if other is not model:
            yield warning(
                f"{model.name} is the same folder as {other.name} ({other.key}), and is merged as"
                " another model",
                model.key,
                "Name it once, or in the same way.",
            )


def architectures(context: CheckContext) -> Iterator[Finding]:
    """Models of several architectures."""
    reference = reference_of(context)
    for model in others_of(context):
        if reference is None or not (model.architecture and reference.architecture):
            continue
        if model.architecture != reference.architecture:
            yield error(
                f"{model.name} has architecture {model.architecture}, expected"
                f" {reference.architecture} as {reference.name}",
                model.key,
                _fix_for_parts(reference, model),
            )


def _fix_for_parts(*models: ModelFacts) -> str:
    has_parts = ["text_config" in model.config for model in models]
    if any(has_parts) and not all(has_parts):
        text, whole = sorted(models, key=lambda model: "text_config" in model.config)
        return (
            "mergekit merges no text model into one that sees: merge a copy of the latter with its"
            f" weights, `evomerge graft {text.name} {whole.name} -o FOLDER`."
        )
    return "Merge models of one architecture."


def depths(context: CheckContext) -> Iterator[Finding]:
    """Models of several depths, with the depth of every model, where all merge layer by layer."""
    if merge_space_for(context.genome.genome).mixes_depths:
        return
    for reference, model in _pairs(context):
        expected, got = (_n_layers(one) for one in (reference, model))
        if expected != got:
            yield error(
                f"{model.name} has {got} layers, expected {expected} as {reference.name}",
                model.key,
                "Merge models of equal depth.",
            )


def parts_beside(context: CheckContext) -> Iterator[Finding]:
    """Models whose parts beside the language model, e.g. those that see, have other layers."""
    for reference, model in _pairs(context):
        expected, got = (_layers_beside(one) for one in (reference, model))
        differing = [name for name in expected if expected[name] != got.get(name)]
        for name in differing:
            yield error(
                f"{name} of {model.name} has {got.get(name, 0)} layers, expected {expected[name]}"
                f" as {reference.name}",
                model.key,
                "Merge models that see with towers of one kind.",
            )


def _layers_beside(model: ModelFacts) -> dict[str, int]:
    """Layers of its parts beside the language model; none where its family is not known."""
    family = family_of(model)
    parts = {} if family is None else family.parts
    return {name: part.n_layers for name, part in parts.items() if not _writes(part)}


def _writes(part: ModelPart) -> bool:
    """Whether it is the language model, of whose depth others tell."""
    return any(weight.vocabulary_axis is not None for weight in part.before)


def own_depths(context: CheckContext) -> Iterator[Finding]:
    """Models whose configuration names another number of layers than their weights have."""
    for model in context.models:
        family = family_of(model)
        if family is None:
            continue
        n_layers = family.n_layers(model)
        for key in ("num_hidden_layers", "n_layer"):
            told = model.text_config.get(key, n_layers)
            if n_layers and told != n_layers:
                yield error(
                    f"{key} of {model.name} is {told!r}, its weights have {n_layers} layers",
                    model.key,
                    "Mend its config.json, or download the model again.",
                )


def widths(context: CheckContext) -> Iterator[Finding]:
    """Tensors of other shapes; numbers of tokens apart."""
    for reference, model in _comparable(context):
        axes = {w.name: w.vocabulary_axis for w in weights_of(reference)}
        differing = [
            name
            for name in sorted(reference.tensors.keys() & model.tensors.keys())
            if not _fits(reference, model, name, axes.get(name))
        ]
        if differing:
            shapes = ", ".join(
                f"{name} {list(model.tensors[name].shape)}, expected"
                f" {list(reference.tensors[name].shape)}"
                for name in differing[:N_SHOWN]
            )
            yield error(
                f"{len(differing)} tensors of {model.name} have other shapes than in"
                f" {reference.name}{_changed_widths(reference, model)}: {shapes}",
                model.key,
                "Merge models of equal width.",
            )
        else:
            yield from _heads(reference, model)


def _heads(reference: ModelFacts, model: ModelFacts) -> Iterator[Finding]:
    """Other numbers of heads in tensors of equal shape."""
    changed = _changed_widths(reference, model)
    if changed:
        yield error(
            f"the tensors of {model.name} have the shapes of {reference.name} and another"
            f" meaning{changed}",
            model.key,
            "Merge models of equal width.",
        )


def _fits(reference: ModelFacts, model: ModelFacts, name: str, axis: int | None) -> bool:
    expected, got = list(reference.tensors[name].shape), list(model.tensors[name].shape)
    if axis is not None and axis < len(got) == len(expected):
        got[axis] = expected[axis]
    return got == expected or name.endswith(COMPUTED)


def _changed_widths(reference: ModelFacts, model: ModelFacts) -> str:
    changed = []
    for key in _WIDTHS:
        expected, got = (one.text_config.get(key) for one in (reference, model))
        if expected is not None and got is not None and expected != got:
            changed.append(f"{key} {got}, expected {expected}")
    return f" ({'; '.join(changed)})" if changed else ""


def tensor_names(context: CheckContext) -> Iterator[Finding]:
    """Optional tensors that only one of two models has; the head apart, which may be tied."""
    for reference, model in _comparable(context):
        both = {w.name for w in weights_of(reference)} & {w.name for w in weights_of(model)}
        optional = {
            w.name
            for w in weights_of(reference)
            if w.is_optional and w.vocabulary_axis is None and w.name in both
        }
        differing = sorted(optional & (reference.tensors.keys() ^ model.tensors.keys()))
        if differing:
            yield error(
                f"{len(differing)} tensors are in only one of {model.name} and {reference.name}:"
                f" {some(differing)}",
                model.key,
                "Merge models saved in the same form.",
            )


def positions(context: CheckContext) -> Iterator[Finding]:
    """Models that see positions in other ways."""
    for reference, model in _pairs(context):
        changed = [
            f"{key} {got!r}, in {reference.name} {expected!r}"
            for key in _POSITIONS
            if (got := _position(model, key)) != (expected := _position(reference, key))
        ]
        if changed:
            yield warning(
                f"{model.name} was trained to see positions in another way: {'; '.join(changed)}",
                model.key,
                "Expect damage in long texts, or merge models of one kind.",
            )


def _position(model: ModelFacts, key: str) -> Any:
    """A setting of positions; transformers 5 moved some of them into ``rope_parameters``."""
    config = model.text_config
    rope = config.get("rope_parameters")
    rope = dict(rope) if isinstance(rope, dict) else {}
    if key == "rope_theta":
        return config.get(key, config.get("rotary_emb_base", rope.get(key, 10000.0)))
    if key == "partial_rotary_factor":
        return config.get(key, config.get("rotary_pct", rope.get(key)))
    if key == "sliding_window" and config.get("use_sliding_window") is False:
        return None
    if key == "rope_scaling":
        scaling = config.get(key) or rope
        return _scaling(scaling) if isinstance(scaling, dict) else scaling
    return config.get(key)


def _scaling(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How positions are stretched; None where they are not."""
    moved = ("rope_theta", "partial_rotary_factor", "type")
    kept = {key: value for key, value in settings.items() if key not in moved}
    kept.setdefault("rope_type", settings.get("type", "default"))
    return None if kept == {"rope_type": "default"} else kept


def _pairs(context: CheckContext) -> Iterator[tuple[ModelFacts, ModelFacts]]:
    """The reference with every other model of the same architecture."""
    reference = reference_of(context)
    if reference is None or not reference.architecture:
        return
    for model in others_of(context):
        if model.architecture == reference.architecture:
            yield reference, model


def _comparable(context: CheckContext) -> Iterator[tuple[ModelFacts, ModelFacts]]:
    """Pairs whose tensors of one name meet in a merge."""
    mixes = merge_space_for(context.genome.genome).mixes_depths
    for reference, model in _pairs(context):
        if mixes or _n_layers(reference) == _n_layers(model):
            yield reference, model


def _n_layers(model: ModelFacts) -> int:
    family = family_of(model)
    return family.n_layers(model) if family is not None else 0
