"""Settings of ``llm``: how it searches, and whom it asks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from evomerge.endpoint.chat import ChatModel, Endpoint
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.genome.source import MisfitError
from evomerge.optimizers.base import Settings

_OURS = ("messages", "model", "response_format", "stream", "temperature")  # not for extra_body
_KEY_NAME = re.compile(r"([A-Z][A-Z0-9_]*_)?API_KEY")
_MAY_HOLD_KEY = re.compile(r"//[^/]*@|[?#]")
_CREDENTIAL = re.compile(  # a field's name in lower case, letters and digits alone
    r"key|token|auth|bearer|.*(apikey|(access|secret|private|auth|subscription)key|passw(or)?d|"
    r"secret|authorization|credentials?|(access|auth|api|bearer|refresh|session|id|hf)token)"
)
_PROBE_SECONDS = 5.0


class LlmSettings(Settings):
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
        sigma_low: Noise around the mean after an improvement, as a share of each range.
        sigma_high: Noise around the mean after none.
        first_generation: ``uniform``, or ``start``: around the start of the search.
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
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    response_format: Literal["json_object", "text"] = "json_object"
    extra_body: dict[str, Any] = Field(default_factory=dict)
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

    @field_validator("base_url")
    @classmethod
    def _is_plain_url(cls, value: str) -> str:
        if _MAY_HOLD_KEY.search(value):  # not shown
            raise ValueError(
                "holds a name, a password, a query or a fragment, expected a plain URL: the key "
                "belongs in the environment variable that api_key_env names"
            )
        try:
            parts = urlsplit(value)
            has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            has_host = False
        if not has_host or parts.scheme not in ("http", "https") or re.search(r"\s", value):
            raise ValueError(f"got {value!r}, expected an http or https URL")
        return value.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _KEY_NAME.fullmatch(value):  # the value is not shown: it may be a key
            raise ValueError(
                "expected the name of an environment variable that ends in API_KEY, not the key"
            )
        return value

    @field_validator("extra_body")
    @classmethod
    def _adds_only(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = [name for name in _OURS if name in value]
        if taken:
            raise ValueError(f"holds {', '.join(taken)}, which evomerge sets itself")
        secrets = [name for name in _names_in(value) if _CREDENTIAL.fullmatch(_plain(name))]
        if secrets:  # their values are not shown
            raise ValueError(
                f"holds {', '.join(secrets)}: the key belongs in the environment variable that "
                "api_key_env names, as this file is copied into the run folder"
            )
        return value

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine or in its own network, where no key is due."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return "." not in host or host.endswith((".local", ".localhost"))
        return address.is_private or address.is_loopback or address.is_link_local

    @property
    def is_overheard(self) -> bool:
        """Whether a key would cross other networks for anyone to read."""
        return self.base_url.lower().startswith("http:") and not self.is_local

    @cached_property
    def sign_of_life(self) -> tuple[str, ...] | NoAnswerError:
        """The models that the server lists, or why it does not answer; asked once."""
        try:
            return self.connect().probe(_PROBE_SECONDS)
        except NoAnswerError as error:
            return error

    @property
    def body(self) -> dict[str, Any]:
        """Fields of every request beside model and messages."""
        body = dict(self.extra_body)
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.response_format != "text":
            body["response_format"] = {"type": self.response_format}
        return body

    def connect(self) -> ChatModel:
        """The model behind the endpoint; nothing is sent yet."""
        return Endpoint(
            self.base_url, self.api_key_env, self.model, self.body, is_local=self.is_local
        )


def _names_in(value: Any) -> Iterator[str]:
    """Every name of a field, however deep."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield str(name)
            yield from _names_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from _names_in(part)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
