"""Where a request goes: a URL as it is sent, and the proxy that the environment names for it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass


@dataclass(frozen=True)
class Proxy:
    """A server through which requests go.

    Attributes:
        url: Without name and password.
        auth: Name and password, None for none.
    """

    url: str
    auth: tuple[str, str] | None


def proxy_for(url: str) -> Proxy | None:
    """The proxy that the environment names for a URL; None for none.

    Raises:
        ValueError: what it names is none; not shown, as it may hold a password.
    """
    target = urlsplit(url)
    proxies = getproxies()
    address = proxies.get(target.scheme) or proxies.get("all")
    if not address or proxy_bypass(target.netloc):
        return None
    try:
        return _proxy(address if "://" in address else f"http://{address}")
    except ValueError:
        raise ValueError("the proxy that the environment names is no URL") from None


def _proxy(address: str) -> Proxy:
    parts = urlsplit(address)
    auth = None
    if parts.username is not None:
        auth = (unquote(parts.username), unquote(parts.password or ""))
    return Proxy(in_ascii(address), auth)


def in_ascii(url: str) -> str:
    """A URL as it is sent, without name, password, query and fragment.

    Raises:
        ValueError: it names no host or port that can be.
    """
    parts = urlsplit(url)
    name = parts.hostname or ""
    host = f"[{name}]" if ":" in name else name.encode("idna").decode()
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{quote(parts.path, safe='/%:@!$&+,;=~')}"
