"""Settings of ``judge:``: what is asked, who judges, and how long it is waited for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from evomerge.endpoint.endpoint_settings import EndpointSettings
from evomerge.endpoint.fields import BaseUrl, ExtraBody, KeyVariable
from evomerge.evaluators.kind_of_task import Languages, TaskSettings
from evomerge.genome.block import Number, Whole, fits
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName

# As FastChat has them; whatever it does not name is written at OTHERWISE.
TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
    "arena-hard-200": 0.0,
}
OTHERWISE = 0.7
REFERENCED = ("math", "reasoning", "coding", "arena-hard-200")

Temperature = Annotated[Number, Field(ge=0, le=2)]


class JudgeSettings(EndpointSettings, TaskSettings):
    """What stands under ``judge:``."""

    questions: str = Field(
        description="`question.jsonl`: `question_id`, `category`, `turns` (one or two), and "
        "perhaps `reference`, in each line."
    )
    prompts: str = Field(
        description="`judge_prompts.jsonl`: `single-v1` and, for second turns and reference "
        "answers, `single-v1-multi-turn`, `single-math-v1`, `single-math-v1-multi-turn`; with an "
        "opponent `pair-v2`, `pair-v2-multi-turn`, `pair-math-v1`, `pair-math-v1-multi-turn`."
    )
    model: str | None = Field(
        None, min_length=1, description="Name of the judge, as its server knows it."
    )
    local_model: ModelName | None = Field(
        None,
        description="In place of `model`: Hub id, `id@revision` or folder of a judge that runs "
        "here, in turns with the model that is scored.",
    )
    base_url: BaseUrl = Field(
        "https://api.openai.com/v1",
        description="Of any OpenAI-compatible API, most often ending in `/v1`.",
    )
    api_key_env: KeyVariable = Field(
        "OPENAI_API_KEY",
        description="The environment variable that holds the key, never the key itself; its name "
        "ends in `API_KEY`. A server on this machine or in its own network needs none.",
    )
    temperature: Temperature | None = Field(
        0.0,
        description="Of the judge; null leaves it out, for models that refuse it.",
    )
    extra_body: ExtraBody = Field(
        default_factory=dict,
        description="Further fields of a request, e.g. `{max_completion_tokens: 2048}`.",
    )
    repeats: Annotated[Whole, Field(ge=1)] = Field(
        1, description="How often each answer is judged; its rating is the mean."
    )
    references: str | None = Field(
        None,
        description="Reference answers, as FastChat's `reference_answer/MODEL.jsonl`; they stand "
        "in for those of the questions.",
    )
    referenced: list[str] = Field(
        list(REFERENCED),
        description="Categories whose questions are judged beside their reference answers.",
    )
    opponent: str | None = Field(
        None,
        description="Answers of a fixed opponent, as FastChat's `model_answer/MODEL.jsonl`: each "
        "answer is compared with its, in both orders, and `win_rate` is the metric.",
    )
    max_tokens: Annotated[Whole, Field(ge=1)] = Field(
        512, description="Tokens of an answer, at most."
    )
    temperatures: dict[str, Temperature] = Field(
        default_factory=dict,
        description="Category -> the temperature at which it is answered, beside those of "
        "FastChat: 0.7 for writing and roleplay, 0.1 for stem and humanities, 0 for extraction, "
        "math, coding, reasoning and arena-hard-200, 0.7 for all others.",
    )
    judge_tokens: Annotated[Whole, Field(ge=1)] = Field(
        1024, description="Tokens of a judgment of a local model, at most."
    )
    device: str = Field(
        "auto", description="Where a local model runs; `auto` is a GPU where there is one."
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Of a local model's weights. Default: that of its files."
    )
    most_missing: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.1,
        description="Share of questions that may have no rating; a trial with more of them fails.",
    )
    parallel: Annotated[Whole, Field(ge=1, le=256)] = Field(
        4, description="Requests that wait at the same time."
    )
    attempts: Annotated[Whole, Field(ge=1, le=1000)] = Field(  # at a minute each 17 hours
        8,
        description="How often a request is sent that comes to nothing: an error, a rate limit, a "
        "time-out. Between them it is waited for as long as the server asks, up to 10 minutes "
        "(who asks for more is asked no more), else 1 second, then twice as long each time, up "
        "to a minute.",
    )
    request_timeout: Annotated[Number, Field(gt=0, allow_inf_nan=False)] = Field(
        120.0, description="Seconds that one request may take."
    )
    prompt_price: Annotated[Number, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Of a million tokens of prompts, in any currency; the cost is told where "
        "both prices are.",
    )
    completion_price: Annotated[Number, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="Of a million tokens of judgments."
    )
    language: Languages = None
    probe: bool = Field(
        True, description="Whether `check` asks the server for a sign of life, which costs nothing."
    )

    @fits("model", "local_model")
    def _one_judge(self) -> Iterator[MisfitError]:
        if (self.model is None) == (self.local_model is None):
            both = self.model is not None
            what = "model and local_model name two judges" if both else "nobody judges"
            yield MisfitError(what, "model", fix="Name a model of an endpoint, or a local_model.")
        name = self.local_model
        if name is not None and (name.is_stage or name.lora is not None):
            yield MisfitError(
                f"{name.text!r} is no judge by itself",
                "local_model",
                fix="Name a Hub id or a folder.",
            )

    @fits("prompt_price", "completion_price")
    def _both_prices(self) -> Iterator[MisfitError]:
        if (self.prompt_price is None) != (self.completion_price is None):
            missing = "prompt_price" if self.prompt_price is None else "completion_price"
            yield MisfitError(
                "no cost can be counted without it", missing, fix="Give both or none."
            )

    @property
    def judge_name(self) -> str:
        """Who judges, for people."""
        if self.local_model is not None:
            return self.local_model.text
        return f"{self.model} at {self.base_url}"

    @property
    def body(self) -> dict[str, Any]:
        """Fields of every request beside model and messages."""
        given = {} if self.temperature is None else {"temperature": self.temperature}
        return {**self.extra_body, **given}

    def temperature_of(self, category: str) -> float:
        """At which the questions of a category are answered."""
        return {**TEMPERATURES, **self.temperatures}.get(category, OTHERWISE)

    def price(self, prompt_tokens: float, completion_tokens: float) -> float | None:
        """What tokens cost; None where that is not known."""
        if self.prompt_price is None or self.completion_price is None:
            return None
        spent = prompt_tokens * self.prompt_price + completion_tokens * self.completion_price
        return spent / 1e6
