"""A model as it is that mergekit cannot read whole: transformers loads it, and nothing merges it.

That is one of an architecture without a definition of mergekit's, or with other tensors than the
definition has: a mixture of experts that mergekit-moe has written, for one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from evomerge.genome.model_names import ModelName
from evomerge.merging.hub_cache import reachable
from evomerge.merging.live_model import LiveModel
from evomerge.merging.live_weights import loaded, model_class, refuse_not_finite
from evomerge.merging.resident import ResidentMerger
from evomerge.models.completeness import can_be_merged
from evomerge.models.inspect import read_model
from evomerge.models.quiet import quiet_transformers
from evomerge.recipe.plain import Recipe


def unbuildable(recipe: Recipe, allow_pickle: Collection[str] = ()) -> ModelName | None:
    """The model that a recipe gives back, where mergekit cannot read it whole.

    Args:
        recipe: Of any kind.
        allow_pickle: Models whose weights may be in pickle files.
    """
    model = recipe.whole_model
    if model is None or model.lora is not None:
        return None
    (here,) = reachable(recipe).models
    facts = read_model(here, may_unpickle=model.text in allow_pickle)
    return here if facts.tensors and not can_be_merged(facts) else None


class WholeModels:
    """Models that transformers loads, one at a time.

    Args:
        resident: On whose device they live, in whose dtype, with what it is allowed.
    """

    def __init__(self, resident: ResidentMerger) -> None:
        self._resident = resident
        self._are_whole: dict[str, bool] = {}
        self._live: tuple[str, LiveModel] | None = None

    def takes(self, recipe: Recipe) -> bool:
        """Whether a recipe gives back a model that mergekit cannot read whole.

        One with an adapter is mergekit's, which folds it, and so is one of another dtype.
        """
        model = recipe.whole_model
        if model is None or model.lora is not None:
            return False
        if recipe.digest not in self._are_whole:
            self._resident.refuse(recipe)
            found = unbuildable(recipe, self._resident.allow_pickle)
            self._are_whole[recipe.digest] = found is not None
        return self._are_whole[recipe.digest]

    def drop(self) -> None:
        """Gives back the memory of the last one."""
        self._live = None

    def live(self, recipe: Recipe) -> LiveModel:
        """The model that a recipe gives back.

        Raises:
            ModelError: its files do not hold all that its class needs, or it is no language model.
            MergeError: a weight is not finite.
        """
        if self._live is None or self._live[0] != recipe.digest:
            self._live = None  # before the next one takes memory
            (model,) = reachable(recipe).models
            self._live = recipe.digest, self._loaded(model)
        return self._live[1]

    def _loaded(self, model: ModelName) -> LiveModel:
        own: dict[str, Any] = {"trust_remote_code": self._resident.trust_remote_code}
        if model.revision is not None:
            own["revision"] = model.revision
        with quiet_transformers():
            config = AutoConfig.from_pretrained(model.path, **own)
            tokenizer = AutoTokenizer.from_pretrained(model.path, **own)
            module = loaded(
                model_class(config),
                model.path,
                config=config,
                dtype=self._resident.dtype or "auto",
                **own,
            )
        refuse_not_finite(module.state_dict().items())
        return LiveModel(module.to(self._resident.device), tokenizer)  # type: ignore[arg-type]  # theirs, untyped
