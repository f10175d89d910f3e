"""Calls dotdigital's API, counts the calls, and classifies failures."""

from __future__ import annotations

import collections
import logging
import re
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar
from urllib.parse import quote

import msgspec
import requests
import urllib3.exceptions
from typing_extensions import override

from target_dotdigital.dotdigital import retries as retry
from target_dotdigital.dotdigital.messages import IMPORT_ID, ImportAccepted, ImportStatus, decode
from target_dotdigital.errors import AccountError, ApiError, TooManyImportsError
from target_dotdigital.settings import is_loopback
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from target_dotdigital.clock import Clock

# an answer about an import may have a line for each of its rows
MAX_ERROR_BYTES = 1 << 22
MAX_PORT = 65535
# dotdigital's own domains; apiconnector.com also belongs to other services (docs/assumptions.md, dotdigital 1)
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
        # raised during the handshake, and if an established connection ends without a TLS shutdown
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
    """The body of an error; its texts are not kept, because they may quote addresses.

    Args:
        code: error code of version 2 or 3.
        is_dotdigitals: whether the body is an error as dotdigital documents it.
        rows: positions of the rows of an import that it points to, in no order (docs/assumptions.md, dotdigital 11).
    """

    code: str | None = None
    is_dotdigitals: bool = False
    rows: tuple[int, ...] = ()


