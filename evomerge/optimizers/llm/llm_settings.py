"""Settings of ``llm``: how it searches, and whom it asks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from evomerge.endpoint.endpoint_settings import EndpointSettings
from evomerge.endpoint.fields import BaseUrl, ExtraBody, KeyVariable
from evomerge.genome.misfit import MisfitError
from evomerge.optimizers.base import OptimizerSettings


class LlmSettings(EndpointSettings, OptimizerSettings):
    """Settings of ``llm``; those that the paper has, with its defaults.

    Attributes:
        model: Name of the model, as its server knows it.
        base_url: Of any OpenAI-compatible API, most often ending in ``/v1``.
        api_key_env: Name of the environment variable that holds the key, never the key itself;
            it ends in ``API_KEY``, so that a stranger's genome cannot send away other secrets.
            A server on this machine or in its own network needs none.
        temperature: Of the model; null leaves it out, for models that refuse it.
        response_format: ``json_object``, or ``text`` for servers that know no such field.
        extra_body: Further fields of a request, e.g. ``{max_tokens: 4000}``.
        top_k: Trials the model is shown, the best so far.
        sigma_low: Noise around the mean after an improvement, as a share of six of the
            parameter's steps (0.6 for a weight), or of its range where that is narrower.
        sigma_high: Noise around the mean after none.
        first_generation: ``uniform``, as seen from the start: near it more than far; or
            ``start``: around the start of the search.
        max_retries: Requests per generation, of whatever outcome; then a step is drawn around
            the best trial.
        request_timeout: Seconds one request may take.
        generation_timeout: Seconds that requests and waits of one generation may take together.
        history: Earlier generations that are told in a line each.
        max_prompt_characters: Length of a prompt; a longer one shows fewer trials. English has
            about four characters to a token, numbers two or three.
        prompt_price: Of a million tokens of prompt, in any currency; null if nobody counts.
        completion_price: Of a million tokens of reply.
        probe: Whether a check asks the server for an answer. Without it a run begins though
            nobody answers, and draws its steps around the best trial until somebody does.
    """

    model: str = Field(default="gpt-4o", min_length=1)
    base_url: BaseUrl = "https://api.openai.com/v1"
    api_key_env: KeyVariable = "OPENAI_API_KEY"
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    response_format: Literal["json_object", "text"] = "json_object"
    extra_body: ExtraBody = Field(default_factory=dict)
    top_k: int = Field(default=4, ge=1)
    sigma_low: float = Field(default=0.05, gt=0, le=1)
    sigma_high: float = Field(default=0.2, gt=0, le=1)
    first_generation: Literal["uniform", "start"] = "uniform"
    max_retries: int = Field(default=3, ge=1)
    request_timeout: float = Field(default=60.0, gt=0)
    generation_timeout: float = Field(default=300.0, gt=0)
    history: int = Field(default=5, ge=0)
    max_prompt_characters: int = Field(default=60_000, ge=1)
    prompt_price: float | None = Field(default=None, ge=0)
    completion_price: float | None = Field(default=None, ge=0)
    probe: bool = True

    @model_validator(mode="after")
    def _fits(self) -> LlmSettings:
        if self.sigma_low > self.sigma_high:
            raise MisfitError(
                f"got {self.sigma_low:g}, above sigma_high ({self.sigma_high:g}): the search would "
                "narrow where it stagnates",
                "sigma_low",
                fix="Exchange the two.",
            )
        return self

    @property
    def body(self) -> dict[str, Any]:
        """Fields of every request beside model and messages."""
        body = dict(self.extra_body)
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.response_format != "text":
            body["response_format"] = {"type": self.response_format}
        return body
