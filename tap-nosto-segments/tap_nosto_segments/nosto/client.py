"""HTTP client for Nosto: identifies itself, retries transient failures, and follows redirects without leaking the token."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

import requests
import tenacity
import urllib3.exceptions
from typing_extensions import override

from tap_nosto_segments.errors import ExportUnavailableError, SettingsError
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


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
    """Reject plain http, except on loopback: Nosto revokes a token that is sent over it.

    Args:
        url: the URL to check.
        name: where the URL comes from, for the message.

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


@dataclass(frozen=True, slots=True)
class Credential:
    """A token that is sent to one origin only (scheme, host and port).

    Args:
        origin: any URL of the origin.
        method: basic, bearer, header, query or none.
        name: name of the header or query parameter, for the methods header and query.
        token: the secret.
    """

    origin: str
    method: str
    name: str | None
    token: str | None

    def headers(self, url: str) -> dict[str, str]:
        """Return the authentication headers for a request to this URL."""
        if not self._is_same_origin(url):
            return {}
        if self.method == "basic":
            return {"Authorization": f"Basic {b64encode(f':{self.token}'.encode()).decode()}"}
        if self.method == "bearer":
            return {"Authorization": f"Bearer {self.token}"}
        return {self.name: self.token or ""} if self.method == "header" and self.name else {}

    def params(self, url: str) -> dict[str, str]:
        """Return the authentication query parameters for a request to this URL."""
        if self.method == "query" and self.name and self._is_same_origin(url):
            return {self.name: self.token or ""}
        return {}

    def _is_same_origin(self, url: str) -> bool:
        ours, theirs = urlsplit(self.origin), urlsplit(url)
        return (ours.scheme, ours.hostname, ours.port) == (theirs.scheme, theirs.hostname, theirs.port)


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """One response: its origin and status, and the headers that describe the body.

    Args:
        origin: scheme, host and port of the request; the path and the query may hold a token or a signature.
        status: HTTP status.
        redirects_to: origin of the redirect's target; None if the response is not a redirect.
        content_type: media type in lower case, without parameters; empty if missing.
        content_encoding: Content-Encoding in lower case; empty if missing.
        length: Content-Length in bytes; None if missing.
        is_chunked: whether the body is sent in chunks, whose end is marked.
        etag: the ETag.
        last_modified: the Last-Modified date, as sent.
    """

    origin: str
    status: int
    redirects_to: str | None = None
    content_type: str = ""
    content_encoding: str = ""
    length: int | None = None
    is_chunked: bool = False
    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def from_response(cls, response: requests.Response, url: str, target: str | None) -> ResponseInfo:
        """Describe a response.

        Args:
            response: the response; its body is not read.
            url: URL of the request.
            target: URL that it redirects to; None if it is not a redirect.
        """
        headers = response.headers
        length = headers.get("Content-Length", "")
        return cls(
            origin=origin_of(url),
            status=response.status_code,
            redirects_to=None if target is None else origin_of(target),
            content_type=printable(headers.get("Content-Type", "").partition(";")[0].strip().lower()),
            content_encoding=printable(headers.get("Content-Encoding", "").strip().lower()),
            length=int(length) if length.isascii() and length.isdigit() else None,
            is_chunked="chunked" in headers.get("Transfer-Encoding", "").lower(),
            etag=headers.get("ETag"),
            last_modified=headers.get("Last-Modified"),
        )


