"""The ledger's contacts: what is desired of each, what dotdigital has confirmed, and so what is pending.

A contact's labels are stored as a JSON object, field -> value, with sorted keys: equal texts are equal labels, `{}` is
"empty", NULL is "not known". The rules for what is pending stand in one place, `_pending`.
"""

from __future__ import annotations

import collections
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from target_dotdigital import bulk
from target_dotdigital.tables import contacts, incoming, labelled, observed, replaced, scopes, spared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

EMPTY = "{}"
PAGE = 20_000
# address, stream, JSON array of names, whether the contact vanished
Incoming = tuple[str, str, str, bool]


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
        uploads: whether contacts are put into an address book; if not, none ever waits to be.
    """

    def __init__(self, connection: sa.Connection, scope: int, *, uploads: bool) -> None:
        """Work within a transaction."""
        self._uploads = uploads
        self.connection = connection
        self.scope = scope
        self._mine = contacts.c.scope == scope

    def open_input(self) -> None:
        """Make room for what comes in."""
        bulk.stage(self.connection, incoming)
        bulk.stage(self.connection, spared)

    def receive(self, rows: Sequence[Incoming]) -> None:
        """Take what the input says of contacts; of several rows for one address the last counts."""
        bulk.put(self.connection, incoming, list({row[0]: row for row in rows}.values()))

    def spare(self, emails: Iterable[str]) -> None:
        """Take contacts that the input names without saying what they are to hold: they have not vanished."""
        bulk.put(self.connection, spared, [(email,) for email in set(emails)])

    def desire(self, payload_of: Callable[[str], str]) -> None:
        """Desire what came in, where that is news.

        Args:
            payload_of: gives the payload for a JSON array of names.
        """
        news = incoming.c.names.is_distinct_from(contacts.c.names) | (incoming.c.vanished != contacts.c.vanished)
        page = (
            sa.select(incoming.c.email, incoming.c.names)
            .outerjoin(contacts, self._mine & (contacts.c.email == incoming.c.email))
            .where(news | incoming.c.stream.is_distinct_from(contacts.c.stream))
            .order_by(incoming.c.email)
            .limit(PAGE)
        )
        statement = self._desire()
        after = ""
        while rows := self.connection.execute(page.where(incoming.c.email > after)).all():
            self.describe(segments=None)
            bulk.stage(self.connection, labelled, [(email, payload_of(names)) for email, names in rows])
            self.connection.execute(statement)
            after = rows[-1][0]

    def named(self) -> int:
        """Count the contacts that came in, each once."""
        return self.connection.scalar(sa.select(sa.func.count()).select_from(incoming)) or 0

    def _desire(self) -> sa.Insert:
        given = {
            "email": labelled.c.email,
            "stream": incoming.c.stream,
            "names": incoming.c.names,
            "desired": labelled.c.payload,
            "vanished": incoming.c.vanished,
        }
        fixed = {"scope": self.scope, "listed": not self._uploads, "in_doubt": False, "pending": True}
        select = (
            sa.select(*given.values(), *(sa.literal(value).label(name) for name, value in fixed.items()))
            .join(incoming, incoming.c.email == labelled.c.email)
            # SQLite takes ON for a join's where the SELECT has no WHERE
            .where(sa.literal(1) == 1)
        )
        insert = postgresql.insert(contacts) if self.connection.dialect.name == "postgresql" else sqlite.insert(contacts)
        new = insert.excluded
        return insert.from_select([*given, *fixed], select).on_conflict_do_update(
            index_elements=["scope", "email"],
            set_={
                "stream": new.stream,
                "names": new.names,
                "desired": new.desired,
                "vanished": new.vanished,
                "pending": _pending(new.desired, new.vanished),
            },
        )

    def vanish_unseen(self, stream: str) -> int:
        """Treat the contacts of a stream that the input did not name as vanished; give how many."""
        unseen = (~sa.exists().where(table.c.email == contacts.c.email) for table in (incoming, spared))
        statement = (
            sa.update(contacts)
            .where(self._mine, contacts.c.stream == stream, *unseen)
            # who vanished before has nothing to lose, unless a run was put back since
            .where(~contacts.c.vanished | (contacts.c.desired != EMPTY))
            .values(vanished=True, names="[]", desired=EMPTY, pending=_pending(sa.literal(EMPTY), sa.true()))
        )
        changed = self.connection.execute(statement).rowcount
        if changed:
            self.describe(segments=None)
        return changed

    def see(self, rows: Sequence[Observed]) -> None:
        """Have what dotdigital holds of contacts at hand, for `observe` and for comparing; of several of one address the last."""
        last = {row.email: (row.email, row.contact_id, row.payload, row.listed) for row in rows}
        bulk.stage(self.connection, observed, list(last.values()))

    def observe(self, reading: int | None = None) -> None:
        """Store what was seen of contacts that the ledger knows; others are passed over.

        Args:
            reading: number of the reading back of the whole account that it belongs to.
        """
        values: dict[str, Any] = {
            "contact_id": observed.c.contact_id,
            "confirmed": observed.c.payload,
            "listed": observed.c.listed if self._uploads else sa.true(),
            "in_doubt": sa.false(),
        }
        if reading is not None:
            values["found"] = sa.literal(reading)
        self.connection.execute(sa.update(contacts).where(self._mine, bulk.matching(contacts.c.email, observed)).values(values))

    def put_back(self, images: dict[str, tuple[str | None, str]]) -> int:
        """Desire what was there before, for contacts that are still as they were left; give how many.

        Args:
            images: address -> payload before and payload after; no payload before is "empty".
        """
        rows = [(email, before or EMPTY, after) for email, (before, after) in images.items()]
        bulk.stage(self.connection, replaced, rows)
        statement = (
            sa.update(contacts)
            .where(self._mine, bulk.matching(contacts.c.email, replaced), contacts.c.confirmed == replaced.c.after)
            # the names no longer stand for the labels
            .values(desired=replaced.c.before, names=None, pending=_pending(replaced.c.before, contacts.c.vanished))
        )
        changed = self.connection.execute(statement).rowcount
        if changed:
            self.describe(segments=None)
        return changed

    def weigh(self) -> None:
        """Decide anew what is pending, after what is confirmed was changed."""
        now = _pending(contacts.c.desired, contacts.c.vanished)
        self.connection.execute(sa.update(contacts).where(self._mine, contacts.c.pending != now).values(pending=now))

    def settle_unknown(self, *, vanished_only: bool) -> int:
        """Take contacts that dotdigital does not hold off what is pending: there is nothing to clear, or to create."""
        conditions = [self._mine, contacts.c.pending, contacts.c.contact_id.is_(None)]
        if vanished_only:
            conditions.append(contacts.c.vanished)
        return self.connection.execute(sa.update(contacts).where(*conditions).values(pending=False, in_doubt=False)).rowcount

    def pending(self, most: int, after: str = "") -> list[sa.Row[Any]]:
        """Give the next contacts to deliver, in order of their addresses."""
        query = (
            sa.select(contacts.c.email, contacts.c.contact_id, contacts.c.confirmed, contacts.c.desired, contacts.c.vanished)
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
        page = sa.select(contacts.c.email, contacts.c.names).order_by(contacts.c.email).limit(PAGE)
        known = self._mine & ~contacts.c.vanished & contacts.c.names.is_not(None)
        statement = (
            sa.update(contacts)
            .where(self._mine, bulk.matching(contacts.c.email, labelled))
            .values(desired=labelled.c.payload, pending=_pending(labelled.c.payload, contacts.c.vanished))
        )
        after = ""
        while rows := self.connection.execute(page.where(known, contacts.c.email > after)).all():
            bulk.stage(self.connection, labelled, [(email, payload_of(names)) for email, names in rows])
            self.connection.execute(statement)
            after = rows[-1][0]

    def segments(self) -> dict[str, int]:
        """Count the contacts of each segment, those that vanished left out."""
        known: str | None = self.connection.scalar(sa.select(scopes.c.segments).where(scopes.c.id == self.scope))
        if known is None:
            counted: collections.Counter[str] = collections.Counter()
            query = sa.select(contacts.c.names).where(self._mine, ~contacts.c.vanished, contacts.c.names.is_not(None))
            for page in self.connection.execute(query.execution_options(yield_per=PAGE)).scalars().partitions():
                lists = msgspec.json.decode(f"[{','.join(page)}]", type=list[list[str]])
                counted.update(itertools.chain.from_iterable(lists))
            known = msgspec.json.encode(counted, order="sorted").decode()
            self.describe(segments=known)
        return msgspec.json.decode(known, type=dict[str, int])

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
