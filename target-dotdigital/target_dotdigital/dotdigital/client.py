"""The HTTP client for dotdigital: calls, errors, retries and rate limits. Independent of Singer."""

from __future__ import annotations

import collections
import logging
import re
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar
from urllib.parse import quote

import msgspec
import requests
import urllib3.exceptions
from typing_extensions import override

from target_dotdigital.dotdigital import retries as retry
from target_dotdigital.dotdigital.answers import UNREADABLE, ErrorBody, Trouble, read_error, trouble_of, without_user
from target_dotdigital.dotdigital.lenient import decode
from target_dotdigital.dotdigital.messages import IMPORT_ID, ImportAccepted, ImportStatus
from target_dotdigital.errors import AccountError, ApiError, TooManyImportsError
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from target_dotdigital.clock import Clock

LOGGER = logging.getLogger("target-dotdigital")
CONNECT_TIMEOUT = 30
NO_ANSWER = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
# what a failed call means and what to do, by method
CONSEQUENCES = {
    "GET": "Nothing was written by this call. Run again later.",
    "POST": "Run again later; if it was created nevertheless, the next run finds it.",
    "PUT": "Run again later; what was not confirmed is sent again by the next run.",
}
# contracts/dotdigital.md 13.17
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
        self._timeout = (min(CONNECT_TIMEOUT, timeout), timeout)
        self._session = _Session()
        # as bytes, because requests encodes strings as Latin-1 and fails for other characters
        # trimmed, because credentials are pasted (contracts/dotdigital.md 13.21)
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
                    # a response that cannot be read counts as none
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
        """Wait for the rate limit to reset if the last response said that it is used up."""
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
