"""The rule for which contacts have to be sent."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from target_dotdigital.ledger.tables import contacts
from target_dotdigital.payloads import EMPTY
from target_dotdigital.records import Uploads

# dotdigital lets suppressed contacts, and those that have yet to confirm a double opt-in, into no address book: after so many
# deliveries, each of which it confirmed, a missing membership is no reason to send a contact again
MAX_MEMBERSHIP_TRIES = 2
# the columns of a contact that is not rejected
NOT_REJECTED: dict[str, Any] = {
    "rejected": None,
    "rejection": None,
    "rejections": 0,
    "retry_at": None,
    "rejected_since": None,
    "rejected_at": None,
}


def may_create(
    uploads: Uploads, desired: sa.ColumnElement[str] = contacts.c.desired, removed: sa.ColumnElement[bool] = contacts.c.removed
) -> sa.ColumnElement[bool]:
    """Return the condition for contacts that are created if dotdigital does not hold them, and that belong in the address book.

    All others are matched by ID, so that a contact which was deleted in dotdigital is not created again.

    Args:
        uploads: which contacts are created.
        desired: desired labels, if a statement is about to change them.
        removed: whether the contact was removed, likewise.
    """
    match uploads:
        case Uploads.ALL:
            return ~removed
        case Uploads.WITH_SEGMENTS:
            return ~removed & (desired != EMPTY)
        case Uploads.NONE:
            return sa.false()


def is_delivered(
    uploads: Uploads,
    desired: sa.ColumnElement[str] = contacts.c.desired,
    removed: sa.ColumnElement[bool] = contacts.c.removed,
    *,
    confirmed: sa.ColumnElement[Any] = contacts.c.confirmed,
    in_address_book: sa.ColumnElement[bool] = contacts.c.in_address_book,
    result_unknown: sa.ColumnElement[Any] = contacts.c.result_unknown,
) -> sa.ColumnElement[bool]:
    """Return the condition for contacts that dotdigital holds as they should be; for the arguments see `is_pending`."""
    given_up = contacts.c.membership_tries >= MAX_MEMBERSHIP_TRIES
    listed = in_address_book | given_up | ~may_create(uploads, desired, removed)
    return confirmed.is_not_distinct_from(desired) & ~result_unknown & listed


def is_pending(
    uploads: Uploads,
    desired: sa.ColumnElement[str] = contacts.c.desired,
    removed: sa.ColumnElement[bool] = contacts.c.removed,
    *,
    confirmed: sa.ColumnElement[Any] = contacts.c.confirmed,
    in_address_book: sa.ColumnElement[bool] = contacts.c.in_address_book,
    result_unknown: sa.ColumnElement[Any] = contacts.c.result_unknown,
    rejected: sa.ColumnElement[Any] = contacts.c.rejected,
    held: sa.ColumnElement[Any] = contacts.c.held,
) -> sa.ColumnElement[bool]:
    """Return the condition for contacts to send: neither delivered nor rejected as they are, not held, and not excluded.

    Args:
        uploads: which contacts are created.
        desired: desired labels, if a statement is about to change them.
        removed: whether the contact was removed, likewise.
        confirmed: confirmed labels, likewise.
        in_address_book: whether the contact is in the address book, likewise.
        result_unknown: whether the contact was sent with an unknown result, likewise.
        rejected: rejected labels, likewise.
        held: the import that the Data Watchdog rejected, likewise.
    """
    delivered = is_delivered(
        uploads, desired, removed, confirmed=confirmed, in_address_book=in_address_book, result_unknown=result_unknown
    )
    return ~(delivered | rejected.is_not_distinct_from(desired)) & held.is_(None) & ~contacts.c.excluded


def to_send(restored: int | None = None) -> sa.ColumnElement[bool]:
    """Return the condition for contacts that a run sends.

    Args:
        restored: number of a restoring run, which sends only the contacts that it restores; None for any other run.
    """
    return sa.and_(contacts.c.pending, *([contacts.c.restored == restored] if restored is not None else []))
