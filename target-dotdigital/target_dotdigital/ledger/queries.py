"""Questions to the ledger about its contacts; nothing is written here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger.tables import contacts, incoming, mentioned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class ContactQueries:
    """The ledger's part for one account, address book and data field, within one transaction, to read.

    Args:
        connection: the transaction.
        scope: the part's number.
        uploads: whether contacts are put into an address book; if not, none ever waits to be.
        run: the number of the run that changes what is desired.
    """

    def __init__(self, connection: sa.Connection, scope: int, *, uploads: bool, run: int = 0) -> None:
        """Work within a transaction."""
        self._uploads = uploads
        self.run = run
        self.connection = connection
        self.scope = scope
        self._mine = contacts.c.scope == scope

    def count_input(self) -> int:
        """Count the contacts that came in, each once."""
        return self.connection.scalar(sa.select(sa.func.count()).select_from(incoming)) or 0

    def missed_since(self, run: int, streams: Iterable[str]) -> int:
        """Count the contacts of streams that a later run changed and that this input does not mention.

        An input that starts from what an earlier run acknowledged has to mention each of them; if it does not, the source has
        forgotten that it ever emitted them.
        """
        unmentioned = (~sa.exists().where(table.c.email == contacts.c.email) for table in (incoming, mentioned))
        later = (contacts.c.changed_run > run) & (contacts.c.changed_run != self.run)
        return self.count(later, contacts.c.stream.in_(list(streams)), *unmentioned)

    def repeated_since(self, run: int) -> sa.ColumnElement[bool]:
        """Return the condition for contacts that the input repeats, though nothing changed them since a run.

        The source holds them for changed, the ledger does not: one of the two was put back to an earlier day, so only dotdigital
        can tell what was delivered last.
        """
        named = contacts.c.email.in_(sa.select(incoming.c.email))
        return named & (contacts.c.changed_run <= run) & (sa.func.coalesce(contacts.c.checked_run, 0) <= run)

    def pending(self, most: int, after: str, *, removed: bool, restored: int | None = None) -> list[sa.Row[Any]]:
        """Return the next contacts to deliver, in order of their addresses.

        Args:
            most: at most so many.
            after: only addresses after this one.
            removed: only contacts that were removed from the source, or only others.
            restored: only contacts that this restoring run asked for.
        """
        query = (
            sa.select(contacts.c.email, contacts.c.contact_id, contacts.c.confirmed, contacts.c.desired, contacts.c.removed)
            .where(self._mine, to_send(restored), contacts.c.removed == removed, contacts.c.email > after)
            .order_by(contacts.c.email)
            .limit(most)
        )
        return list(self.connection.execute(query))

    def emails(self, *conditions: sa.ColumnElement[bool]) -> list[str]:
        """Return the addresses of the contacts for which all conditions hold."""
        return list(self.connection.scalars(sa.select(contacts.c.email).where(self._mine, *conditions)))

    def fields_used(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of the data fields that some contact's desired labels fill."""
        return tuple(name for name in names if self.count(contacts.c.desired.contains(f'"{name}":', autoescape=True)))

    def changed_streams(self) -> set[str]:
        """Return the streams that this run's input changed a contact of."""
        query = sa.select(contacts.c.stream).where(self._mine, contacts.c.changed_run == self.run, contacts.c.stream.is_not(None))
        return set(self.connection.scalars(query.distinct()))

    def counts(self, *conditions: sa.ColumnElement[bool]) -> tuple[int, ...]:
        """Count the contacts for which each of the conditions holds, in one pass."""
        each = (sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0) for condition in conditions)
        return tuple(map(int, self.connection.execute(sa.select(*each).where(self._mine)).one()))

    def count(self, *conditions: sa.ColumnElement[bool]) -> int:
        """Count the contacts for which all conditions hold."""
        query = sa.select(sa.func.count()).select_from(contacts).where(self._mine, *conditions)
        return self.connection.scalar(query) or 0


def to_send(restored: int | None = None) -> sa.ColumnElement[bool]:
    """Return the condition for contacts that a run sends.

    Args:
        restored: a restoring run, which sends only what it puts back; None for any other run.
    """
    return sa.and_(contacts.c.pending, *([contacts.c.restored == restored] if restored is not None else []))
