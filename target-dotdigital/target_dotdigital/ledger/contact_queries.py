"""Questions about the ledger's contacts: what is pending, the figures of a plan, and the records of single contacts.

Nothing is written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.schema import contacts, deliveries, imports
from target_dotdigital.models import EMPTY, Remaining, Uploads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

# dotdigital adds neither suppressed contacts nor contacts with an unconfirmed double opt-in to an address book: after this many
# confirmed deliveries, a contact is not sent again because of its missing membership
MAX_MEMBERSHIP_TRIES = 2


def may_create(
    uploads: Uploads, desired: sa.ColumnElement[str] = contacts.c.desired, removed: sa.ColumnElement[bool] = contacts.c.removed
) -> sa.ColumnElement[bool]:
    """Return the condition for contacts that are created if dotdigital does not hold them, and that belong in the address book.

    All others are matched by ID, so that a contact which was deleted in dotdigital is not created again.

    Args:
        uploads: which contacts are created.
        desired: desired labels. Each expression is the column unless a statement is about to change it.
        removed: whether the contact was removed.
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
        desired: desired labels. Each expression is the column unless a statement is about to change it.
        removed: whether the contact was removed.
        confirmed: confirmed labels.
        in_address_book: whether the contact is in the address book.
        result_unknown: whether the contact was sent with an unknown result.
        rejected: rejected labels.
        held: the import that the Data Watchdog rejected.
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


@dataclass(frozen=True, slots=True)
class Believed:
    """The account as a ledger scope expects it, in contacts.

    Args:
        members: contacts in the address book.
        assumed: members that were not in the address book when they were last read back, and were delivered since.
        labelled: contacts with labels that need no update.
        unlabelled: contacts without labels that need no update.
    """

    members: int
    assumed: int
    labelled: int
    unlabelled: int


@dataclass(frozen=True, slots=True)
class ContactRecord:
    """A contact as a ledger scope has it; times are seconds since 1970, labels are payloads.

    Args:
        scope: number of the ledger scope.
        email: normalised address.
        stream: last stream that contained it; None if no stream has, so that its labels are orphaned.
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


class ContactQueries:
    """The contacts of one ledger scope, within one transaction, for reading.

    Args:
        connection: the transaction.
        scope: number of the ledger scope.
        uploads: which contacts are created, and belong in the address book.
    """

    def __init__(self, connection: sa.Connection, scope: int, *, uploads: Uploads) -> None:
        self.uploads = uploads
        self.connection = connection
        self.scope = scope
        self._mine = contacts.c.scope == scope

    def next_to_send(
        self, limit: int, after: str, *, removed: bool, rejected: bool, restored: int | None = None
    ) -> Sequence[sa.Row[Any]]:
        """Return the next contacts to send, ordered by address: address, ID, confirmed and desired labels, whether it may be created.

        Args:
            limit: maximum number of contacts.
            after: address that the contacts have to follow.
            removed: whether to return contacts that were removed from the source, or all others.
            rejected: whether to return contacts whose last delivery was rejected, or all others.
            restored: number of a restoring run, which sends only the contacts that it restores.
        """
        creatable = may_create(self.uploads)
        # matched by address, a row creates the contact if there is none
        is_there = contacts.c.contact_id.is_not(None) | contacts.c.confirmed.is_not(None)
        query = (
            sa.select(contacts.c.email, contacts.c.contact_id, contacts.c.confirmed, contacts.c.desired, creatable)
            .where(self._mine, to_send(restored), contacts.c.removed == removed, contacts.c.email > after, creatable | is_there)
            .where(contacts.c.rejection.is_not(None) if rejected else contacts.c.rejection.is_(None))
            .order_by(contacts.c.email)
            .limit(limit)
        )
        return self.connection.execute(query).all()

    def known(self, emails: Collection[str]) -> set[str]:
        """Return the given addresses that are in the ledger."""
        query = sa.select(contacts.c.email).where(self._mine, bulk.in_values(self.connection, contacts.c.email, emails))
        return set(self.connection.scalars(query))

    def has_stream(self, stream: str) -> bool:
        """Return whether a contact of the ledger came from a stream and is still in the source."""
        found = sa.exists().where(self._mine, contacts.c.stream == stream, ~contacts.c.removed)
        return bool(self.connection.scalar(sa.select(found)))

    def remaining(self) -> Remaining:
        """Count the pending, held and rejected contacts."""
        held, excluded = contacts.c.held.is_not(None), contacts.c.excluded
        rejected = self._count(contacts.c.rejection.is_not(None), ~excluded)
        return Remaining(self.count_pending(), self._count(held, ~excluded), rejected)

    def count_in_source(self) -> int:
        """Count the contacts that are in the source; this scans every contact."""
        return self._count(self._in_source)

    def count_pending(self) -> int:
        """Return the number of contacts to send."""
        return self._count(contacts.c.pending)

    def rejected(self) -> Iterator[tuple[str, str, str]]:
        """Yield the contacts whose last delivery was rejected: address, JSON array of names, and dotdigital's code."""
        query = (
            sa.select(contacts.c.email, contacts.c.names, contacts.c.rejection)
            .where(self._mine, contacts.c.rejection.is_not(None), contacts.c.names.is_not(None), ~contacts.c.excluded)
            .order_by(contacts.c.email)
        )
        yield from (tuple(row) for row in self.connection.execute(query))

    def believed(self) -> Believed:
        """Count the contacts that this ledger scope expects in the account; this scans every contact."""
        c, settled = contacts.c, self._believed_unchanged
        labelled = c.confirmed != EMPTY
        assumed = c.in_address_book & (c.membership_tries > 0)
        conditions = (c.in_address_book, assumed, settled & labelled, settled & ~labelled)
        sums = (sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0) for condition in conditions)
        return Believed(*self.connection.execute(sa.select(*sums).where(self._mine)).one())

    def unchanged_at(self, places: Iterable[int], *, labelled: bool) -> list[sa.Row[Any]]:
        """Return contacts that need no update, by their places in the order of the addresses: address, labels, membership.

        Args:
            places: places from 0, among those with or without labels.
            labelled: whether to return contacts with labels, or contacts without.
        """
        c = contacts.c
        query = (
            sa.select(c.email, c.confirmed, c.in_address_book)
            .where(self._mine, self._believed_unchanged, (c.confirmed != EMPTY) == labelled)
            .order_by(c.email)
            .limit(1)
        )
        found: list[sa.Row[Any]] = []
        first, after = 0, ""
        for place in sorted(places):
            found += self.connection.execute(query.where(c.email > after).offset(place - first)).all()
            first, after = place + 1, found[-1].email if found else ""
        return found

    @property
    def _believed_unchanged(self) -> sa.ColumnElement[bool]:
        c = contacts.c
        return c.confirmed.is_not(None) & ~c.pending & ~c.result_unknown & c.held.is_(None) & ~c.excluded

    @property
    def _in_source(self) -> sa.ColumnElement[bool]:
        return ~contacts.c.removed & ~contacts.c.excluded

    def _emails(self, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> list[str]:
        return list(self.connection.scalars(sa.select(contacts.c.email).where(self._mine, *conditions).limit(limit)))

    def _count(self, *conditions: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(contacts).where(self._mine, *conditions)
        return self.connection.scalar(query) or 0


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
        .where(open_import.c.scope == c.scope, open_import.c.result_run.is_(None))
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
