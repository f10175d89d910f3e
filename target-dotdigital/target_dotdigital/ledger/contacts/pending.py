"""The rule for which contacts have to be sent."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from target_dotdigital.ledger.tables import contacts
from target_dotdigital.payloads import EMPTY
from target_dotdigital.records import Uploads


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


def is_pending(
    uploads: Uploads,
    desired: sa.ColumnElement[str] = contacts.c.desired,
    removed: sa.ColumnElement[bool] = contacts.c.removed,
    *,
    in_doubt: sa.ColumnElement[Any] = contacts.c.in_doubt,
    rejected: sa.ColumnElement[Any] = contacts.c.rejected,
    held: sa.ColumnElement[Any] = contacts.c.held,
) -> sa.ColumnElement[bool]:
    """Return the condition for contacts to send: desired labels neither confirmed nor rejected as they are, and not held.

    Args:
        uploads: which contacts are created.
        desired: desired labels, if a statement is about to change them.
        removed: whether the contact was removed, likewise.
        in_doubt: whether the contact was sent with an unknown result, likewise.
        rejected: rejected labels, likewise.
        held: the import that the Data Watchdog rejected, likewise.
    """
    listed = contacts.c.in_address_book | ~may_create(uploads, desired, removed)
    there = contacts.c.confirmed.is_not_distinct_from(desired) & ~in_doubt & listed
    return ~(there | rejected.is_not_distinct_from(desired)) & held.is_(None)


def to_send(restored: int | None = None) -> sa.ColumnElement[bool]:
    """Return the condition for contacts that a run sends.

    Args:
        restored: number of a restoring run, which sends only the contacts that it restores; None for any other run.
    """
    return sa.and_(contacts.c.pending, *([contacts.c.restored == restored] if restored is not None else []))
