"""Queries of the ledger's contacts. Nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contacts.pending import may_create, to_send
from target_dotdigital.ledger.tables import contacts
from target_dotdigital.payloads import EMPTY
from target_dotdigital.stats import Remaining

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from target_dotdigital.records import Uploads


@dataclass(frozen=True, slots=True)
class Believed:
    """What a ledger scope believes of the account, in contacts.

    Args:
        members: contacts in the address book.
        assumed: those of them that were not in the address book when they were last read back, and were delivered since.
        labelled: contacts with labels that need no update.
        unlabelled: contacts without labels that need no update.
    """

    members: int
    assumed: int
    labelled: int
    unlabelled: int


class ContactQueries:
    """The contacts of one ledger scope, within one transaction, for reading.

    Args:
        connection: the transaction.
        scope: number of the ledger scope.
        uploads: which contacts are created, and belong in the address book.
        run: number of the run that changes desired labels; 0 for reading only.
    """

    def __init__(self, connection: sa.Connection, scope: int, *, uploads: Uploads, run: int = 0) -> None:
        """Create the view of one scope's contacts."""
        self.uploads = uploads
        self.run = run
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

    def fields_used(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the data fields, of those given, that are part of any contact's desired labels."""
        return tuple(name for name in names if self._count(contacts.c.desired.contains(f'"{name}":', autoescape=True)))

    def fields_confirmed(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the data fields, of those given, in which any contact has confirmed labels."""
        return tuple(name for name in names if self._count(contacts.c.confirmed.contains(f'"{name}":', autoescape=True)))

    def changed_streams(self) -> set[str]:
        """Return the streams in whose contacts this run's input changed something."""
        query = sa.select(contacts.c.stream).where(self._mine, contacts.c.changed_run == self.run, contacts.c.stream.is_not(None))
        return set(self.connection.scalars(query.distinct()))

    def known(self, emails: Collection[str]) -> set[str]:
        """Return the addresses, of those given, that the ledger has."""
        query = sa.select(contacts.c.email).where(self._mine, bulk.among(self.connection, contacts.c.email, emails))
        return set(self.connection.scalars(query))

    def has_stream(self, stream: str) -> bool:
        """Return whether a contact of the ledger came from a stream and is still in the source."""
        found = sa.exists().where(self._mine, contacts.c.stream == stream, ~contacts.c.removed)
        return bool(self.connection.scalar(sa.select(found)))

    def remaining(self) -> Remaining:
        """Count what is pending, held and rejected."""
        held, excluded = contacts.c.held.is_not(None), contacts.c.excluded
        rejected = self._count(contacts.c.rejection.is_not(None), ~excluded)
        return Remaining(self.count_pending(), self._count(held, ~excluded), rejected)

    def count_in_source(self) -> int:
        """Return the number of contacts that the source has; this looks at every contact."""
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
        """Count what this ledger scope believes of the account; this looks at every contact."""
        c, settled = contacts.c, self._believed_unchanged
        labelled = c.confirmed != EMPTY
        assumed = c.in_address_book & (c.membership_tries > 0)
        conditions = (c.in_address_book, assumed, settled & labelled, settled & ~labelled)
        sums = (sa.func.coalesce(sa.func.sum(sa.case((one, 1), else_=0)), 0) for one in conditions)
        return Believed(*self.connection.execute(sa.select(*sums).where(self._mine)).one())

    def believed_at(self, places: Iterable[int], *, labelled: bool) -> list[sa.Row[Any]]:
        """Return contacts that are believed unchanged, by their places in the order of the addresses: address, labels, membership.

        Args:
            places: places from 0, among those with or without labels.
            labelled: whether to return contacts with labels, or those without.
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
