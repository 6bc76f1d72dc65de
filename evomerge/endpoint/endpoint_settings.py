"""What all settings that lead to a model behind an endpoint say of it, whatever else they hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

from evomerge.endpoint.chat import ChatModel, Endpoint
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.endpoint.fields import is_local, is_overheard

PROBE_SECONDS = 5.0


class EndpointFields(Protocol):
    """The fields by which they lead to it, most of the types in ``endpoint.fields``."""

    @property
    def model(self) -> str | None:
        """Its name there; None asks for none."""

    @property
    def base_url(self) -> str:
        """Of the API."""

    @property
    def api_key_env(self) -> str:
        """The environment variable that holds the key."""

    @property
    def body(self) -> Mapping[str, Any]:
        """Fields of every request beside model and messages."""

    def connect(self) -> ChatModel:
        """See :class:`EndpointSettings`."""


class EndpointSettings:
    """Added to settings that have the :class:`EndpointFields`."""

    @property
    def is_local(self: EndpointFields) -> bool:
        """Whether the server is on this machine or in its own network, where no key is due."""
        return is_local(self.base_url)

    @property
    def is_overheard(self: EndpointFields) -> bool:
        """Whether a key would cross other networks for anyone to read."""
        return is_overheard(self.base_url)

    @cached_property
    def sign_of_life(self: EndpointFields) -> tuple[str, ...] | NoAnswerError:
        """The models that the server lists, or why it does not answer; asked once."""
        try:
            return self.connect().probe(PROBE_SECONDS)
        except NoAnswerError as error:
            return error

    def connect(self: EndpointFields) -> ChatModel:
        """The model behind the endpoint; nothing is sent yet."""
        near = is_local(self.base_url)
        return Endpoint(self.base_url, self.api_key_env, self.model or "", self.body, is_local=near)