def read_error(content: bytes) -> ErrorBody:
    """Decode the body of an error of version 2 or 3."""
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
    """Yield all texts of a JSON value, including its keys."""
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
    """Return the API URL from account-info, or None if it does not belong to dotdigital.

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
        if any(isinstance(cause, types) for cause in found):
            return trouble
    return _BROKEN_OFF


def _is_about_certificates(error: BaseException, found: Sequence[BaseException]) -> bool:
    """Return whether a certificate file cannot be used; at each connection, requests checks that it exists, and urllib3 reads it."""
    unreadable = any(
        isinstance(cause, (FileNotFoundError, PermissionError, IsADirectoryError))
        or (isinstance(cause, ssl.SSLError) and getattr(cause, "reason", None) in {"NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE"})
        for cause in found
    )
    encrypted = any(isinstance(cause, urllib3.exceptions.SSLError) for cause in found)
    return (encrypted and unreadable) or (type(error) is OSError and str(error).startswith("Could not find"))


def _is_about_proxy(error: BaseException) -> bool:
    """Return whether requests could not parse the proxy's address; for an invalid api_url, it raises InvalidURL with a text."""
    if isinstance(error, (requests.exceptions.InvalidProxyURL, requests.exceptions.InvalidSchema)):
        return True
    return isinstance(error, requests.exceptions.InvalidURL) and any(
        isinstance(argument, urllib3.exceptions.HTTPError) for argument in error.args
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and the exceptions that requests and urllib3 wrapped in it."""
    waiting, seen = [error], {id(error)}
    while waiting:
        current = waiting.pop()
        yield current
        for inner in (current.__cause__, getattr(current, "reason", None), *current.args):
            if isinstance(inner, BaseException) and id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)


LOGGER = logging.getLogger("target-dotdigital")
CONNECT_TIMEOUT_SECONDS = 30
NO_ANSWER = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
# consequence of a failed call and what to do, by method
CONSEQUENCES = {
    "GET": "Nothing was written by this call. Run again later.",
    "POST": "Run again later; if it was created nevertheless, the next run finds it.",
    "PUT": "Run again later; what was not confirmed is sent again by the next run.",
}
# docs/assumptions.md, dotdigital 6
NO_V3 = "If every call to /contacts/v3 ends like this, the account may lack version 3 of the API: ask dotdigital's support."
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Reply:
    """The result of one attempt; `status` is None if there was no usable response."""

    status: int | None
    headers: Mapping[str, str]
    content: bytes = b""
    trouble: Trouble | None = None

    @property
    def may_have_acted(self) -> bool:
        """Whether dotdigital may have acted on a call that failed: it got no usable response, or one of a gateway."""
        if self.status is None:
            return self.trouble is not None and self.trouble.may_have_acted
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(slots=True)
class _Window:
    """The calls that a rate limit still allows, and when it resets (seconds of the monotonic clock)."""

    remaining: int
    ends_at: float


class _Session(requests.Session):
    """A session that sends plain http to this machine itself."""

    @override
    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        settings = super().merge_environment_settings(url, proxies, stream, verify, cert)
        # plain http is allowed on loopback alone: a proxy would carry the password elsewhere, unencrypted
        return {**settings, "proxies": {}} if url.lower().startswith("http:") else settings


class Client:
    """Calls the API of one account.

    Args:
        base_url: URL of the region, without a trailing slash.
        user: API user.
        password: password of the API user.
        timeout: seconds to wait for a response.
        clock: injectable clock.
        calls: counts the calls; a new counter by default.

    Attributes:
        calls: number of calls by kind, retries included.
        ahead: seconds by which dotdigital's clock is ahead of this machine's.
        limits: calls per minute that dotdigital allows, by scope of the limit.
    """

    def __init__(
        self,
        base_url: str,
        user: str,
        password: str,
        timeout: int,
        clock: Clock,
        calls: collections.Counter[str] | None = None,
    ) -> None:
        """Create a client without open connections."""
        self.base_url = base_url
        self.calls = collections.Counter() if calls is None else calls
        self.clock = clock
        self._timeout = (min(CONNECT_TIMEOUT_SECONDS, timeout), timeout)
        self._session = _Session()
        # as bytes, because requests encodes strings as Latin-1 and fails for other characters
        # trimmed, because credentials are pasted (docs/assumptions.md, dotdigital 1)
        self._session.auth = requests.auth.HTTPBasicAuth(user.strip().encode(), password.strip().encode())
        self._session.headers["User-Agent"] = f"target-dotdigital/{version('target-dotdigital')}"
        self._scopes: dict[str, str] = {}
        self._windows: dict[str, _Window] = {}
        self.limits: dict[str, int] = {}
        # seconds by which dotdigital's clock is ahead of this machine's
        self.ahead = 0.0

    def wall(self) -> float:
        """Return the time by dotdigital's clock, in seconds since 1970, or by this machine's if that is earlier.

        What is created in dotdigital after this has a later time there.
        """
        return self.clock.wall() + min(self.ahead, 0.0)

    def get(self, kind: str, path: str, answer: type[Answer], **params: str | int) -> Answer:
        """Read a resource.

        Args:
            kind: name under which the call is counted; calls of one kind share a rate limit.
            path: absolute path, percent-encoded.
            answer: type of the response.
            params: query parameters.

        Raises:
            ApiError: the call failed.
        """
        return self._call(kind, "GET", path, answer, params=params)

    def post(self, kind: str, path: str, body: Mapping[str, str], answer: type[Answer]) -> Answer:
        """Create an address book or a data field.

        Raises:
            ApiError: the call failed.
        """
        return self._call(kind, "POST", path, answer, body=msgspec.json.encode(body))

    def start_import(self, body: bytes, before_retry: Callable[[], None]) -> str:
        """Submit an import, and return its ID.

        Args:
            body: the JSON of the import.
            before_retry: called before each retry whose preceding attempt dotdigital may have accepted: that attempt is an import
                of its own, which may be applied at any later time.

        Raises:
            TooManyImportsError: no import slot is free.
            ApiError: the call failed.
        """
        path = "/contacts/v3/import"
        return self._call("import", "PUT", path, ImportAccepted, body=body, before_retry=before_retry).import_id

    def import_status(self, import_id: str) -> ImportStatus:
        """Poll an import once, without retries: the caller decides when to poll again.

        Raises:
            ApiError: the call failed, or the ID is not valid.
        """
        if not re.search(IMPORT_ID, import_id):
            # stored by an earlier version, which did not validate IDs; such a text must not become part of a URL
            msg = "The ledger contains an invalid import ID, so that import was not polled. The next run sends its contacts again."
            raise ApiError(msg, code="contacts:invalidId")
        path = f"/contacts/v3/import/{quote(import_id, safe='')}"
        return self._call("import status", "GET", path, ImportStatus, repeat=False)

    def _call(
        self,
        kind: str,
        method: str,
        path: str,
        answer: type[Answer],
        *,
        params: Mapping[str, str | int] | None = None,
        body: bytes | None = None,
        repeat: bool = True,
        before_retry: Callable[[], None] | None = None,
    ) -> Answer:
        tries = 0
        while True:
            tries += 1
            self._await_window(kind)
            self.calls[kind] += 1
            reply = self._attempt(method, path, params, body)
            self._update_limits(kind, reply.headers)
            if (sent_at := retry.sent_at(reply.headers)) is not None:
                self.ahead = sent_at - self.clock.wall()
            if reply.status is not None and HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
                try:
                    found, left_out = decode(reply.content, answer)
                except UNREADABLE as cause:
                    # an unreadable response counts as no response
                    reply = _Reply(None, reply.headers, trouble=trouble_of(cause))
                else:
                    if left_out:
                        LOGGER.warning(
                            "dotdigital: %s: parts of the answer that could not be read were left out: %d", kind, left_out
                        )
                    return found
            error = read_error(reply.content)
            failure = retry.Failure(reply.status, error.code, reply.headers, is_import=method == "PUT")
            limited = reply.status == HTTPStatus.TOO_MANY_REQUESTS
            passes = reply.trouble is None or reply.trouble.passes
            seconds = retry.pause(failure, tries, self.clock) if passes and (repeat or limited) else None
            reason = self._reason(reply)
            if seconds is None:
                raise _error(kind, method, failure, reason, error, tries=tries, is_v3=path.startswith("/contacts/v3"))
            if before_retry is not None and reply.may_have_acted:
                before_retry()
            LOGGER.info("dotdigital: %s: %s; trying again in %.0f s", kind, reason, seconds)
            self.clock.wait(seconds)

    def _attempt(self, method: str, path: str, params: Mapping[str, str | int] | None, body: bytes | None) -> _Reply:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = self._session.request(
                method,
                self.base_url + path,
                params=params,
                data=body,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except NO_ANSWER as error:
            return _Reply(None, {}, trouble=trouble_of(error))
        return _Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content)

    def _reason(self, reply: _Reply) -> str:
        """Return why a call failed, worded as the end of a sentence."""
        if reply.trouble is None:
            return f"status {reply.status}"
        if reply.trouble.reached:
            return reply.trouble.text
        return f"cannot reach {without_user(self.base_url)}: {reply.trouble.text}. Check {reply.trouble.check}"

    def _await_window(self, kind: str) -> None:
        """Wait for the rate limit to reset if the last response reported it as used up."""
        window = self._windows.get(self._scopes.get(kind, ""))
        if window is not None and window.remaining <= 0:
            left = window.ends_at - self.clock.monotonic()
            if left > 0:
                LOGGER.info("dotdigital: the rate limit for %s is used up; waiting %.0f s", kind, left)
            self.clock.wait(left)
            window.remaining = 1

    def _update_limits(self, kind: str, headers: Mapping[str, str]) -> None:
        scope = shown(headers.get("x-ratelimit-scope", ""))
        remaining, limit = (retry.number(headers.get(f"x-ratelimit-{name}", "")) for name in ("remaining", "limit"))
        if not scope or remaining is None:
            return
        self._scopes[kind] = scope
        self._windows[scope] = _Window(int(remaining), self.clock.monotonic() + retry.reset_in(headers, self.clock))
        if limit is not None:
            self.limits[scope] = int(limit)


class _Facts(TypedDict):
    """The facts of a response that an error carries."""

    status: int | None
    code: str | None
    request_id: str | None
    rows: tuple[int, ...]
    is_dotdigitals: bool


def _error(kind: str, method: str, failure: retry.Failure, reason: str, error: ErrorBody, *, tries: int, is_v3: bool) -> Exception:
    status, code = failure.status, failure.code
    number = shown(failure.headers.get("x-request-id", "")) or None

    facts = _Facts(status=status, code=code, request_id=number, rows=error.rows, is_dotdigitals=error.is_dotdigitals)
    if status == HTTPStatus.UNAUTHORIZED:
        msg = (
            "dotdigital rejected the API user or its password (status 401): nothing was written by this call. Check api_user and "
            "api_password, and that the user is enabled (Settings, Access, API users)."
        )
        return AccountError(msg)
    if status == HTTPStatus.FORBIDDEN:
        msg = (
            f"dotdigital denied access to {kind!r} (status 403): the account is in another region, or the API user lacks a permission. "
            "Remove api_url from the settings, so that the region is detected, and check the user's permissions."
        )
        return ApiError(f"{msg} {NO_V3}" if is_v3 else msg, **facts)
    if status == HTTPStatus.TOO_MANY_REQUESTS and code == retry.NO_FREE_SLOT:
        msg = "Other integrations use all of the account's import slots, so nothing was sent by this call. Run again later."
        return TooManyImportsError(msg, **facts)
    details = "".join(f", {name} {value}" for name, value in {"code": code, "request": number}.items() if value)
    again = (
        CONSEQUENCES[method]
        if status is None or status in retry.TROUBLE or not error.is_dotdigitals
        else "Look up the code in dotdigital's documentation, and check the settings."
    )
    if status == HTTPStatus.NOT_FOUND and is_v3 and code is None:
        again = f"{NO_V3} {again}"
    msg = f"dotdigital: {kind} failed after {tries} {'try' if tries == 1 else 'tries'}: {reason}{details}. {again}"
    return ApiError(msg, **facts)
