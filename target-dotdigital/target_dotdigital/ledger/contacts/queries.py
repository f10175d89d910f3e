"""Queries of the ledger's contacts. Nothing is written here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger.contacts.pending import may_create, to_send
from target_dotdigital.ledger.tables import contacts, incoming, mentioned
from target_dotdigital.stats import Remaining

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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

    def count_input(self) -> int:
        """Return the number of unique contacts in the input."""
        return self.connection.scalar(sa.select(sa.func.count()).select_from(incoming)) or 0

    def missed_since(self, run: int, streams: Iterable[str]) -> int:
        """Count contacts of the given streams that a later run changed and that the input does not mention.

        An input that starts from a bookmark has to mention every contact that changed after the bookmark was acknowledged. If it
        does not, the source no longer knows that it emitted them.
        """
        unmentioned = (~sa.exists().where(table.c.email == contacts.c.email) for table in (incoming, mentioned))
        later = (contacts.c.changed_run > run) & (contacts.c.changed_run != self.run)
        return self._count(later, contacts.c.stream.in_(list(streams)), *unmentioned)

    def to_look_up(self, since: int | None) -> list[str]:
        """Return the addresses of contacts whose state in dotdigital has to be looked up before they are planned.

        These are pending contacts without a known ID that can only be matched by ID, and contacts that the input repeats although
        nothing has changed since its bookmark. For the latter, source and ledger disagree: one of them was restored from a backup,
        so only dotdigital shows which labels were delivered last.

        Args:
            since: run that acknowledged the bookmark that the input starts from; None for an input without a bookmark.
        """
        c = contacts.c
        unknown = c.pending & c.contact_id.is_(None) & ~may_create(self.uploads)
        if since is not None:
            named = c.email.in_(sa.select(incoming.c.email))
            unknown |= named & (c.changed_run <= since) & (sa.func.coalesce(c.checked_run, 0) <= since)
        return self._emails(unknown)

    def next_to_send(self, limit: int, after: str, *, removed: bool, restored: int | None = None) -> list[sa.Row[Any]]:
        """Return the next contacts to send, ordered by address: address, ID, confirmed and desired labels, whether it may be created.

        Args:
            limit: maximum number of contacts.
            after: address that the contacts have to follow.
            removed: whether to return contacts that were removed from the source, or all others.
            restored: number of a restoring run, which sends only the contacts that it restores.
        """
        query = (
            sa.select(contacts.c.email, contacts.c.contact_id, contacts.c.confirmed, contacts.c.desired, may_create(self.uploads))
            .where(self._mine, to_send(restored), contacts.c.removed == removed, contacts.c.email > after)
            .order_by(contacts.c.email)
            .limit(limit)
        )
        return list(self.connection.execute(query))

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

    def has_stream(self, stream: str) -> bool:
        """Return whether a contact of the ledger came from a stream and is still in the source."""
        found = sa.exists().where(self._mine, contacts.c.stream == stream, ~contacts.c.removed)
        return bool(self.connection.scalar(sa.select(found)))

    def remaining(self) -> Remaining:
        """Count what is pending, held and rejected, in one pass."""
        conditions = (contacts.c.pending, contacts.c.held.is_not(None), contacts.c.rejection.is_not(None), ~contacts.c.removed)
        each = (sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0) for condition in conditions)
        return Remaining(*map(int, self.connection.execute(sa.select(*each).where(self._mine)).one()))

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