def origin_of(url: str) -> str:
    """Return the scheme, host and port of a URL, without user, path and query."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return printable(f"{parts.scheme.lower()}://{parts.hostname or ''}{port}")
    except ValueError:
        return "an invalid address"


Result = TypeVar("Result")
MAX_REDIRECTS = 5
MAX_ATTEMPTS = 4
MAX_RETRY_WAIT_SECONDS = 20
CONNECT_TIMEOUT_SECONDS = 30
REDIRECT_STATUSES = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    },
)
TRANSIENT_STATUSES = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    },
)
TRANSPORT_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    # requests does not wrap errors that occur while the raw body is read
    urllib3.exceptions.HTTPError,
)


class TransientStatusError(Exception):
    """Nosto answered with a status that is worth a retry. The response body is not kept."""

    def __init__(self, status: int, request_id: str | None) -> None:
        super().__init__(f"status {status}" + (f" (request {request_id})" if request_id else ""))
        self.status = status


class NostoClient:
    """A client for Nosto.

    Args:
        timeout: seconds to wait for a response, or for the next part of its body.
        sleep: injectable pause between two attempts, in seconds.
        observe: called with the URL and the response of each GET request, before the body is read.
    """

    def __init__(
        self,
        timeout: int,
        sleep: Callable[[float], None] = tenacity.nap.sleep,
        observe: Callable[[str, ResponseInfo], None] = lambda _url, _exchange: None,
    ) -> None:
        self._timeout = (CONNECT_TIMEOUT_SECONDS, timeout)
        self._sleep = sleep
        self._observe = observe
        self._session = _Session()
        self._session.headers.update(
            {
                # an empty agent, or one that contains "bot", may be blocked by Nosto's bot detection, as its documentation says
                "User-Agent": f"tap-nosto-segments/{version('tap-nosto-segments')}",
                # excludes the call from the shop's own statistics, as Nosto's documentation says
                "X-Nosto-Ignore": "True",
            },
        )
        # a .netrc entry must not replace the configured token
        self._session.auth = _no_auth

    def with_retries(self, action: str, call: Callable[[], Result]) -> Result:
        """Run a call, and repeat it after transient failures, up to `MAX_ATTEMPTS` times in total.

        Args:
            action: what the call does, as the subject of a sentence: "Fetching the Segment Export".
            call: the call.

        Raises:
            ExportUnavailableError: the last attempt failed too, or the address cannot be used.
        """
        try:
            return tenacity.Retrying(
                stop=tenacity.stop_after_attempt(MAX_ATTEMPTS),
                wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=MAX_RETRY_WAIT_SECONDS),
                retry=tenacity.retry_if_exception(_is_transient),
                sleep=self._sleep,
                reraise=True,
            )(call)
        except TransientStatusError as error:
            msg = f"{action} failed {MAX_ATTEMPTS} times, last with {error}: Nosto is temporarily unavailable. Run again later."
            raise ExportUnavailableError(msg) from None
        except requests.exceptions.ProxyError:
            msg = (
                f"{action} failed {MAX_ATTEMPTS} times: the proxy did not let the connection through. Check the variables HTTPS_PROXY, "
                "HTTP_PROXY, ALL_PROXY and NO_PROXY, and that the proxy is running."
            )
            raise ExportUnavailableError(msg) from None
        except TRANSPORT_ERRORS as error:
            if _is_about_certificates(error):
                msg = (
                    f"{action} failed: the certificate of the server is not trusted, or the file that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE "
                    "names holds no certificates. Nothing was fetched. Check these variables, and the address."
                )
                raise ExportUnavailableError(msg) from None
            proxy = " and the proxy (HTTPS_PROXY)" if _has_proxy() else ""
            msg = (
                f"{action} failed {MAX_ATTEMPTS} times, last with {type(error).__name__}: the connection could not be established, "
                f"or was interrupted. Check the address, the network{proxy}, and run again."
            )
            raise ExportUnavailableError(msg) from None
        except requests.RequestException as error:
            msg = f"{action} failed with {type(error).__name__}: the address cannot be used. Check it in the settings."
            if _has_proxy():
                # the settings have been checked, and a request through a proxy fails like this if the address of the proxy is wrong
                msg = (
                    f"{action} failed with {type(error).__name__}: the address of the proxy cannot be used. Nothing was sent. Check the "
                    "variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY."
                )
            raise ExportUnavailableError(msg) from None

    def get(
        self, url: str, credential: Credential, headers: Mapping[str, str], *, stays_on_origin: bool = False
    ) -> requests.Response:
        """Send a GET request and follow redirects; the body is not read yet.

        Args:
            url: the URL.
            credential: the token, which is sent to its own origin only.
            headers: further headers.
            stays_on_origin: whether to return a redirect to another origin instead of following it.

        Returns:
            The response; its `history` holds the redirects that led to it.

        Raises:
            ExportUnavailableError: too many redirects.
            SettingsError: a redirect leads to an address that is not secure.
            TransientStatusError: a retry may succeed.
        """
        followed: list[requests.Response] = []
        for _ in range(MAX_REDIRECTS + 1):
            with _explained_certificates():
                response = self._session.get(
                    url,
                    headers={**headers, **credential.headers(url)},
                    params=credential.params(url),
                    timeout=self._timeout,
                    stream=True,
                    allow_redirects=False,
                )
            response.history = followed
            is_redirect = response.status_code in REDIRECT_STATUSES and "Location" in response.headers
            target = _redirect_target(url, response.headers["Location"]) if is_redirect else None
            self._observe(url, ResponseInfo.from_response(response, url, target))
            if response.status_code in TRANSIENT_STATUSES:
                response.close()
                raise TransientStatusError(response.status_code, request_id(response))
            if target is None or (stays_on_origin and origin_of(target) != origin_of(url)):
                return response
            url = target
            followed = [*followed, response]
            response.close()
            require_secure(url, "The address that Nosto redirects to")
        msg = f"Nosto redirects more than {MAX_REDIRECTS} times, so the export was not reached. Check export_url."
        raise ExportUnavailableError(msg)

    def post_json(self, url: str, credential: Credential, body: bytes) -> requests.Response:
        """Send a POST request with a JSON body.

        Raises:
            TransientStatusError: a retry may succeed.
        """
        with _explained_certificates():
            response = self._session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json", **credential.headers(url)},
                timeout=self._timeout,
                allow_redirects=False,
            )
        if response.status_code in TRANSIENT_STATUSES:
            raise TransientStatusError(response.status_code, request_id(response))
        return response


@contextlib.contextmanager
def _explained_certificates() -> Iterator[None]:
    """Turn the error for a missing file of certificates, which requests raises as a plain OSError, into one clear error.

    Raises:
        ExportUnavailableError: there is no such file.
    """
    try:
        yield
    except requests.RequestException:
        raise
    except OSError:
        msg = (
            "The certificates for TLS cannot be read: the file that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names does not exist. Nothing was "
            "fetched. Correct or unset these variables."
        )
        raise ExportUnavailableError(msg) from None


def _has_proxy() -> bool:
    """Return whether the environment configures a proxy."""
    return any(scheme != "no" for scheme in getproxies())


def _is_transient(error: BaseException) -> bool:
    """Return whether another attempt may succeed: certificates do not become valid within seconds."""
    return isinstance(error, (*TRANSPORT_ERRORS, TransientStatusError)) and not _is_about_certificates(error)


def _is_about_certificates(error: BaseException) -> bool:
    """Return whether a TLS error is one of certificates; the libraries distinguish it by its text only."""
    return isinstance(error, requests.exceptions.SSLError) and re.search("certificate|X509", str(error), re.IGNORECASE) is not None


class _Session(requests.Session):
    """A session that never looks at redirects, because requests would parse their target before it is checked."""

    @override
    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        settings = super().merge_environment_settings(url, proxies, stream, verify, cert)
        # plain http is allowed on loopback alone: a proxy would carry the token elsewhere, unencrypted
        return {**settings, "proxies": {}} if url.lower().startswith("http:") else settings

    @override
    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def request_id(response: requests.Response) -> str | None:
    """Return the ID that Nosto gave to a request, which its support asks for."""
    return printable(response.headers.get("X-Request-Id", "")) or None


def _redirect_target(url: str, location: str) -> str:
    """Return the absolute target of a redirect. An invalid one is returned unchanged, to be rejected by the caller."""
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
