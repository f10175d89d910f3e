"""URLs: which ones are fetched over HTTP, and which ones are secure enough for a token."""

from __future__ import annotations

import ipaddress
import re

from tap_nosto_segments.errors import SettingsError

MAX_PORT = 65535
# stricter than the URL parsers of the libraries, so that all of them find the same host
HTTP_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:[^\s/?#@\\]*@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#].*)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)


def is_http(url: str) -> bool:
    """Return whether a URL is fetched over HTTP, rather than read from a file system."""
    return _scheme(url) in {"http", "https"}


def require_secure(url: str, name: str) -> None:
    """Reject plain http, except on loopback: Nosto revokes a token that is sent over it (contracts/nosto.md 3).

    Args:
        url: the URL to check.
        name: the setting, or whatever else the URL comes from, for the message.

    Raises:
        SettingsError: the URL is not secure, or its host is invalid.
    """
    parsed = HTTP_URL.fullmatch(url)
    host = parsed["host"] if parsed else ""
    port = int(parsed["port"] or 0) if parsed else 0
    if _scheme(url) == "https" and not (parsed and _is_valid(host, port)):
        msg = (
            f"{name} has no valid host: a host consists of letters, digits, hyphens and dots, and a port is at most {MAX_PORT}. "
            "Nothing was sent to it. Check the address."
        )
        raise SettingsError(msg)
    if _scheme(url) == "https" or (parsed and port <= MAX_PORT and _is_loopback(host)):
        return
    msg = f"{name} is not an https address. Nosto revokes a token that is sent over plain http, so nothing was sent: use https."
    raise SettingsError(msg)


def _scheme(url: str) -> str:
    return url.partition(":")[0].strip().lower()


def _is_valid(host: str, port: int) -> bool:
    return port <= MAX_PORT and (not host.startswith("[") or _parse_ip(host) is not None)


def _is_loopback(host: str) -> bool:
    address = _parse_ip(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _parse_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
