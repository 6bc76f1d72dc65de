"""How candidates are judged: `tasks:` and `evaluation:` of the genome."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from evomerge.genome.block import Block, Number, Whole, fits
from evomerge.genome.misfit import MisfitError

_DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu|npu|hpu)(:\d+)?")


def _known_device(name: str) -> str:
    if not _DEVICE.fullmatch(name):
        raise MisfitError(f"got {name!r}, expected auto, cpu, cuda, cuda:1 or mps")
    return name


class Task(Block):
    """One lm-eval task and the metric read from it."""

    name: str = Field(
        description="lm-eval task name, or the `task:` of a YAML found in `task_search_path`."
    )
    metric: str | None = Field(
        None,
        description="`metric` or `metric,filter` as lm-eval names it. Default: `acc,none` where "
        "the task has it, else the task's only metric.",
    )
    weight: Number = Field(
        1.0,
        description="Share in `weighted_sum`; any finite number; 0 watches the task.",
        allow_inf_nan=False,
    )
    limit: Annotated[Whole, Field(ge=1)] | None = Field(
        None,
        description="First so many documents. Default: the top-level `limit` in `tasks`, "
        "`validation_limit` and `holdout_limit` in these.",
    )
    num_fewshot: Annotated[Whole, Field(ge=0)] | None = Field(
        None,
        description="Worked examples in each prompt. Default: the top-level `num_fewshot`, "
        "else the task's own.",
    )
    samples: Annotated[Whole, Field(ge=1)] | list[Annotated[Whole, Field(ge=0)]] | None = Field(
        None,
        description="So many documents drawn at random (seeded), or the list of their indices.",
    )

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @fits("limit", "samples")
    def _one_subset(self) -> Iterator[MisfitError]:
        if self.limit is not None and self.samples is not None:
            yield MisfitError("limit and samples both choose the documents; give one of them")


class Evaluation(Block):
    """How lm-eval runs the live model."""

    batch_size: Annotated[Whole, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Rows per forward pass, or `auto`: a fixed budget of tokens per pass."
    )
    device: Annotated[str, AfterValidator(_known_device)] = Field(
        "auto", description="`auto` (cuda where there is one), `cpu`, `cuda`, `cuda:1`, `mps`."
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None,
        description="Dtype of the forward pass. Default: that of the merged model; `float32` on a "
        "CPU without instructions for it.",
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
    engine: Literal["fast", "reference"] = Field(
        "fast",
        description="`reference` merges with mergekit's own kernels and scores plain rows: slower, "
        "the same results.",
    )
