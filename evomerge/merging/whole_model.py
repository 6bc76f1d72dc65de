"""A model as it is that mergekit cannot read whole: transformers loads it, and nothing merges it.

That is one of an architecture without a definition of mergekit's, or with other tensors than the
definition has: a mixture of experts that mergekit-moe has written, for one.
"""

from __future__ import annotations

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

        One with an adapter is mergekit's: it folds them.
        """
        model = recipe.copied
        if model is None or model.lora is not None:
            return False
        if recipe.digest not in self._are_whole:
            self._resident.refuse(recipe)
            allowed = model.text in self._resident.allow_pickle
            facts = read_model(reachable(recipe).models[0], may_unpickle=allowed)
            self._are_whole[recipe.digest] = bool(facts.tensors) and not can_be_merged(facts)
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
