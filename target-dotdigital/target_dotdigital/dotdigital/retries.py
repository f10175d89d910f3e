"""When to call again, and how long to wait before: one policy, one place. Pure but for the clock that is handed in."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_dotdigital.clock import Clock

EPOCH_FROM = 1_000_000_000
MAX_WINDOW_SECONDS = 65.0
CAPPED_PAUSE_SECONDS = 300.0
MAX_TRIES_TROUBLE = 6
MAX_TRIES_LOST_IMPORT = 3
MAX_TRIES_LIMITED = 30
MAX_TRIES_CAPPED = 14
TROUBLE = frozenset({500, 502, 503, 504})
# a header's number; what is longer, or written in any other way, is not believed
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that did not work.

    Args:
        status: the HTTP status; None where no answer came.
        code: dotdigital's code, if it gave one.
        headers: of the answer, names in lower case.
        is_import: whether contacts were to be written.
    """

    status: int | None
    code: str | None
    headers: Mapping[str, str]
    is_import: bool = False


def pause(failure: Failure, tries: int, clock: Clock) -> float | None:
    """Return the seconds to wait before the next try, or None if there is to be none.

    Args:
        failure: what went wrong.
        tries: how often it was tried, this time included.
        clock: for the reset times, which are given as points in time.
    """
    # All of the account's slots for imports are taken: only the owner of open imports knows what to wait for.
    if failure.status == 429 and failure.code == "contacts:tooManyActiveImports":  # noqa: PLR2004 - Too Many Requests
        return None
    # The limit of a minute is used up: its end is asked in the headers (contracts/dotdigital.md 6).
    if failure.status == 429:  # noqa: PLR2004 - Too Many Requests
        return _spread(reset_in(failure.headers, clock), clock) if tries < MAX_TRIES_LIMITED else None
    # The old flat limit: a rolling hour, no header; calls come free one by one.
    if failure.status == 400 and failure.code == "ERROR_APIUSAGE_EXCEEDED":  # noqa: PLR2004 - Bad Request
        return CAPPED_PAUSE_SECONDS if tries < MAX_TRIES_CAPPED else None
    # An import whose answer is lost may have been taken up: each try may send the same contacts once more. That does no harm,
    # for it writes the same values, but it should not go on for long.
    if failure.is_import and failure.status is None and tries >= MAX_TRIES_LOST_IMPORT:
        return None
    # No answer, or a broken server. Reads change nothing, and may be resent.
    if (failure.status is None or failure.status in TROUBLE) and tries < MAX_TRIES_TROUBLE:
        asked = _retry_after(failure.headers, clock)
        return asked if asked is not None else _spread(2.0 ** (tries - 1), clock)
    # Anything else says that the call itself is wrong.
    return None


def number(text: str) -> float | None:
    """Return the number that a header holds, or None where it holds none that can be meant."""
    found = _NUMBER.fullmatch(text.strip())
    return float(found[0]) if found else None


def reset_in(headers: Mapping[str, str], clock: Clock) -> float:
    """Return the seconds until the limit's window ends; a whole window where no header says so.

    dotdigital's documents call the header an epoch, its own code seconds: large numbers are the former
    (contracts/dotdigital.md 6). A window is a minute, so nothing longer is believed.
    """
    asked = _retry_after(headers, clock)
    if asked is not None:
        return asked
    value = number(headers.get("x-ratelimit-reset", ""))
    if value is None:
        return MAX_WINDOW_SECONDS
    seconds = value - clock.wall() if value > EPOCH_FROM else value
    return min(max(seconds, 0.1), MAX_WINDOW_SECONDS)


def _retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Return the seconds that Retry-After asks for, given as seconds or as a date; None where it says neither."""
    value = headers.get("retry-after")
    if not value:
        return None
    seconds = number(value)
    if seconds is None:
        try:
            moment = parsedate_to_datetime(value)
            # a date without a zone is in UTC
            moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
            seconds = (moment - clock.now()).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(max(seconds, 0.0), CAPPED_PAUSE_SECONDS)


def _spread(seconds: float, clock: Clock) -> float:
    """Add up to a fifth, so that several workers do not come back at the same moment."""
    return seconds * (1 + clock.jitter() / 5)
