"""Merges joined into a mixture of experts: documents, and the one that ``mergekit-moe`` reads.

Every expert gives the MLP of each layer; attention, norms, embeddings and head are the base's. A
router chooses ``experts_per_token`` of them per token and layer, by gates that are drawn at random
or made from prompts. Merges that mergekit-multi builds first may stand for models; they are
documents with names before the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.base import Command, Hear, Use
from evomerge.recipe.file import heard
from evomerge.recipe.keys import Ignored, entries, unknown_keys
from evomerge.recipe.moe_outputs import GateMode
from evomerge.recipe.on_merges import OnMerges
from evomerge.recipe.recipe_text import to_text
from evomerge.recipe.walk import merged_in

JOINED = frozenset(("base_model", "experts", "gate_mode", "dtype", "experts_per_token")) | {
    "shared_experts",
    "architecture",
}
EXPERT = frozenset(("source_model", "positive_prompts", "negative_prompts")) | {
    "noise_scale",
    "residual_scale",
}
GATE_MODES: tuple[str, ...] = get_args(GateMode)
DRAWN = ("random", "uniform_random")
OF_STATES = ("hidden", "hidden_avg", "hidden_last")  # of prompts that the base reads
_JOINED = "moe.yml"


class Moe(OnMerges):
    """Experts, each a model or a merge, and how they are joined."""

    key = "moe"
    program = "mergekit-moe"
    unadapted = "a mixture of experts has other tensors than any of its models"

    @classmethod
    def takes(cls, documents: Sequence[YamlFile]) -> bool:
        """Experts stand in the last document."""
        data = documents[-1].data
        return isinstance(data, dict) and "experts" in data and "merge_method" not in data

    @classmethod
    def said(cls, document: YamlFile, hear: Hear) -> dict[str, Any]:
        """See :meth:`OnMerges.said`: all that mergekit-moe reads."""
        return heard(document, _ignored(document.data), hear)

    @classmethod
    def flaws(cls, last: Mapping[str, Any]) -> Iterator[str]:
        """See :meth:`OnMerges.flaws`."""
        return wrong_with(last)

    @classmethod
    def commands(
        cls, config: Mapping[str, Any], files: Sequence[str], out: str, stages: str
    ) -> tuple[Command, ...]:
        """The merges, where there are some, then what joins them."""
        *merges, joined = files
        joining = Command(cls.program, "mergekit.scripts.moe", (joined, out))
        return (*cls.built_before(merges, stages), joining)

    @classmethod
    def files(cls, config: Mapping[str, Any], stages: str) -> dict[str, str]:
        """The merges, and what joins them from the folders where these are built."""
        return {**super().files(config, stages), _JOINED: to_text(cls.placed(config, stages))}

    @classmethod
    def uses(cls, config: Mapping[str, Any]) -> tuple[Use, ...]:
        """Its parts: the base without MLPs, the experts without anything else."""
        from evomerge.recipe.joined_parts import uses_of  # which stands upon this module

        return uses_of(config)

    @classmethod
    def drawn(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The gates, unless prompts make them."""
        return ("gates",) if config["moe"].get("gate_mode") in DRAWN else ()


def joined_in(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What mergekit-moe reads of a configuration; empty where it is of another kind."""
    joined: Mapping[str, Any] = config.get(Moe.key, {})
    return joined


def wrong_with(joined: Mapping[str, Any]) -> Iterator[str]:
    """Why mergekit-moe 0.1.5 would stop, as far as its document alone shows.

    Args:
        joined: The document.
    """
    experts = joined.get("experts")
    shared = joined.get("shared_experts") or []
    mode = joined.get("gate_mode", "hidden")
    n_chosen = joined.get("experts_per_token", 2)
    if not _are_experts(experts) or not experts:
        yield f"experts is {experts!r}, expected a list of mappings, each with a source_model"
        return
    if not _are_experts(shared):
        yield f"shared_experts is {shared!r}, expected such a list"
        return
    named = [joined.get("base_model"), *(one["source_model"] for one in (*experts, *shared))]
    for value in named:
        if len(merged_in({"model": value})) != 1:
            yield f"base_model or a source_model is {value!r}, which names no model"
            return
    models = [merged_in({"model": value})[0] for value in named]
    for model in models:
        if model.lora is not None:
            yield f"{model} has an adapter, which mergekit-moe cannot fold: merge it in a document"
    for model in models[len(experts) + 1 :]:
        if model not in models[: len(experts) + 1]:
            yield f"the shared expert {model} is neither the base nor an expert: mergekit-moe "
            "opens no other model"
    if mode not in GATE_MODES:
        yield f"unknown gate_mode {mode!r}, expected one of {', '.join(GATE_MODES)}"
    if not isinstance(n_chosen, int) or not 1 <= n_chosen <= len(experts):
        yield f"experts_per_token is {n_chosen!r}, expected 1 to {len(experts)}, the experts"
    if mode != "random":
        yield from _wrong_prompts(experts, shared)
        if len(set(models[1 : len(experts) + 1])) == 1:
            yield f"all experts are {models[1]}, so that a router has nothing to choose"


def _are_experts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, Mapping) and "source_model" in one for one in value
    )


def _wrong_prompts(
    experts: Sequence[Mapping[str, Any]], shared: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Experts whose gates cannot be made."""
    for index, expert in enumerate(experts):
        if not expert.get("positive_prompts"):
            yield f"experts[{index}] has no positive_prompts, of which its gate is made"
    for one in (*experts, *shared):
        for key in ("positive_prompts", "negative_prompts"):
            prompts = one.get(key) or []
            if not (isinstance(prompts, list) and all(isinstance(text, str) for text in prompts)):
                yield f"{key} is {prompts!r}, expected a list of texts"
    first, *others = [
        (one.get("positive_prompts"), one.get("negative_prompts") or []) for one in experts
    ]
    if others and all(one == first for one in others):
        yield "the prompts of all experts are the same, so that a router has nothing to choose"


def _ignored(joined: Mapping[str, Any]) -> Iterator[Ignored]:
    """Keys of the document that mergekit-moe does not read."""
    yield from unknown_keys(joined, (), JOINED)
    for key in ("experts", "shared_experts"):
        for index, expert in entries(joined.get(key)):
            yield from unknown_keys(expert, (key, index), EXPERT)
