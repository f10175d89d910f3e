"""Web addresses: which are fetched over HTTP, and which may be."""

from __future__ import annotations

import ipaddress
import re

from tap_nosto_segments.errors import SettingsError

MAX_PORT = 65535
# stricter than any library that parses addresses, so that all of them see the same host in it
ADDRESS = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:[^\s/?#@\\]*@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#].*)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)


def is_http(url: str) -> bool:
    """Say whether an address is fetched over HTTP, rather than read from a file system."""
    return _scheme(url) in {"http", "https"}


def require_secure(url: str, name: str) -> None:
    """Refuse plain http, except on loopback: Nosto cancels a key that is used over it (contracts/nosto.md 3).

    Raises:
        SettingsError: naming the setting, or what else the address came from.
    """
    address = ADDRESS.fullmatch(url)
    host = address["host"] if address else ""
    if _scheme(url) == "https" and not (address and _is_usable(host, int(address["port"] or 0))):
        msg = (
            f"{name} has no valid host: letters, digits, hyphens and dots make up a host, and a port is at most {MAX_PORT}. Nothing "
            "was sent to it. Check the address."
        )
        raise SettingsError(msg)
    if _scheme(url) == "https" or (address and int(address["port"] or 0) <= MAX_PORT and _is_loopback(host)):
        return
    msg = f"{name} is not an https address. Nosto cancels a token that is sent over plain http, so nothing was sent: use https."
    raise SettingsError(msg)


def _scheme(url: str) -> str:
    return url.partition(":")[0].strip().lower()


def _is_usable(host: str, port: int) -> bool:
    return port <= MAX_PORT and (not host.startswith("[") or _ip(host) is not None)


def _is_loopback(host: str) -> bool:
    address = _ip(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
