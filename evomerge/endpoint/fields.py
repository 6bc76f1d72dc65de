"""What a genome may say of an endpoint: fields for settings, none of which can hold a key."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator

_OURS = ("messages", "model", "response_format", "stream", "temperature")  # not for extra fields
_KEY_NAME = re.compile(r"([A-Z][A-Z0-9_]*_)?API_KEY")
_MAY_HOLD_KEY = re.compile(r"//[^/]*@|[?#]")
_CREDENTIAL = re.compile(  # a field's name in lower case, letters and digits alone
    r"key|token|auth|bearer|.*(apikey|(access|secret|private|auth|subscription)key|passw(or)?d|"
    r"secret|authorization|credentials?|(access|auth|api|bearer|refresh|session|id|hf)token)"
)


def _plain_url(value: str) -> str:
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


def _key_variable(value: str) -> str:
    if not _KEY_NAME.fullmatch(value):  # the value is not shown: it may be a key
        raise ValueError(
            "expected the name of an environment variable that ends in API_KEY, not the key"
        )
    return value


def _beside_ours(value: dict[str, Any]) -> dict[str, Any]:
    taken = [name for name in _OURS if name in value]
    if taken:
        raise ValueError(f"holds {', '.join(taken)}, which evomerge sets itself")
    secrets = [name for name in _names_in(value) if _CREDENTIAL.fullmatch(_letters(name))]
    if secrets:  # their values are not shown
        raise ValueError(
            f"holds {', '.join(secrets)}: the key belongs in the environment variable that "
            "api_key_env names, as this file is copied into the run folder"
        )
    return value


BaseUrl = Annotated[str, AfterValidator(_plain_url)]
KeyVariable = Annotated[str, AfterValidator(_key_variable)]
ExtraBody = Annotated[dict[str, Any], AfterValidator(_beside_ours)]


def is_local(base_url: str) -> bool:
    """Whether a server is on this machine or in its own network, where no key is due."""
    host = urlsplit(base_url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost"))
    return address.is_private or address.is_loopback or address.is_link_local


def is_overheard(base_url: str) -> bool:
    """Whether a key would cross other networks for anyone to read."""
    return base_url.lower().startswith("http:") and not is_local(base_url)


def _names_in(value: Any) -> Iterator[str]:
    """Every name of a field, however deep."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield str(name)
            yield from _names_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from _names_in(part)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
