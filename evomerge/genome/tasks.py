"""The part of the genome that says how candidates are judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

STRICT = ConfigDict(extra="forbid", frozen=True, strict=False)


class Task(BaseModel):
    """One lm-eval task and the metric read from it."""

    model_config = STRICT

    name: str = Field(
        description="lm-eval task name, or the `task:` of a YAML found in `task_search_path`."
    )
    metric: str | None = Field(
        None,
        description="`metric` or `metric,filter` as lm-eval names it. Default: `acc,none` where "
        "the task has it, else the task's only metric.",
    )
    weight: float = Field(
        1.0, description="Share in `weighted_sum`; any finite number.", allow_inf_nan=False
    )
    limit: Annotated[int, Field(ge=1)] | None = Field(
        None, description="First so many documents. Default: the top-level `limit`."
    )
    num_fewshot: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Worked examples in each prompt. Default: the top-level `num_fewshot`, "
        "else the task's own.",
    )
    samples: Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        description="So many documents drawn at random (seeded), or the list of their indices.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_subset(self) -> Task:
        if self.limit is not None and self.samples is not None:
            raise ValueError("limit and samples both choose the documents; give one of them")
        return self


class Evaluation(BaseModel):
    """How lm-eval runs the live model."""

    model_config = STRICT

    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Rows per forward pass, or `auto`: a fixed budget of tokens per pass."
    )
    device: str = Field(
        "auto", description="`auto` (cuda where there is one), `cpu`, `cuda`, `cuda:1`, `mps`."
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Dtype of the forward pass. Default: the recipe's own."
    )
    apply_chat_template: bool | str | None = Field(
        None,
        description="Wrap prompts in the chat template (or the named one). Default: yes where "
        "the tokenizer has a template.",
    )
    fewshot_as_multiturn: bool | None = Field(
        None, description="Worked examples as turns of the chat. Default: as apply_chat_template."
    )
    system_instruction: str | None = Field(None, description="System message of every prompt.")
    gen_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Overrides of the tasks' generation settings."
    )
