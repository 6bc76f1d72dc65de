"""The `genome:` block: which models, which way of merging, what may vary."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from evomerge.errors import UnknownNameError
from evomerge.genome.models import ModelName
from evomerge.genome.parameters import Settings
from evomerge.genome.source import MisfitError
from evomerge.methods import Base, method_named

STRICT = ConfigDict(extra="forbid", frozen=True)
Dtype = Literal["float32", "bfloat16", "float16"]
Granularity = Literal["model", "layers", "layer", "parameter", "tensor"]


class Source(BaseModel):
    """One model to merge, and what is particular to it."""

    model_config = STRICT

    model: ModelName = Field(description="Hub id, folder, `model+lora`, `model@revision`.")
    parameters: dict[str, Settings] = Field(
        default_factory=dict, description="Settings that hold for this model only."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"model": value}
        if isinstance(value, dict) and (
            "lora" in value or not set(value) & {"model", "parameters"}
        ):
            return {"model": value}  # the name itself is a mapping
        return value


class TokenizerBlock(BaseModel):
    """mergekit's `tokenizer:` block, handed through."""

    model_config = STRICT

    source: str = Field(description="`union`, `base`, or one of the models.")
    tokens: dict[str, Any] = Field(default_factory=dict, description="As mergekit's.")
    pad_to_multiple_of: Annotated[int, Field(ge=1)] | None = Field(
        None, description="As mergekit's."
    )


class MergeDefinition(BaseModel):
    """Which models, which way of merging, what may vary and how finely."""

    model_config = STRICT

    models: Annotated[list[Source], Field(min_length=1)] = Field(
        description="The models to merge; the base need not be among them."
    )
    merge_method: str = Field(description="Any method mergekit registers; `evomerge list methods`.")
    base_model: ModelName | None = Field(
        None, description="What task vectors are measured from; required by most methods."
    )
    parameters: dict[str, Settings] = Field(
        default_factory=dict,
        description="Per mergekit parameter a fixed value, `{range: [low, high], log: true}`, "
        "`{integer: [low, high]}`, `{choice: [...]}`, or a list of these with `filter`.",
    )
    granularity: Granularity | None = Field(
        None,
        description="`model`: one set of values; `layers`: one per `layer_granularity` layers; "
        "`layer`: one per layer; `parameter`: one per kind of tensor; `tensor`: one per tensor. "
        "Embeddings, final norm and head are groups of their own in all but `model`. Absent: "
        "as mergekit-evolve (embeddings follow the first group, norm and head the last).",
    )
    layer_granularity: Annotated[int, Field(ge=0)] = Field(
        0, description="Consecutive layers that share values; 0: all. A remainder is a group."
    )
    filters: list[str] | None = Field(
        None, description="Texts in tensor names that get values of their own."
    )
    smooth: bool = Field(
        False, description="Interpolate between layer groups instead of steps (depth profile)."
    )
    normalize: bool | None = Field(
        None, description="Divide by the sum of the weights; they are then searched as shares."
    )
    allow_negative_weights: bool = Field(
        False, description="Open the range of the weights below 0."
    )
    dtype: Dtype = Field("float32", description="Dtype merges compute in.")
    out_dtype: Dtype | None = Field(
        None, description="Dtype of the merged model. Default: that of the models."
    )
    tokenizer_source: str | None = Field(
        None, description="`union`, `base` or a model: whose vocabulary the merge has."
    )
    tokenizer: TokenizerBlock | None = Field(
        None, description="The long form of tokenizer_source; give one of them."
    )
    chat_template: str | None = Field(
        None, description="`auto`, a name mergekit ships (chatml, llama3, ...) or a Jinja text."
    )

    @field_validator("merge_method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        try:
            return method_named(name).name
        except UnknownNameError as error:
            raise ValueError(str(error)) from error

    @field_validator("layer_granularity", mode="before")
    @classmethod
    def _none_below_one(cls, value: Any) -> Any:
        return max(value, 0) if isinstance(value, int) else value  # as mergekit-evolve reads it

    @model_validator(mode="after")
    def _consistent(self) -> MergeDefinition:
        method = method_named(self.merge_method)
        names = [source.model.text for source in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise MisfitError(f"models stand twice: {', '.join(twice)}", "models")
        if method.base is Base.REQUIRED and self.base_model is None and method.max_sources != 1:
            raise MisfitError(f"is missing: {method.name} measures from a base", "base_model")
        if self.tokenizer is not None and self.tokenizer_source is not None:
            raise MisfitError("stands beside tokenizer_source; give one of them", "tokenizer")
        self._check_layers()
        return self

    def _check_layers(self) -> None:
        if self.granularity == "layers" and self.layer_granularity == 0:
            raise MisfitError("granularity: layers needs it, got 0", "layer_granularity")
        if self.granularity not in (None, "layers") and self.layer_granularity:
            raise MisfitError(
                f"{self.layer_granularity} has no meaning beside granularity: {self.granularity}; "
                "use granularity: layers",
                "layer_granularity",
            )
        if self.smooth and self.granularity is not None:
            raise MisfitError(
                "interpolates between the groups of layer_granularity; leave granularity out",
                "smooth",
            )
        if self.filters and self.granularity in ("parameter", "tensor"):
            raise MisfitError(
                f"stand beside granularity: {self.granularity}, which splits by tensor name too; "
                "drop one",
                "filters",
            )
        if self.filters is not None and len(set(self.filters)) != len(self.filters):
            raise MisfitError(f"filters stand twice: {self.filters}", "filters")
