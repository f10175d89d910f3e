"""HTTP and dotdigital: calls, errors, retries and rate limits. Knows nothing of Singer."""

from __future__ import annotations

import collections
import logging
import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import requests
import urllib3.exceptions

from target_dotdigital import retry
from target_dotdigital.errors import AccountError, ApiError, TooManyImportsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_dotdigital.retry import Clock

LOGGER = logging.getLogger("target-dotdigital")
CONNECT_TIMEOUT = 30
LARGEST_ERROR = 1 << 16
NO_ANSWER = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
V2_CODE = re.compile(r"ERROR_[A-Z_]+")
Answer = TypeVar("Answer")


class ImportStatus(msgspec.Struct, rename="camel"):
    """The state of an import; only id and state are always there (contracts/dotdigital.md 4)."""

    import_id: str
    status: str = ""
    created: list[ContactReference] | None = None
    updated: list[ContactReference] | None = None
    failures: list[RowFailure] | None = None


class Identifiers(msgspec.Struct, rename="camel"):
    """What a contact is known by."""

    email: str | None = None


class ContactReference(msgspec.Struct, rename="camel"):
    """A contact that an import created or updated."""

    contact_id: int
    identifiers: Identifiers


class FailureReason(msgspec.Struct, rename="camel"):
    """Why a row failed. The description may quote the address and is not read."""

    failure_code: str = "Unknown"


class RowFailure(msgspec.Struct, rename="camel"):
    """A row that was not imported, or only in part."""

    identifiers: Identifiers
    failures: list[FailureReason]
    contact_id: int | None = None


class _ImportAccepted(msgspec.Struct, rename="camel"):
    import_id: str


@dataclass(slots=True)
class _Window:
    remaining: int
    ends_at: float


class Client:
    """Calls to one account.

    Args:
        base_url: the region's address, without a slash at its end.
        user: the API user.
        password: its password.
        timeout: seconds that a call may take.
        clock: what waiting is measured by.

    Attributes:
        calls: how many calls were made, by kind.
    """

    def __init__(self, base_url: str, user: str, password: str, timeout: int, clock: Clock) -> None:
        """Open a session."""
        self.base_url = base_url
        self.calls: collections.Counter[str] = collections.Counter()
        self._clock = clock
        self._timeout = (min(CONNECT_TIMEOUT, timeout), timeout)
        self._session = requests.Session()
        self._session.auth = (user, password)
        self._session.headers["User-Agent"] = f"target-dotdigital/{version('target-dotdigital')}"
        self._scopes: dict[str, str] = {}
        self._windows: dict[str, _Window] = {}
        self.limits: dict[str, int] = {}

    def get(self, kind: str, path: str, answer: type[Answer], **params: str | int) -> Answer:
        """Read.

        Args:
            kind: what the call is counted as; calls of one kind share a rate limit.
            path: from the root, encoded.
            answer: the type of the answer.
            params: the query.

        Raises:
            ApiError: dotdigital did not give it.
        """
        return self._call(kind, "GET", path, answer, params=params)

    def post(self, kind: str, path: str, body: Mapping[str, str], answer: type[Answer]) -> Answer:
        """Create an address book or a data field.

        Raises:
            ApiError: dotdigital did not do it.
        """
        return self._call(kind, "POST", path, answer, body=msgspec.json.encode(body))

    def start_import(self, body: bytes) -> str:
        """Hand in an import; give its id.

        Raises:
            TooManyImportsError: no slot is free.
            ApiError: dotdigital did not take it.
        """
        return self._call("import", "PUT", "/contacts/v3/import", _ImportAccepted, body=body).import_id

    def import_status(self, import_id: str) -> ImportStatus:
        """Ask after an import, once: whoever polls decides when to ask again.

        Raises:
            ApiError: dotdigital did not say.
        """
        return self._call("import status", "GET", f"/contacts/v3/import/{import_id}", ImportStatus, repeat=False)

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
    ) -> Answer:
        tries = 0
        while True:
            tries += 1
            self._keep_pace(kind)
            self.calls[kind] += 1
            status, headers, content = self._once(method, path, params, body)
            self._learn(kind, headers)
            if status is not None and 200 <= status < 300:  # noqa: PLR2004 - success
                try:
                    return msgspec.json.decode(content, type=answer)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    # an answer that nobody can read is as good as none
                    status, content = None, b""
            code, known = _error_code(content)
            failure = retry.Failure(status, code, headers, is_import=method == "PUT")
            seconds = retry.pause(failure, tries, self._clock) if repeat or status == 429 else None  # noqa: PLR2004
            if seconds is None:
                raise _error(kind, failure, known=known, tries=tries)
            LOGGER.info(
                "dotdigital: %s %s; trying again in %.0f s",
                kind,
                f"answered with status {status}" if status else "gave no answer that can be read",
                seconds,
            )
            self._clock.wait(seconds)

    def _once(
        self, method: str, path: str, params: Mapping[str, str | int] | None, body: bytes | None
    ) -> tuple[int | None, dict[str, str], bytes]:
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
        except NO_ANSWER:
            return None, {}, b""
        return response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content

    def _keep_pace(self, kind: str) -> None:
        """Wait for the next window where the last answer said that this one is used up."""
        window = self._windows.get(self._scopes.get(kind, ""))
        if window is not None and window.remaining <= 0:
            left = window.ends_at - self._clock.monotonic()
            if left > 0:
                LOGGER.info("dotdigital: the rate limit for %s is used up; waiting %.0f s", kind, left)
            self._clock.wait(left)
            window.remaining = 1

    def _learn(self, kind: str, headers: Mapping[str, str]) -> None:
        scope = headers.get("x-ratelimit-scope", "")
        remaining, limit = headers.get("x-ratelimit-remaining", ""), headers.get("x-ratelimit-limit", "")
        if not scope or not remaining.strip().isdigit():
            return
        self._scopes[kind] = scope
        self._windows[scope] = _Window(int(remaining), self._clock.monotonic() + retry.reset_in(headers, self._clock))
        if limit.strip().isdigit():
            self.limits[scope] = int(limit)


