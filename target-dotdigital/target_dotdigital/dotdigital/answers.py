"""Checks what dotdigital returns before it is used or displayed: error codes, URLs, and why a call failed."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import requests
import urllib3.exceptions

from target_dotdigital.settings import is_loopback
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# an answer about an import may have a line for each of its rows
MAX_ERROR_BYTES = 1 << 22
MAX_PORT = 65535
# dotdigital's own domains; apiconnector.com also belongs to other services (contracts/dotdigital.md 13.19)
DOMAINS = (".dotdigital.com", ".dotmailer.com")
# msgspec raises RecursionError for JSON that is nested too deeply
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_V2_CODE = re.compile(r"ERROR_[A-Z_]{1,60}")
_V3_CODE = re.compile(r"[A-Za-z][A-Za-z0-9 _.-]{0,30}(?::[A-Za-z0-9 _.-]{1,60})?")
# a path to a row, such as `contacts[3].identifiers.email`, `$.contacts[3]`, `/contacts/3/lists` or `[3].lists`
_ROW = re.compile(r"""(?:contacts?\s*[\[(./]\s*['"]?|(?:^|[\s'"$:])\[)([0-9]{1,7})(?![0-9])""", re.IGNORECASE | re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ADDRESS = re.compile(rf"(https?)://({_LABEL}(?:\.{_LABEL})*|\[::1\])(?::([0-9]{{1,5}}))?", re.IGNORECASE | re.ASCII)


class Trouble(NamedTuple):
    """Why a call got no usable response.

    Args:
        text: the reason, worded as the end of a sentence; it contains no received data.
        reached: whether the server was reached.
        may_have_acted: whether the server may have acted on the call nevertheless.
        passes: whether another attempt may succeed.
        check: what the operator should look at, if the server was not reached.
    """

    text: str
    reached: bool
    may_have_acted: bool = False
    passes: bool = True
    check: str = "api_url and the network"


_BROKEN_OFF = Trouble("the connection was broken off", reached=True, may_have_acted=True)

PROXIES = "HTTPS_PROXY, ALL_PROXY and NO_PROXY"
_WRONG_PROXY = Trouble("the address of the proxy is not valid", reached=False, passes=False, check=PROXIES)
_NO_CERTIFICATES = Trouble(
    "the file of trusted certificates, or of the client's own, is missing or not valid",
    reached=False,
    passes=False,
    check="REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE",
)

# The first match counts, so specific types come before general ones.
_TROUBLES: tuple[tuple[tuple[type[BaseException], ...], Trouble], ...] = (
    (
        (msgspec.ValidationError, RecursionError),
        Trouble("the answer is not as dotdigital documents it", reached=True, may_have_acted=True),
    ),
    ((msgspec.DecodeError, UnicodeDecodeError), Trouble("the answer is not JSON", reached=True, may_have_acted=True)),
    (
        (urllib3.exceptions.ProxyError, requests.exceptions.ProxyError),
        Trouble("the proxy cannot be used", reached=False, check=PROXIES),
    ),
    ((socket.gaierror, urllib3.exceptions.NameResolutionError), Trouble("the name does not resolve", reached=False)),
    ((ssl.SSLCertVerificationError,), Trouble("the certificate is not trusted", reached=False)),
    (
        (ssl.SSLError, urllib3.exceptions.SSLError, requests.exceptions.SSLError),
        # raised during the handshake, but also if an established connection ends without a farewell
        Trouble("no TLS connection can be made", reached=False, may_have_acted=True),
    ),
    ((ConnectionRefusedError,), Trouble("the connection was rejected", reached=False)),
    ((urllib3.exceptions.NewConnectionError,), Trouble("no connection can be made", reached=False)),
    (
        (requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError),
        Trouble("connecting timed out", reached=False),
    ),
    (
        (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError),
        Trouble("the answer timed out", reached=True, may_have_acted=True),
    ),
    (
        (
            requests.exceptions.InvalidURL,
            urllib3.exceptions.LocationParseError,
        ),
        Trouble("that is not an address", reached=False, passes=False, check="api_url"),
    ),
)


class ErrorBody(NamedTuple):
    """What the body of an error says; its texts are not kept, because they may quote addresses.

    Args:
        code: error code of version 2 or 3.
        is_dotdigitals: whether the body is an error as dotdigital documents it.
        rows: positions of the rows of an import that it names, in no order (contracts/dotdigital.md 13.1).
    """

    code: str | None = None
    is_dotdigitals: bool = False
    rows: tuple[int, ...] = ()


def read_error(content: bytes) -> ErrorBody:
    """Return what the body of an error of version 2 or 3 says."""
    try:
        body: Any = msgspec.json.decode(content[:MAX_ERROR_BYTES])
    except UNREADABLE:
        return ErrorBody()
    if not isinstance(body, dict):
        return ErrorBody()
    rows = tuple({int(found) for text in _texts(body) for found in _ROW.findall(text)})
    if isinstance(body.get("errorCode"), str) and _V3_CODE.fullmatch(body["errorCode"]):
        return ErrorBody(body["errorCode"], is_dotdigitals=True, rows=rows)
    message = body.get("message")
    if not isinstance(message, str):
        return ErrorBody(rows=rows)
    found = _V2_CODE.search(message)
    return ErrorBody(found[0] if found else None, is_dotdigitals=True, rows=rows)


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts of a JSON value, those of its keys included."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case list() as items:
                waiting += items
            case dict() as members:
                waiting += [*members, *members.values()]


def own_address(endpoint: object, first: str) -> str | None:
    """Return the API URL that account-info names, or None if it does not belong to dotdigital.

    The URL is rebuilt from the parts that were checked. The original text is not used, because another parser might read a
    different host from it.

    Args:
        endpoint: the value that account-info returned.
        first: the URL of that call; a loopback URL is accepted only if this one is a loopback URL too.
    """
    found = _ADDRESS.fullmatch(without_version(endpoint)) if isinstance(endpoint, str) else None
    if found is None:
        return None
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    if scheme == "https" and host.endswith(DOMAINS) and port in {None, "443"}:
        return f"https://{host}"
    asked = _ADDRESS.fullmatch(first)
    local = asked is not None and is_loopback(asked[2].lower().strip("[]")) and is_loopback(host.strip("[]"))
    if scheme == "http" and local and int(port or 80) <= MAX_PORT:
        return f"http://{host}:{port or 80}"
    return None


def without_version(url: str) -> str:
    """Return an API URL without a slash or the version of the API at its end: both are part of the paths that are called."""
    return re.sub(r"(?:/v[0-9])?/*\Z", "", url.strip(), flags=re.IGNORECASE)


def without_user(url: str) -> str:
    """Return a URL without user and password, safe to display."""
    return shown(re.sub(r"//.*@", "//", url, flags=re.DOTALL))


def trouble_of(error: BaseException) -> Trouble:
    """Determine why a call failed from the types of its exceptions only, because their texts may quote addresses."""
    found = list(_chain(error))
    if _is_about_certificates(error, found):
        return _NO_CERTIFICATES
    if _is_about_proxy(error):
        return _WRONG_PROXY
    for types, trouble in _TROUBLES:
        if any(isinstance(one, types) for one in found):
            return trouble
    return _BROKEN_OFF


def _is_about_certificates(error: BaseException, found: Sequence[BaseException]) -> bool:
    """Return whether a file of certificates cannot be used: requests looks for it, and urllib3 reads it, at each connection."""
    unreadable = any(
        isinstance(one, (FileNotFoundError, PermissionError, IsADirectoryError))
        or (isinstance(one, ssl.SSLError) and getattr(one, "reason", None) in {"NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE"})
        for one in found
    )
    encrypted = any(isinstance(one, urllib3.exceptions.SSLError) for one in found)
    return (encrypted and unreadable) or (type(error) is OSError and str(error).startswith("Could not find"))


def _is_about_proxy(error: BaseException) -> bool:
    """Return whether requests could make nothing of the proxy's address; of api_url's own, it raises InvalidURL with a text."""
    if isinstance(error, (requests.exceptions.InvalidProxyURL, requests.exceptions.InvalidSchema)):
        return True
    return isinstance(error, requests.exceptions.InvalidURL) and any(
        isinstance(one, urllib3.exceptions.HTTPError) for one in error.args
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and the exceptions that requests and urllib3 wrapped in it."""
    waiting, seen = [error], {id(error)}
    while waiting:
        one = waiting.pop()
        yield one
        for inner in (one.__cause__, getattr(one, "reason", None), *one.args):
            if isinstance(inner, BaseException) and id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)
