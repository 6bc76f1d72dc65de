"""Whether a model behind an endpoint can be asked: its key, its server, and that server's list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from evomerge.endpoint.chat import flaw_of_key, key_in
from evomerge.endpoint.endpoint_settings import EndpointFields
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.foundations.errors import Problem, nearest
from evomerge.foundations.text_safety import one_line

_SHOWN = 10  # models of a list
_COMPARED = 1000  # models of a list, of which one may be meant


class Reached(EndpointFields, Protocol):
    """Settings that lead to a model; what is found is told below their own keys."""

    @property
    def is_local(self) -> bool:
        """Whether no key is due."""

    @property
    def is_overheard(self) -> bool:
        """Whether a key would cross other networks for anyone to read."""

    @property
    def sign_of_life(self) -> tuple[str, ...] | NoAnswerError:
        """The models that the server lists, or why it does not answer; asked once."""


def key_obstacles(settings: Reached) -> Iterator[Problem]:
    """A key that is missing, or cannot be sent."""
    name = settings.api_key_env
    if not settings.is_local and not key_in(name):
        yield Problem(
            f"the environment variable {name} is not set, {settings.base_url} needs a key",
            where="api_key_env",
            fix=f"Run `export {name}=...`, or name another variable.",
        )
    flaw = flaw_of_key(name)
    if flaw:
        yield Problem(flaw, where="api_key_env", fix=f"Run `export {name}=...` with the key alone.")


def unreachable(settings: Reached, without: str) -> Iterator[Problem]:
    """A server that does not answer, or refuses the key; it is asked for a sign of life.

    Args:
        settings: That lead there.
        without: What a run does that begins without it.
    """
    answer = settings.sign_of_life
    if not isinstance(answer, NoAnswerError):
        return
    if answer.status in (401, 403):
        yield Problem(
            f"{settings.base_url} refuses the key ({answer.reason})",
            where="api_key_env",
            fix=f"Put a valid one into {settings.api_key_env}.",
        )
    elif answer.status is None or 300 <= answer.status < 400:
        yield Problem(
            f"{settings.base_url}: {answer.reason}",
            where="base_url",
            fix=f"Start the server or mend the URL; with probe: false {without}.",
        )


def overheard(settings: Reached) -> Iterator[Problem]:
    """A key that others can read on its way."""
    if settings.is_overheard:
        yield Problem(
            f"the key, prompts and replies travel to {settings.base_url} in the clear",
            where="base_url",
            fix="Use https.",
        )


def unlisted(settings: Reached) -> Iterator[Problem]:
    """A model that its server does not name, which may be its list's fault; it is asked for it."""
    listed = settings.sign_of_life
    if isinstance(listed, NoAnswerError):
        return
    if listed and settings.model not in listed:
        known = ", ".join(one_line(name) for name in listed[:_SHOWN])
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        yield Problem(
            f"{settings.base_url} lists no model {settings.model!r}"
            f"{nearest(settings.model or '', listed[:_COMPARED])} (listed: {known}{more})",
            where="model",
            fix="Name one of them, unless the server loads what it does not list.",
        )
