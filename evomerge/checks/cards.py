"""What model cards say: licences, and which model a model was made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from evomerge.checks.context import CheckContext
from evomerge.checks.reference_model import others_of, reference_of
from evomerge.foundations.findings import Finding, note, warning
from evomerge.models.ancestry import likeness
from evomerge.models.facts import ModelFacts
from evomerge.models.family import layers_by_names

UNRELATED = 0.5  # correlation of norms; fine-tunes hardly change them
# Words in a licence's tag, strictest first, and what they demand of a merge.
_STRICT = (
    ("-nc", "allows no commercial use"),
    ("noncommercial", "allows no commercial use"),
    ("non-commercial", "allows no commercial use"),
    ("research", "allows research only"),
    ("llama", "has terms of its own on use and naming"),
    ("gemma", "has terms of its own on use"),
    ("other", "has terms of its own"),
    ("openrail", "limits what it may be used for"),
    ("agpl", "asks for the same licence"),
    ("gpl", "asks for the same licence"),
    ("-sa", "asks for the same licence"),
)


def licences(context: CheckContext) -> Iterator[Finding]:
    """The strictest licence, which the merged model has to follow."""
    tags = {model.name: licence_of(model) for model in context.models}
    ranked = [
        (index, name, tag, demand)
        for name, tag in tags.items()
        for index, (word, demand) in enumerate(_STRICT)
        if word in tag
    ]
    if ranked:
        _, name, tag, demand = min(ranked)
        all_tags = ", ".join(f"{n} {t or 'unknown'}" for n, t in tags.items())
        finding = warning if len(set(filter(None, tags.values()))) > 1 else note
        yield finding(
            f"the licence {tag} of {name} {demand}, and binds the merged model (licences:"
            f" {all_tags})",
            "genome.models",
            "Read it before you publish the result.",
        )


def licence_of(model: ModelFacts) -> str:
    """Tag of the licence in lower case; the name where the tag is ``other``; "" if unknown."""
    tag = model.card.get("license")
    if isinstance(tag, list):
        tag = tag[0] if tag else None
    if tag == "other" and isinstance(model.card.get("license_name"), str):
        tag = f"other ({model.card['license_name']})"
    return tag.lower() if isinstance(tag, str) else ""


def ancestors(context: CheckContext) -> Iterator[Finding]:
    """Models of one shape that do not descend from one another.

    Training hardly changes the norms of a model, so those of relatives go up and down
    together. Where the values are not at hand, the cards are asked.
    """
    reference = reference_of(context)
    for model in others_of(context):
        if reference is None or model.architecture != reference.architecture:
            continue
        if layers_by_names(model) != layers_by_names(reference):
            continue  # said elsewhere
        alike = likeness(reference, model)
        if alike is not None and alike < UNRELATED:
            yield warning(
                f"{model.name} does not look like a relative of {reference.name}: their norms"
                f" correlate by {alike:.2f}, expected more than {UNRELATED}",
                model.key,
                "Merge models that were trained from the same base.",
            )
        elif alike is None:
            yield from _by_card(reference, model)


def _by_card(reference: ModelFacts, model: ModelFacts) -> Iterator[Finding]:
    made_from, expected = _origins(model), {_last(reference.name), *_origins(reference)}
    if made_from and "/" in reference.name and not made_from & expected:
        yield warning(
            f"the card of {model.name} says that it was made from {', '.join(sorted(made_from))},"
            f" expected {reference.name}",
            model.key,
            "Merge models that were trained from the same base.",
        )


def _origins(model: ModelFacts) -> set[str]:
    named = model.card.get("base_model")
    listed = named if isinstance(named, list) else [named]
    return {_last(name) for name in listed if isinstance(name, str)}


def _last(name: str) -> str:
    """The name without organisation or folder: copies keep it."""
    return PurePosixPath(name.partition("@")[0]).name.lower()
