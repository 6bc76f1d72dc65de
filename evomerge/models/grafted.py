"""Which tensor of a text model takes the place of which in the language part of one that sees.

mergekit merges no text model into one that sees; a copy of such a model with its weights it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.foundations.errors import ModelError, Problem
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.models.family import COMPUTED, Family, ModelPart

_N_SHOWN = 3
_HEEDED = ("hidden_act", "rms_norm_eps", "rope_theta", "num_attention_heads")
_INSIDE, _PLAIN = "model.language_model.", "model."


def grafts(text: ModelFacts, whole: ModelFacts) -> Mapping[str, str]:
    """Name in the model that sees -> name in the text model, of every tensor that is replaced.

    A head that the text model ties to its embeddings is these.

    Raises:
        ModelError: they do not fit; everything that files show at once.
    """
    families = family_of(text), family_of(whole)
    problems = [
        Problem(f"architecture {model.architecture} is no {what} that mergekit knows", model.name)
        for model, family, what, has_parts in zip(
            (text, whole), families, ("text model", "model that sees"), (False, True), strict=True
        )
        if family is None or not family.layer or bool(family.parts) != has_parts
    ]
    if problems or families[0] is None or families[1] is None:
        raise ModelError.of(problems)
    found, lacking = _found(text, families[0], whole, families[1])
    problems = [*_misfits(text, whole, found, lacking)]
    if problems:
        raise ModelError.of(problems)
    return found


def other_settings(text: ModelFacts, whole: ModelFacts) -> Iterator[str]:
    """What the weights of the text model meet in the one that sees that is not as they know it."""
    kind, other = (one.text_config.get("model_type") for one in (text, whole))
    if isinstance(kind, str) and isinstance(other, str) and not _is_kin(kind, other):
        yield (
            f"model_type of {text.name} is {kind!r}, of the language part of {whole.name} {other!r}"
        )
    tokens = [one.tokenizer and one.tokenizer.digest for one in (text, whole)]
    if None not in tokens and tokens[0] != tokens[1]:
        yield f"the tokenizer of {text.name} is another than that of {whole.name}, which is kept"
    for key in _HEEDED:
        got, expected = (_setting(model.text_config, key) for model in (text, whole))
        if None not in (got, expected) and got != expected:
            yield f"{key} of {text.name} is {got!r}, {whole.name} has {expected!r}"


def _is_kin(text: str, whole: str) -> bool:
    """Whether types are one model; the part of one that sees may have its name: qwen3_vl_text."""
    return whole.startswith(text.removesuffix("_text"))


def _setting(config: Mapping[str, Any], key: str) -> Any:
    """Transformers 5 has moved some of them into ``rope_parameters``."""
    rope = config.get("rope_parameters")
    return config.get(key, rope.get(key) if isinstance(rope, dict) else None)


def _found(
    text: ModelFacts, family: Family, whole: ModelFacts, seeing: Family
) -> tuple[dict[str, str], list[str]]:
    """What takes whose place, and places that nothing takes."""
    found: dict[str, str] = {}
    lacking: list[str] = []
    part = ModelPart(seeing.before, seeing.layer, seeing.after, seeing.n_layers(whole))
    heads = {weight.name for weight in seeing.after if weight.vocabulary_axis is not None}
    embeddings = [w.name for w in family.before if w.vocabulary_axis is not None]
    for name in (weight.name for weight in part.weights() if weight.name in whole.tensors):
        own = _plain(name)
        if own in text.tensors:
            found[name] = own
        elif name in heads and embeddings and embeddings[0] in text.tensors:
            found[name] = embeddings[0]
        else:
            lacking.append(name)
    return found, lacking


def _plain(name: str) -> str:
    """What a tensor of the language part is called in a text model."""
    return name.removeprefix("language_model.").replace(_INSIDE, _PLAIN, 1)


def _misfits(
    text: ModelFacts, whole: ModelFacts, found: Mapping[str, str], lacking: Sequence[str]
) -> Iterator[Problem]:
    if lacking:
        yield Problem(f"{text.name} has nothing for {_some(lacking)} of {whole.name}", text.name)
    rest = text.tensors.keys() - set(found.values())
    left = sorted(name for name in rest if not name.endswith(COMPUTED))
    if left:
        yield Problem(
            f"{whole.name} has no place for {_some(left)}",
            text.name,
            "Take models whose language parts are of one kind and size.",
        )
    shapes = {
        name: (text.tensors[own].shape, whole.tensors[name].shape) for name, own in found.items()
    }
    differing = [
        f"{name} {list(got)}, expected {list(expected)}"
        for name, (got, expected) in shapes.items()
        if got != expected
    ]
    if differing:
        yield Problem(
            f"{len(differing)} tensors have other shapes than in {whole.name}: {_some(differing)}",
            text.name,
            "Take models whose language parts are of one kind and size.",
        )


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _N_SHOWN else ""
    return ", ".join(names[:_N_SHOWN]) + more