def _error_code(content: bytes) -> tuple[str | None, bool]:
    """Read dotdigital's code out of an error of either version, and whether the body is one of its errors at all."""
    try:
        body: Any = msgspec.json.decode(content[:LARGEST_ERROR])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, False
    if not isinstance(body, dict):
        return None, False
    if isinstance(body.get("errorCode"), str) and re.fullmatch(r"[A-Za-z]+:[A-Za-z]+", body["errorCode"]):
        return body["errorCode"], True
    message = body.get("message")
    if not isinstance(message, str):
        return None, False
    found = V2_CODE.search(message)
    return (found[0] if found else None), True


def _error(kind: str, failure: retry.Failure, *, known: bool, tries: int) -> Exception:
    status, code = failure.status, failure.code
    number = failure.headers.get("x-request-id")
    if status == 401:  # noqa: PLR2004 - Unauthorized
        msg = (
            "dotdigital refused the API user or its password (status 401): nothing was written. Check api_user and api_password, "
            "and that the user is enabled (Settings, Access, API users)."
        )
        return AccountError(msg)
    if status == 403:  # noqa: PLR2004 - Forbidden
        msg = (
            f"dotdigital denied access to {kind!r} (status 403): the account lives in another region, or the API user lacks a "
            "permission. Take api_url out of the settings to have the region found, and check the user's permissions."
        )
        return ApiError(msg, status=status, code=code, request_id=number)
    if status == 429 and code == "contacts:tooManyActiveImports":  # noqa: PLR2004 - Too Many Requests
        msg = "All of the account's slots for imports are taken by other integrations. Run again later."
        return TooManyImportsError(msg, status=status, code=code, request_id=number)
    what = f"status {status}" if status else "no answer that can be read"
    details = "".join(f", {name} {value}" for name, value in {"code": code, "request": number}.items() if value)
    again = (
        "Run again later; what was not confirmed is sent again then."
        if status is None or status in retry.TROUBLE or not known
        else "Look the code up in dotdigital's documents, and check the settings."
    )
    msg = f"dotdigital: {kind} failed with {what}{details} after {tries} {'try' if tries == 1 else 'tries'}. {again}"
    return ApiError(msg, status=status, code=code, request_id=number)
