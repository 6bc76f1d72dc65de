"""The settings of ``space: moe``: its experts, and how mergekit-moe joins them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from evomerge.genome.block import Block, Number, Whole, fits
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces.base import SpaceSettings
from evomerge.recipe.moe_outputs import GateMode, OutputName


class MoeExpert(Block):
    """One expert: a model as it is, or a merge for which keys of ``genome:`` hold anew."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: ModelName | None = Field(None, description="A model as it is; absent: a merge.")
    positive_prompts: list[str] = Field(
        default_factory=list, description="Texts that are to go to this expert."
    )
    negative_prompts: list[str] = Field(
        default_factory=list, description="Texts that are not to go to it."
    )
    residual_scale: Number | None = Field(
        None, description="By which its down projections are multiplied."
    )

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A model's name, or the block."""
        return {"anyOf": [{"type": "string", "minLength": 1}, handler(core)]}

    @property
    def merge(self) -> dict[str, Any]:
        """What it says of its merge."""
        return dict(self.model_extra or {})

    @fits("model")
    def _one_of_both(self) -> Iterator[MisfitError]:
        if self.model is not None and self.merge:
            keys = ", ".join(sorted(self.merge))
            yield MisfitError(f"a model as it is has no {keys}", fix="Remove one of them.")


class SharedExpert(Block):
    """An expert that every token goes to as well."""

    expert: Annotated[Whole, Field(ge=1)] = Field(description="Number of the expert, from 1.")
    positive_prompts: list[str] = Field(default_factory=list, description="As an expert's.")
    negative_prompts: list[str] = Field(default_factory=list, description="As an expert's.")


class MoeSettings(SpaceSettings):
    """What mergekit-moe reads beside the merges."""

    experts: Annotated[list[MoeExpert], Field(min_length=2)] = Field(
        description="Each a model's name, or a block with prompts and any keys of `genome:`, which "
        "hold for its merge instead of those above. Attention, norms, embeddings and head are the "
        "first one's; of the others the MLPs alone are searched."
    )
    gate_mode: GateMode = Field(
        "hidden",
        description="How the router's gates are made: of hidden states of the prompts, of their "
        "embeddings, or drawn with the merge seed.",
    )
    experts_per_token: Annotated[Whole, Field(ge=1)] = Field(
        2, description="Experts that a token goes to in each layer."
    )
    shared_experts: list[SharedExpert] = Field(
        default_factory=list,
        description="Experts that every token goes to as well, `{expert: 1}`; with prompts where "
        "they have a gate.",
    )
    architecture: OutputName | None = Field(
        None, description="What comes of it; absent: the first that mergekit-moe makes."
    )

    @fits("experts", "experts_per_token")
    def _enough_experts(self) -> Iterator[MisfitError]:
        if self.experts_per_token > len(self.experts):
            what = f"{self.experts_per_token} of {len(self.experts)} experts"
            yield MisfitError(what, "experts_per_token", fix="Make it smaller, or add experts.")

    @fits("experts", "shared_experts")
    def _shared_are_there(self) -> Iterator[MisfitError]:
        for index, shared in enumerate(self.shared_experts):
            if shared.expert > len(self.experts):
                what = f"there are {len(self.experts)} experts, got number {shared.expert}"
                yield MisfitError(what, "shared_experts", index, "expert")
        if len({bool(one.positive_prompts) for one in self.shared_experts}) > 1:
            what = "some have positive_prompts and some have none"
            yield MisfitError(what, "shared_experts", fix="Give all of them prompts, or none.")

    @fits("experts", "gate_mode")
    def _prompts_for_gates(self) -> Iterator[MisfitError]:
        if self.gate_mode == "random":
            return
        lacking = [i for i, one in enumerate(self.experts) if not one.positive_prompts]
        for index in lacking:
            yield MisfitError(
                f"is missing: gate_mode: {self.gate_mode} needs it of every expert",
                *("experts", index, "positive_prompts"),
                fix="Add texts that are to go to it, or use gate_mode: random.",
            )
        first, *others = [(one.positive_prompts, one.negative_prompts) for one in self.experts]
        if not lacking and all(one == first for one in others):
            what = "all have the same prompts, so that a router has nothing to choose"
            yield MisfitError(what, "experts", fix="Give each its own, or use gate_mode: random.")
