"""The ledger's contacts: what is desired of each, what dotdigital has confirmed, and so what is pending.

A contact's labels are stored as a JSON object, field -> value, with sorted keys: equal texts are equal labels, `{}` is
"empty", NULL is "not known". The rules for what is pending stand in one place, `_pending`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from target_dotdigital import bulk
from target_dotdigital.tables import contacts, scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EMPTY = "{}"
PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Desired:
    """What the input says of one contact.

    Args:
        email: normalised.
        stream: where it came from.
        names: JSON array of segment names.
        payload: JSON object, field -> value.
        vanished: the source no longer holds it.
    """

    email: str
    stream: str
    names: str
    payload: str
    vanished: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """What dotdigital holds of one contact, read back."""

    email: str
    contact_id: int
    payload: str
    listed: bool


class Book:
    """The ledger's part for one account, address book and data field, within one transaction.

    Args:
        connection: the transaction.
        scope: the part's number.
        run: the number of the run.
        uploads: whether contacts are put into an address book; if not, none ever waits to be.
    """

    def __init__(self, connection: sa.Connection, scope: int, run: int, *, uploads: bool) -> None:
        """Work within a transaction."""
        self._uploads = uploads
        self.connection = connection
        self.scope = scope
        self.run = run
        self._mine = contacts.c.scope == scope

    def desire(self, rows: Sequence[Desired]) -> None:
        """Store what the input says; of several rows for one address the last wins."""
        dialect = self.connection.dialect.name
        given = bulk.columns(dialect, email=sa.Text(), stream=sa.Text(), names=sa.Text(), desired=sa.Text(), vanished=sa.Boolean())
        fixed = {"scope": self.scope, "run": self.run, "listed": not self._uploads, "in_doubt": False, "pending": True}
        select = sa.select(*given.values(), *(sa.literal(value).label(name) for name, value in fixed.items()))
        insert = postgresql.insert(contacts) if dialect == "postgresql" else sqlite.insert(contacts)
        new = insert.excluded
        # SQLite takes ON for a join's where the SELECT has no WHERE
        statement = insert.from_select([*given, *fixed], select.where(sa.literal(1) == 1)).on_conflict_do_update(
            index_elements=["scope", "email"],
            set_={
                "stream": new.stream,
                "names": new.names,
                "desired": new.desired,
                "vanished": new.vanished,
                "run": new.run,
                "pending": _pending(new.desired, new.vanished),
            },
        )
        last = {row.email: row for row in rows}
        self.connection.execute(statement, bulk.bound([(r.email, r.stream, r.names, r.payload, r.vanished) for r in last.values()]))

    def vanish_unseen(self, stream: str) -> int:
        """Treat the contacts of a stream that this run did not name as vanished; give how many."""
        statement = (
            sa.update(contacts)
            .where(self._mine, contacts.c.stream == stream, contacts.c.run != self.run)
            # who vanished before has nothing to lose, unless a run was put back since
            .where(~contacts.c.vanished | (contacts.c.desired != EMPTY))
            .values(vanished=True, names="[]", desired=EMPTY, run=self.run, pending=_pending(sa.literal(EMPTY), sa.true()))
        )
        return self.connection.execute(statement).rowcount

    def observe(self, rows: Sequence[Observed]) -> None:
        """Store what dotdigital holds of contacts that the ledger knows; others are passed over."""
        if not rows:
            return
        statement = (
            sa.update(contacts)
            .where(self._mine, contacts.c.email == sa.bindparam("e"))
            .values(
                contact_id=sa.bindparam("i"),
                confirmed=sa.bindparam("p"),
                listed=sa.bindparam("l"),
                in_doubt=False,
            )
        )
        self.connection.execute(
            statement,
            [{"e": row.email, "i": row.contact_id, "p": row.payload, "l": row.listed or not self._uploads} for row in rows],
        )

    def put_back(self, images: dict[str, tuple[str | None, str]]) -> int:
        """Desire what was there before, for contacts that are still as they were left; give how many.

        Args:
            images: address -> payload before and payload after; no payload before is "empty".
        """
        statement = (
            sa.update(contacts)
            .where(self._mine, contacts.c.email == sa.bindparam("e"), contacts.c.confirmed == sa.bindparam("a"))
            # the names no longer stand for the labels
            .values(desired=sa.bindparam("b"), names=None, pending=_pending(sa.bindparam("b"), contacts.c.vanished))
        )
        return sum(
            self.connection.execute(statement, {"e": email, "a": after, "b": before or EMPTY}).rowcount
            for email, (before, after) in images.items()
        )

    def weigh(self) -> None:
        """Decide anew what is pending, after what is confirmed was changed."""
        self.connection.execute(
            sa.update(contacts).where(self._mine).values(pending=_pending(contacts.c.desired, contacts.c.vanished))
        )

    def settle_unknown(self, *, vanished_only: bool) -> int:
        """Take contacts that dotdigital does not hold off what is pending: there is nothing to clear, or to create."""
        conditions = [self._mine, contacts.c.pending, contacts.c.contact_id.is_(None)]
        if vanished_only:
            conditions.append(contacts.c.vanished)
        return self.connection.execute(sa.update(contacts).where(*conditions).values(pending=False, in_doubt=False)).rowcount

    def pending(self, most: int, after: str = "") -> list[sa.Row[Any]]:
        """Give the next contacts to deliver, in order of their addresses."""
        query = (
            sa.select(
                contacts.c.email,
                contacts.c.desired,
                contacts.c.confirmed,
                contacts.c.contact_id,
                contacts.c.listed,
                contacts.c.vanished,
            )
            .where(self._mine, contacts.c.pending, contacts.c.email > after)
            .order_by(contacts.c.email)
            .limit(most)
        )
        return list(self.connection.execute(query))

    def emails(self, *conditions: sa.ColumnElement[bool]) -> list[str]:
        """Give the addresses of the contacts for which all conditions hold."""
        return list(self.connection.scalars(sa.select(contacts.c.email).where(self._mine, *conditions)))

    def fields_used(self, names: Sequence[str]) -> tuple[str, ...]:
        """Give those of the data fields that some contact's desired labels fill."""
        return tuple(name for name in names if self.count(contacts.c.desired.contains(f'"{name}":', autoescape=True)))

    def count(self, *conditions: sa.ColumnElement[bool]) -> int:
        """Count the contacts for which all conditions hold."""
        query = sa.select(sa.func.count()).select_from(contacts).where(self._mine, *conditions)
        return self.connection.scalar(query) or 0

    def relabel(self, payload_of: Callable[[str], str]) -> None:
        """Make every desired value anew; `payload_of` gives the payload for a JSON array of names."""
        after = ""
        page = sa.select(contacts.c.email, contacts.c.names).order_by(contacts.c.email).limit(PAGE)
        known = self._mine & ~contacts.c.vanished & contacts.c.names.is_not(None)
        statement = (
            sa.update(contacts)
            .where(self._mine, contacts.c.email == sa.bindparam("e"))
            .values(desired=sa.bindparam("p"), pending=_pending(sa.bindparam("p"), contacts.c.vanished))
        )
        while rows := self.connection.execute(page.where(known, contacts.c.email > after)).all():
            self.connection.execute(statement, [{"e": email, "p": payload_of(names)} for email, names in rows])
            after = rows[-1].email

    def all_names(self) -> dict[str, int]:
        """Give each combination of names that occurs, as stored, and how many contacts have it."""
        query = (
            sa.select(contacts.c.names, sa.func.count())
            .where(self._mine, ~contacts.c.vanished, contacts.c.names.is_not(None))
            .group_by(contacts.c.names)
        )
        return {names: count for names, count in self.connection.execute(query)}

    def describe(self, **values: Any) -> None:
        """Store facts about this part of the ledger."""
        self.connection.execute(sa.update(scopes).where(scopes.c.id == self.scope).values(**values))


def _pending(desired: sa.ColumnElement[str], vanished: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """What has to be sent: whatever is not confirmed just so, but nothing that was refused for good just so."""
    there = contacts.c.confirmed.is_not_distinct_from(desired) & ~contacts.c.in_doubt & (contacts.c.listed | vanished)
    return ~(there | contacts.c.refused.is_not_distinct_from(desired))


def open_scope(connection: sa.Connection, key: str, account_id: int) -> sa.Row[Any]:
    """Find the ledger's part for an account, address book and data field; make it if it is missing."""
    query = sa.select(scopes).where(scopes.c.key == key)
    found = connection.execute(query).one_or_none()
    if found is None:
        connection.execute(sa.insert(scopes).values(key=key, account_id=account_id))
        found = connection.execute(query).one()
    return found
