"""Whether mergekit finds every tensor it needs in each model, and drops none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evomerge.findings import Finding, error, warning
from evomerge.inspection.conversion import unconvertible
from evomerge.inspection.facts import ModelFacts
from evomerge.inspection.families import COMPUTED, Weight, family_of
from evomerge.preflight.reference import others_of, reference_of, some
from evomerge.preflight.subject import Subject

_OLD_BUFFERS = (".attention.bias", ".masked_bias", ".rotary_emb.inv_freq")


def complete(subject: Subject) -> Iterator[Finding]:
    """Tensors that mergekit needs and the model lacks, or that it has and mergekit would drop."""
    for model in subject.models:
        weights = weights_of(model)
        if not weights:
            continue
        lacking = [
            w.name for w in weights if not w.is_optional and not set(w.names) & model.tensors.keys()
        ]
        known = {name for weight in weights for name in weight.names}
        unknown = [n for n in model.tensors if n not in known and not n.endswith(COMPUTED)]
        needed = unconvertible(model, lacking)
        renaming = _renaming(needed, unknown)
        if renaming:
            yield error(
                f"tensor names of {model.name} begin with {renaming[0]!r}, expected"
                f" {renaming[1]!r}",
                model.key,
                f"Save it with the class {model.architecture}.",
            )
        elif needed:
            yield _lacks(model, needed)
        elif unknown and not lacking:  # a conversion takes unknown tensors for lacking ones
            yield error(
                f"mergekit knows no tensors {some(sorted(unknown))} in {model.architecture} and"
                " would leave them out",
                model.key,
                "Use a model whose tensors mergekit knows all.",
            )


def weights_of(model: ModelFacts) -> Sequence[Weight]:
    """The tensors mergekit expects in a model; none where its files or family are not known."""
    if not model.tensors or model.missing or model.broken:
        return ()
    family = family_of(model)
    return () if family is None else tuple(family.weights(family.n_layers(model)))


def _lacks(model: ModelFacts, needed: Sequence[str]) -> Finding:
    buffers = [name for name in needed if name.endswith(_OLD_BUFFERS)]
    if model.config.get("model_type") == "gpt_neox" and buffers:
        return error(
            f"{model.name} lacks {some(needed)}, which transformers 5 no longer writes and mergekit"
            " still needs",
            model.key,
            "Use files that were saved by transformers 4, as they are on the Hub.",
        )
    return error(
        f"{model.name} lacks {len(needed)} tensors that {model.architecture} needs: {some(needed)}",
        model.key,
        "Save it with the class it was trained with, and config.json as it was then.",
    )


def _renaming(needed: Sequence[str], unknown: Sequence[str]) -> tuple[str, str] | None:
    """The beginning of the unknown names, and what in its place makes them all that is needed."""
    if not needed:
        return None
    available = set(unknown)
    wanted = needed[0].split(".")
    for candidate in unknown:
        got = candidate.split(".")
        n_equal = 0
        while n_equal < min(len(got), len(wanted)) and got[-1 - n_equal] == wanted[-1 - n_equal]:
            n_equal += 1
        old, new = (
            "".join(f"{part}." for part in parts[: len(parts) - n_equal]) for parts in (got, wanted)
        )
        if n_equal and all(
            name.startswith(new) and old + name.removeprefix(new) in available for name in needed
        ):
            return old, new
    return None


def tied_heads(subject: Subject) -> Iterator[Finding]:
    """A head that is tied to the embeddings in some models and a tensor of its own in others."""
    reference = reference_of(subject)
    if reference is None:
        return
    tied = _has_own_head(reference)
    for model in others_of(subject):
        other = _has_own_head(model)
        if None in (tied, other) or tied == other:
            continue
        first, second = (reference, model) if tied else (model, reference)
        yield warning(
            f"the head of {second.name} is tied to its embeddings, {first.name} has one of its own;"
            " mergekit takes the embeddings for the missing head",
            model.key,
        )


def _has_own_head(model: ModelFacts) -> bool | None:
    """None where the family is not known."""
    family = family_of(model) if model.tensors else None
    heads = [w for w in family.after if w.vocabulary_axis is not None] if family else []
    return any(weight.name in model.tensors for weight in heads) if heads else None


def lost_heads(subject: Subject) -> Iterator[Finding]:
    """A head that the configuration promises and the files do not hold."""
    for model in subject.models:
        is_tied = model.text_config.get("tie_word_embeddings")
        if is_tied is False and _has_own_head(model) is False and weights_of(model):
            yield warning(
                f"{model.name} has no tensor for its head although tie_word_embeddings is false;"
                " mergekit takes the embeddings",
                model.key,
                "Set tie_word_embeddings: true in its config.json if its head is tied.",
            )
