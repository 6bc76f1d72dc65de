"""How candidates are judged: `tasks:` and `evaluation:` of the genome."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from evomerge.genome.block import Block, Number, Whole, fits
from evomerge.genome.misfit import MisfitError

NAMED = "name"  # the key of tasks that go by a name, and the only one of mergekit-evolve's files
DEVICES = "auto, cpu, cuda, cuda:1 or mps"  # as people are told
_DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu|npu|hpu)(:\d+)?")


def names_device(name: str) -> bool:
    """Whether a text names a device, be it here or not."""
    return bool(_DEVICE.fullmatch(name))


def _known_device(name: str) -> str:
    if not names_device(name):
        raise MisfitError(f"got {name!r}, expected {DEVICES}")
    return name


class Task(Block):
    """What judges: a key that names its kind, and what tasks of all kinds have in common.

    ``name: arc_easy`` is of one kind, ``perplexity: text.txt`` of another; what stands under the
    key is that kind's own: a text, or a mapping of its settings. ``evomerge list evaluators``.
    """

    model_config = ConfigDict(extra="allow")

    name: str = Field(
        description="lm-eval task name, or the `task:` of a YAML found in `task_search_path`. A "
        "task of another kind has that kind's key in its place, and goes by the text under it, "
        "or by the `name` in the mapping there."
    )
    metric: str | None = Field(
        None,
        description="`metric` or `metric,filter`, as the kind names it. Default: `acc,none` where "
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
        description="Worked examples in each prompt, where the kind has such. Default: the "
        "top-level `num_fewshot`, else the task's own.",
    )
    samples: Annotated[Whole, Field(ge=1)] | list[Annotated[Whole, Field(ge=0)]] | None = Field(
        None,
        description="So many documents drawn at random (seeded), or the list of their indices.",
    )
    language: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="Languages by their codes, e.g. `ja`, for the replies of an lm-eval task that "
        "has texts written: one in none of them is scored as if nothing had been said, and "
        "`in_language` is the share of the others. Needs the extra `language`. Other kinds "
        "that have texts written have it under their own key.",
    )

    @property
    def kind(self) -> str:
        """The key that names its kind."""
        return next(iter(self.model_extra or {}), NAMED)

    @property
    def given(self) -> Any:
        """What stands under that key; of a mapping all but the name it goes by."""
        given = (self.model_extra or {}).get(self.kind, self.name)
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if key != NAMED}

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {NAMED: value}
        kind = cls._kind_in(value)
        if kind is None:
            return value
        given = value[kind]
        named = given.get(NAMED, kind) if isinstance(given, dict) else given
        if isinstance(named, list):
            named = " ".join(map(str, named))
        return {NAMED: kind if named is None else str(named), **value}

    @classmethod
    def _surplus(cls, value: Any) -> Iterable[str]:
        if not isinstance(value, dict):
            return ()
        kind = cls._kind_in(value)
        return [key for key in value if key not in cls.model_fields and key != kind]

    @classmethod
    def _kind_in(cls, value: Any) -> str | None:
        """The key of another kind; None where there is none: a misspelt key of this block is none.

        Which kinds there are, the table of evaluators knows.
        """
        if not isinstance(value, dict) or NAMED in value:
            return None
        others = (key for key in value if isinstance(key, str) and key not in cls.model_fields)
        return next((key for key in others if not get_close_matches(key, cls.model_fields)), None)

    @fits("limit", "samples")
    def _one_subset(self) -> Iterator[MisfitError]:
        if self.limit is not None and self.samples is not None:
            yield MisfitError("limit and samples both choose the documents; give one of them")


class EvaluationBlock(Block):
    """How the live model is run."""

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
        default_factory=dict, description="Overrides of the generation settings of lm-eval's tasks."
    )
    backend: str = Field(
        "transformers",
        description="What runs the model; `evomerge list engines`.",
    )
    exactness: Literal["fast", "reference"] = Field(
        "fast",
        description="`reference` merges with mergekit's own kernels and scores plain rows: slower, "
        "the same results. Older files call it `engine`.",
    )

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "engine" not in value or "exactness" in value:
            return value
        return {{"engine": "exactness"}.get(key, key): given for key, given in value.items()}
