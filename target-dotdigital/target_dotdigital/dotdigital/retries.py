"""Retry policy: whether a failed call is retried, and after how many seconds. No I/O; the clock is injected."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_dotdigital.clock import Clock

MIN_EPOCH_SECONDS = 1_000_000_000
MAX_WINDOW_SECONDS = 65.0
CAPPED_PAUSE_SECONDS = 300.0
MAX_TRIES_TROUBLE = 6
MAX_TRIES_LOST_IMPORT = 3
MAX_TRIES_LIMITED = 30
MAX_TRIES_CAPPED = 14
# server errors that are worth a retry
TROUBLE = frozenset(
    {HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
NO_FREE_SLOT = "contacts:tooManyActiveImports"
USAGE_EXCEEDED = "ERROR_APIUSAGE_EXCEEDED"
# a number in a header; longer numbers and other notations are ignored
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call.

    Args:
        status: HTTP status; None if there was no response.
        code: dotdigital's error code, if there was one.
        headers: response headers, names in lower case.
        is_import: whether the call submits contacts.
    """

    status: int | None
    code: str | None
    headers: Mapping[str, str]
    is_import: bool = False


def pause(failure: Failure, tries: int, clock: Clock) -> float | None:
    """Return the seconds to wait before the next attempt, or None if the call is not retried.

    Args:
        failure: the failed call.
        tries: number of attempts so far, including this one.
        clock: needed for reset times, which are points in time.
    """
    # All import slots of the account are taken: the caller decides, because it may have open imports to poll meanwhile.
    if failure.status == HTTPStatus.TOO_MANY_REQUESTS and failure.code == NO_FREE_SLOT:
        return None
    # Per-minute limit reached; the headers carry the reset time (docs/assumptions.md, dotdigital 6).
    if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
        return _spread(reset_in(failure.headers, clock), clock) if tries < MAX_TRIES_LIMITED else None
    # Old flat limit: a rolling hour without a header; calls become available one by one.
    if failure.status == HTTPStatus.BAD_REQUEST and failure.code == USAGE_EXCEEDED:
        return CAPPED_PAUSE_SECONDS if tries < MAX_TRIES_CAPPED else None
    # An import whose response was lost may have been accepted, so each attempt may send the same contacts again. This is harmless,
    # because the values are the same, but the number of attempts is kept small.
    if failure.is_import and failure.status is None and tries >= MAX_TRIES_LOST_IMPORT:
        return None
    # No response, or a server error: retry.
    if (failure.status is None or failure.status in TROUBLE) and tries < MAX_TRIES_TROUBLE:
        asked = _retry_after(failure.headers, clock)
        return asked if asked is not None else _spread(2.0 ** (tries - 1), clock)
    # Any other error means that the call itself is wrong.
    return None


def number(text: str) -> float | None:
    """Parse the number in a header; return None if there is no plausible one."""
    found = _NUMBER.fullmatch(text.strip())
    return float(found[0]) if found else None


def reset_in(headers: Mapping[str, str], clock: Clock) -> float:
    """Return the seconds until the limit resets; without a header, the length of a whole window.

    dotdigital documents the header as an epoch, but its own code treats it as seconds. Large numbers are read as an epoch
    (docs/assumptions.md, dotdigital 6). A window is one minute, so longer waits are capped.
    """
    asked = _retry_after(headers, clock)
    if asked is not None:
        return asked
    value = number(headers.get("x-ratelimit-reset", ""))
    if value is None:
        return MAX_WINDOW_SECONDS
    sent = sent_at(headers)
    seconds = value - (clock.wall() if sent is None else sent) if value > MIN_EPOCH_SECONDS else value
    return min(max(seconds, 0.1), MAX_WINDOW_SECONDS)


def sent_at(headers: Mapping[str, str]) -> float | None:
    """Return when a response was sent by the server's clock (header Date), in seconds since 1970; None if it is missing or invalid."""
    moment = _moment(headers.get("date", ""))
    return None if moment is None else moment.timestamp()


def _moment(text: str) -> datetime.datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        # a date without a time zone is UTC
        moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        # a date at the limits of the calendar has no timestamp
        moment.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment


def _retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Return the wait that Retry-After requests, in seconds or as a date; None if it is absent or unreadable."""
    value = headers.get("retry-after")
    if not value:
        return None
    seconds = number(value)
    if seconds is None:
        moment, sent = _moment(value), sent_at(headers)
        if moment is None:
            return None
        seconds = moment.timestamp() - (clock.wall() if sent is None else sent)
    return min(max(seconds, 0.0), CAPPED_PAUSE_SECONDS)


def _spread(seconds: float, clock: Clock) -> float:
    """Add up to 20 % of jitter, so that several workers do not retry at the same moment."""
    return seconds * (1 + clock.jitter() / 5)
