"""Whether mergekit finds every tensor it needs in each model, and drops none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evomerge.checks.context import CheckContext
from evomerge.checks.reference_model import some
from evomerge.foundations.counted import counted
from evomerge.foundations.findings import Finding, error
from evomerge.models.completeness import can_be_merged, unmatched, weights_of
from evomerge.models.conversion import unconvertible
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.models.inferred import DEFAULT

# Where a configuration says how many experts a layer has, and what their tensors' names hold.
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_OF_EXPERTS = ("moe", "expert", "router")
_OLD_BUFFERS = (".attention.bias", ".masked_bias", ".rotary_emb.inv_freq")


def complete(context: CheckContext) -> Iterator[Finding]:
    """Tensors that mergekit needs and the model lacks, or that it has and mergekit would drop."""
    for model in context.models:
        if not weights_of(model):
            continue
        found = unmatched(model)
        needed = unconvertible(model, found.lacking)
        renaming = _renaming(needed, found.unknown)
        if renaming:
            yield _other_names(model, *renaming)
        elif needed:
            yield _lacks(model, needed)
        elif not can_be_merged(model):
            yield error(
                f"mergekit knows no tensors {some(sorted(found.unknown))} in"
                f" {model.architecture} and would leave them out",
                model.key,
                "Use a model whose tensors mergekit knows all.",
            )


def _other_names(model: ModelFacts, got: str, expected: str) -> Finding:
    family = family_of(model)
    what, fix = "", f"Save it with the class {model.architecture}."
    if family is not None and DEFAULT in family.parts:
        what = ", and mergekit would leave them out in silence"
        fix = (
            f"Load it with AutoModelForImageTextToText.from_pretrained({model.name!r}), save it"
            " with save_pretrained(FOLDER, save_original_format=False) and name that folder."
        )
    elif family is not None and family.parts:
        fix = "Rename them, or use files with the names that they have on the Hub."
    return error(
        f"tensor names of {model.name} begin with {got!r}, expected {expected!r}{what}",
        model.key,
        fix,
    )


def _lacks(model: ModelFacts, needed: Sequence[str]) -> Finding:
    key = next((key for key in _EXPERTS if model.text_config.get(key) == 0), None)
    if key is not None and all(any(p in name for p in _OF_EXPERTS) for name in needed):
        return error(
            f"mergekit's definition of {model.architecture} has experts in every layer and does"
            f" not know {key}: 0, as config.json of {model.name} has it: {len(needed)} tensors"
            " that it needs are in no such model",
            model.key,
            "Merge models with experts, or another architecture; these files are whole.",
        )
    buffers = [name for name in needed if name.endswith(_OLD_BUFFERS)]
    if model.config.get("model_type") == "gpt_neox" and buffers:
        return error(
            f"{model.name} lacks {some(needed)}, which transformers 5 no longer writes and mergekit"
            " still needs",
            model.key,
            "Use files that were saved by transformers 4, as they are on the Hub.",
        )
    return error(
        f"{model.name} lacks {counted(len(needed), 'tensor')} that {model.architecture}"
        f" needs: {some(needed)}",
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
