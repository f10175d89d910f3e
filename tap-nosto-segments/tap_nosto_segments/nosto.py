"""HTTP to Nosto: a session that says who it is, repeats what may succeed later, and follows redirects without the token."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import tenacity
import urllib3.exceptions
from typing_extensions import override

from tap_nosto_segments.addresses import require_secure
from tap_nosto_segments.errors import ExportUnavailableError
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Result = TypeVar("Result")
MAX_REDIRECTS = 5
TRIES = 4
CONNECT_TIMEOUT = 30
REDIRECTS = frozenset({301, 302, 303, 307, 308})
RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
TRANSPORT_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    # what is read off the wire undecoded is not wrapped by requests
    urllib3.exceptions.HTTPError,
)


class UnfinishedError(Exception):
    """A status that may pass: the server is busy, or broken for the moment. Holds no body."""

    def __init__(self, status: int, request_id: str | None) -> None:
        """Keep what support will ask for."""
        super().__init__(f"status {status}" + (f" (request {request_id})" if request_id else ""))
        self.status = status


@dataclass(frozen=True, slots=True)
class Credential:
    """How a token is sent, and to whom: only ever to the origin (scheme, host, port) that it belongs to.

    Args:
        origin: any address of the origin.
        form: basic, bearer, header, query or none.
        name: of the header or query parameter.
        token: the secret.
    """

    origin: str
    form: str
    name: str | None
    token: str | None

    def headers(self, url: str) -> dict[str, str]:
        """Give the headers to send to this address."""
        if not self._belongs(url):
            return {}
        if self.form == "basic":
            return {"Authorization": f"Basic {b64encode(f':{self.token}'.encode()).decode()}"}
        if self.form == "bearer":
            return {"Authorization": f"Bearer {self.token}"}
        return {self.name: self.token or ""} if self.form == "header" and self.name else {}

    def params(self, url: str) -> dict[str, str]:
        """Give the query parameters to send to this address."""
        if self.form == "query" and self.name and self._belongs(url):
            return {self.name: self.token or ""}
        return {}

    def _belongs(self, url: str) -> bool:
        ours, theirs = urlsplit(self.origin), urlsplit(url)
        return (ours.scheme, ours.hostname, ours.port) == (theirs.scheme, theirs.hostname, theirs.port)


class Nosto:
    """A connection to Nosto.

    Args:
        timeout: seconds that an answer may take, or pause.
        sleep: waits for a number of seconds between two tries.
    """

    def __init__(self, timeout: int, sleep: Callable[[float], None] = tenacity.nap.sleep) -> None:
        """Open a session."""
        self._timeout = (CONNECT_TIMEOUT, timeout)
        self._sleep = sleep
        self._session = _Session()
        self._session.headers.update(
            {
                # never empty and never with "bot" in it, or bot detection may refuse the call (contracts/nosto.md 3)
                "User-Agent": f"tap-nosto-segments/{version('tap-nosto-segments')}",
                # keeps the call out of the shop's own statistics (contracts/nosto.md 3)
                "X-Nosto-Ignore": "True",
            },
        )
        # a .netrc entry must not replace the token that the settings name
        self._session.auth = _no_auth

    def repeat(self, what: str, call: Callable[[], Result]) -> Result:
        """Call until it works, and at most `TRIES` times.

        Raises:
            ExportUnavailableError: when it never does, naming `what`.
        """
        try:
            return tenacity.Retrying(
                stop=tenacity.stop_after_attempt(TRIES),
                wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=20),
                retry=tenacity.retry_if_exception_type((*TRANSPORT_ERRORS, UnfinishedError)),
                sleep=self._sleep,
                reraise=True,
            )(call)
        except UnfinishedError as error:
            msg = f"{what} failed {TRIES} times, last with {error}: Nosto is out of order for the moment. Run again later."
            raise ExportUnavailableError(msg) from None
        except TRANSPORT_ERRORS as error:
            msg = (
                f"{what} failed {TRIES} times, last with {type(error).__name__}: the connection could not be made, or broke off. "
                "Check the address and the network, and run again."
            )
            raise ExportUnavailableError(msg) from None
        except requests.RequestException as error:
            msg = f"{what} failed with {type(error).__name__}: the address cannot be used. Check it in the settings."
            raise ExportUnavailableError(msg) from None

    def get(self, url: str, credential: Credential, headers: Mapping[str, str]) -> requests.Response:
        """Get an address, following redirects; the body is left on the wire, as it was sent.

        Raises:
            ExportUnavailableError: too many redirects, or one to plain http.
            UnfinishedError: a status that may pass.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self._session.get(
                url,
                headers={**headers, **credential.headers(url)},
                params=credential.params(url),
                timeout=self._timeout,
                stream=True,
                allow_redirects=False,
            )
            if response.status_code in RETRIED_STATUSES:
                response.close()
                raise UnfinishedError(response.status_code, request_id(response))
            if response.status_code not in REDIRECTS or "Location" not in response.headers:
                return response
            url = _target(url, response.headers["Location"])
            response.close()
            require_secure(url, "The address that Nosto redirects to")
        msg = f"Nosto redirects more than {MAX_REDIRECTS} times: the export address leads nowhere. Check export_url."
        raise ExportUnavailableError(msg)

    def post(self, url: str, credential: Credential, body: bytes) -> requests.Response:
        """Post JSON.

        Raises:
            UnfinishedError: a status that may pass.
        """
        response = self._session.post(
            url,
            data=body,
            headers={"Content-Type": "application/json", **credential.headers(url)},
            timeout=self._timeout,
            allow_redirects=False,
        )
        if response.status_code in RETRIED_STATUSES:
            raise UnfinishedError(response.status_code, request_id(response))
        return response


class _Session(requests.Session):
    """A session that leaves redirects to its caller. Left alone, it would parse a target before that can be checked."""

    @override
    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def request_id(response: requests.Response) -> str | None:
    """Return Nosto's id of a call, which its support asks for (contracts/nosto.md 3)."""
    return printable(response.headers.get("X-Request-Id", "")) or None


def _target(url: str, location: str) -> str:
    """Return the address that a redirect leads to; one that cannot be read stays as it is, to be refused."""
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
