"""Writes rejected contacts as CSV, for people who look at them in a spreadsheet."""

from __future__ import annotations

import csv
import datetime
from typing import IO, TYPE_CHECKING

import msgspec

from target_dotdigital.reporting.advice import advice_on
from target_dotdigital.texts import without_controls

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from target_dotdigital.ledger.contact_queries import RejectedContact

COLUMNS = ("address", "labels", "code", "advice", "first_seen", "last_seen", "next_attempt")
NEXT_RUN, ON_CHANGE = "next run", "when it changes"
# spreadsheets run a cell that begins like this as a formula
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def write_rejected_csv(file: IO[str], found: Iterable[RejectedContact], now: float) -> int:
    """Write a header and a row for each rejected contact.

    Args:
        file: a text file without translation of line ends.
        found: the contacts.
        now: seconds since 1970.

    Returns:
        The number of contacts.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for count, one in enumerate(found, 1):  # noqa: B007 - the number of rows is the result
        cells = (one.email, _labels(one.desired), one.code, advice_on(one.code))
        writer.writerow([*map(_harmless, cells), _iso(one.first_seen), _iso(one.last_seen), _next(one, now)])
    return count


def remove_address(path: Path, email: str) -> int:
    """Remove an address from a file of rejected contacts.

    Args:
        path: the file, which may be missing.
        email: normalised address.

    Returns:
        The number of rows that were removed.

    Raises:
        OSError: the file cannot be read or written.
    """
    if not path.exists():
        return 0
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = [row for row in rows if not row or row[0] != _harmless(email)]
    if len(kept) < len(rows):
        # in place, so that the file keeps its mode
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(kept)
    return len(rows) - len(kept)


def _labels(payload: str) -> str:
    """Return the value of the data field."""
    return without_controls(next(iter(msgspec.json.decode(payload, type=dict[str, str]).values()), ""))


def _next(one: RejectedContact, now: float) -> str:
    if one.pending or (one.retry_at is not None and one.retry_at <= now):
        return NEXT_RUN
    return ON_CHANGE if one.retry_at is None else _iso(one.retry_at)


def _iso(seconds: float | None) -> str:
    return "" if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _harmless(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.startswith(FORMULAS) else cell
