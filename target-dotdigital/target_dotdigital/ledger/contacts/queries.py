"""Queries of the ledger's contacts. Nothing is written here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contacts.pending import may_create, to_send
from target_dotdigital.ledger.tables import contacts
from target_dotdigital.stats import Remaining

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from target_dotdigital.records import Uploads


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
        query = (
            sa.select(contacts.c.email, contacts.c.contact_id, contacts.c.confirmed, contacts.c.desired, may_create(self.uploads))
            .where(self._mine, to_send(restored), contacts.c.removed == removed, contacts.c.email > after)
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
        held, rejected = contacts.c.held.is_not(None), contacts.c.rejection.is_not(None)
        return Remaining(self.count_pending(), self._count(held), self._count(rejected))

    def count_in_source(self) -> int:
        """Return the number of contacts that the source has; this looks at every contact."""
        return self._count(~contacts.c.removed)

    def count_pending(self) -> int:
        """Return the number of contacts to send."""
        return self._count(contacts.c.pending)

    def rejected(self) -> Iterator[tuple[str, str, str]]:
        """Yield the contacts whose last delivery was rejected: address, JSON array of names, and dotdigital's code."""
        query = (
            sa.select(contacts.c.email, contacts.c.names, contacts.c.rejection)
            .where(self._mine, contacts.c.rejection.is_not(None), contacts.c.names.is_not(None))
            .order_by(contacts.c.email)
        )
        yield from (tuple(row) for row in self.connection.execute(query))

    def _emails(self, *conditions: sa.ColumnElement[bool]) -> list[str]:
        return list(self.connection.scalars(sa.select(contacts.c.email).where(self._mine, *conditions)))

    def _count(self, *conditions: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(contacts).where(self._mine, *conditions)
        return self.connection.scalar(query) or 0
