"""What the ledger knows about single contacts, for people who ask. Nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger.tables import contacts, deliveries, imports

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class ContactRecord:
    """A contact as a ledger scope has it; times are seconds since 1970, labels are payloads.

    Args:
        scope: number of the ledger scope.
        email: normalised address.
        stream: stream that named it last; None if no stream did, so that its labels are orphaned.
        names: JSON array of segment names; None if they are not known.
        desired: labels that it should have.
        confirmed: labels that dotdigital acknowledged; None if they are not known.
        in_address_book: whether it is in the address book.
        membership_tries: consecutive deliveries after which it was not in the address book.
        contact_id: dotdigital's contact ID, if it is known.
        result_unknown: whether it was sent and the result is not known.
        removed: whether it is no longer in the source.
        excluded: whether exclude_emails matches its address.
        pending: whether the next run sends it.
        rejected: labels that were rejected and are not sent again for now.
        rejection: dotdigital's code of the last rejection.
        rejections: consecutive rejections.
        rejected_since: first of the consecutive rejections with this code.
        rejected_at: last rejection.
        retry_at: next attempt; None if there is none before the contact changes.
        held: number of the import that the Data Watchdog rejected.
        held_import_id: dotdigital's ID of that import.
        restored: restoring run that set the desired labels.
        changed_run: last run whose input changed the desired labels.
        checked_run: last run that read it back from dotdigital.
    """

    scope: int
    email: str
    stream: str | None
    names: str | None
    desired: str
    confirmed: str | None
    in_address_book: bool
    membership_tries: int
    contact_id: int | None
    result_unknown: bool
    removed: bool
    excluded: bool
    pending: bool
    rejected: str | None
    rejection: str | None
    rejections: int
    rejected_since: float | None
    rejected_at: float | None
    retry_at: float | None
    held: int | None
    held_import_id: str | None
    restored: int | None
    changed_run: int | None
    checked_run: int | None


@dataclass(frozen=True, slots=True)
class RejectedContact:
    """A contact whose last delivery was rejected; times are seconds since 1970.

    Args:
        email: normalised address.
        desired: payload of the labels that it should have.
        code: dotdigital's code.
        first_seen: first of the consecutive rejections with this code.
        last_seen: last rejection.
        retry_at: next attempt; None if there is none before the contact changes.
        pending: whether the next run sends it, because it has changed or its pause is over.
    """

    email: str
    desired: str
    code: str
    first_seen: float | None
    last_seen: float | None
    retry_at: float | None
    pending: bool


def find_contact(connection: sa.Connection, scopes: list[int], email: str) -> list[ContactRecord]:
    """Return a contact as each of the given scopes has it, in the order of the scopes.

    Args:
        connection: the transaction.
        scopes: numbers of the ledger scopes.
        email: normalised address.
    """
    c, open_import = contacts.c, imports.alias()
    sent = (
        sa.exists()
        .where(open_import.c.scope == c.scope, open_import.c.settled_run.is_(None))
        .where(deliveries.c["import"] == open_import.c.id, deliveries.c.email == c.email)
    )
    special: dict[str, sa.ColumnElement[Any]] = {"held_import_id": imports.c.import_id, "result_unknown": c.result_unknown | sent}
    columns = [special[name] if name in special else c[name] for name in ContactRecord.__dataclass_fields__]
    query = sa.select(*columns).outerjoin(imports, imports.c.id == contacts.c.held).where(contacts.c.email == email)
    found = (connection.execute(query.where(contacts.c.scope == scope)).one_or_none() for scope in scopes)
    return [ContactRecord(*row) for row in found if row is not None]


def rejected_contacts(connection: sa.Connection, scope: int) -> Iterator[RejectedContact]:
    """Yield the contacts of a scope whose last delivery was rejected, ordered by address."""
    c = contacts.c
    query = (
        sa.select(c.email, c.desired, c.rejection, c.rejected_since, c.rejected_at, c.retry_at, c.pending)
        .where(c.scope == scope, c.rejection.is_not(None), ~c.excluded)
        .order_by(c.email)
    )
    yield from (RejectedContact(*row) for row in connection.execute(query))
