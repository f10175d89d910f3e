"""The ledger's contacts: what is desired of each, what dotdigital has confirmed, and so what is pending.

Labels are stored as payloads (`payloads.py`); NULL is "not known". The rule for what is pending is `_pending`.
"""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.queries import ContactQueries
from target_dotdigital.ledger.tables import contacts, incoming, labelled, mentioned, observed, replaced, scopes
from target_dotdigital.payloads import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from target_dotdigital.records import Observed

PAGE = 20_000
Incoming = tuple[str, str, str, bool]  # address, stream, JSON array of names, whether the contact was removed


class ContactLedger(ContactQueries):
    """The ledger's part for one account, address book and data field, within one transaction.

    The only writer of its table. See `ContactQueries` for the arguments.
    """

    def open_input(self) -> None:
        """Make room for what comes in."""
        bulk.stage(self.connection, incoming)
        bulk.stage(self.connection, mentioned)

    def receive(self, rows: Sequence[Incoming]) -> None:
        """Stage what the input says of contacts; of several rows for one address the last counts."""
        bulk.put(self.connection, incoming, list({row[0]: row for row in rows}.values()))

    def mark_mentioned(self, emails: Iterable[str]) -> None:
        """Mark contacts that the input names without saying what they are to hold: they were not removed."""
        bulk.put(self.connection, mentioned, [(email,) for email in set(emails)])

    def desire(self, payload_of: Callable[[str], str]) -> None:
        """Desire what came in, where that is news.

        Args:
            payload_of: gives the payload for a JSON array of names.
        """
        news = incoming.c.names.is_distinct_from(contacts.c.names) | (incoming.c.removed != contacts.c.removed)
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
            self.update_scope(segments=None, changed_run=self.run)
            bulk.stage(self.connection, labelled, [(email, payload_of(names)) for email, names in rows])
            self.connection.execute(statement)
            after = rows[-1][0]

    def _desire(self) -> sa.Insert:
        given = {
            "email": labelled.c.email,
            "stream": incoming.c.stream,
            "names": incoming.c.names,
            "desired": labelled.c.payload,
            "removed": incoming.c.removed,
        }
        fixed = {
            "scope": self.scope,
            "in_address_book": not self._uploads,
            "in_doubt": False,
            "pending": True,
            "rejections": 0,
            "changed_run": self.run,
        }
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
                "removed": new.removed,
                "restored": None,
                "changed_run": new.changed_run,
                # what was rejected of a removed contact says nothing of one that is back
                "rejected": sa.case((contacts.c.removed == new.removed, contacts.c.rejected)),
                "pending": _pending(
                    new.desired, new.removed, rejected=sa.case((contacts.c.removed == new.removed, contacts.c.rejected))
                ),
            },
        )

    def remove_unmentioned(self, whole: Iterable[str], others: Iterable[str], is_excluded: Callable[[str], bool] | None) -> int:
        """Treat contacts that a whole input did not mention as removed from the source.

        That goes also for contacts that no stream of the source ever named (their labels are orphaned) and, where every stream
        of the input is whole, for those of streams that the input no longer has: a data field belongs to one pipeline.

        Args:
            whole: streams of which the input named every contact.
            others: streams of the input of which it named only what changed.
            is_excluded: whether the settings leave an address alone; None if they name no such address.

        Returns:
            How many contacts were removed.
        """
        others = list(others)
        concerned = contacts.c.stream.not_in(others) if others else sa.true()
        if others:
            concerned = contacts.c.stream.in_(list(whole))
        unmentioned = [
            *(~sa.exists().where(table.c.email == contacts.c.email) for table in (incoming, mentioned)),
            contacts.c.stream.is_(None) | concerned,
            # a contact that was removed before has nothing to lose, unless its labels came back since
            ~contacts.c.removed | (contacts.c.desired != EMPTY),
        ]
        if is_excluded is not None:
            self.mark_mentioned(filter(is_excluded, self.emails(*unmentioned)))
        return self.clear(*unmentioned)

    def clear(self, *conditions: sa.ColumnElement[bool]) -> int:
        """Treat contacts as removed from the source, so that their labels are cleared; return how many."""
        statement = (
            sa.update(contacts)
            .where(self._mine, *conditions)
            .values(
                removed=True,
                names="[]",
                desired=EMPTY,
                restored=None,
                changed_run=self.run,
                pending=_pending(sa.literal(EMPTY), sa.true()),
            )
        )
        changed = self.connection.execute(statement).rowcount
        if changed:
            self.update_scope(segments=None, changed_run=self.run)
        return changed

    def stage_remote(self, rows: Sequence[Observed]) -> None:
        """Stage what dotdigital holds of contacts, for comparing and for `apply_remote`; of several of one address the last."""
        last = {row.email: (row.email, row.contact_id, row.payload, row.in_address_book, row.excluded) for row in rows}
        bulk.stage(self.connection, observed, list(last.values()))

    def apply_remote(self) -> None:
        """Store what was seen of contacts that the ledger knows; others are passed over."""
        values: dict[str, Any] = {
            "contact_id": observed.c.contact_id,
            "confirmed": observed.c.payload,
            "in_address_book": observed.c.in_address_book if self._uploads else sa.true(),
            "in_doubt": sa.false(),
            "checked_run": sa.literal(self.run),
        }
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
            .values(
                desired=replaced.c.before,
                names=None,
                restored=self.run,
                pending=_pending(replaced.c.before, contacts.c.removed),
            )
        )
        changed = self.connection.execute(statement).rowcount
        if changed:
            self.update_scope(segments=None)
        return changed

    def recompute_pending(self) -> None:
        """Decide anew what is pending, after what is confirmed was changed."""
        now = _pending(contacts.c.desired, contacts.c.removed)
        self.connection.execute(sa.update(contacts).where(self._mine, contacts.c.pending != now).values(pending=now))

    def release(self, now: float) -> None:
        """Let rejected contacts be tried again whose pause is over.

        Args:
            now: seconds since 1970.
        """
        due = sa.update(contacts).where(self._mine, contacts.c.retry_at <= now)
        values = {"rejected": None, "retry_at": None}
        self.connection.execute(due.values(**values, pending=_pending(contacts.c.desired, contacts.c.removed, rejected=sa.null())))

    def release_held(self) -> int:
        """Let contacts be sent again that the Data Watchdog rejected; return how many."""
        held = sa.update(contacts).where(self._mine, contacts.c.held.is_not(None))
        pending = _pending(contacts.c.desired, contacts.c.removed, held=sa.null())
        return self.connection.execute(held.values(held=None, pending=pending)).rowcount

    def forget_unseen(self, *conditions: sa.ColumnElement[bool]) -> int:
        """Forget what the ledger knows of contacts that a reading back of this run did not find; return how many."""
        known = contacts.c.contact_id.is_not(None) | contacts.c.confirmed.is_not(None)
        gone = [self._mine, known, contacts.c.checked_run.is_distinct_from(self.run), *conditions]
        values = {"contact_id": None, "confirmed": None, "in_address_book": not self._uploads, "in_doubt": False}
        return self.connection.execute(sa.update(contacts).where(*gone).values(values)).rowcount

    def forget_shared_ids(self, *, by_id: bool) -> None:
        """Forget the ids of contacts that would be matched by one that another address has, too.

        An address may be changed in dotdigital: its contact keeps the id, and what is cleared for the old address would be what is
        written for the new one.

        Args:
            by_id: whether rows are matched by contact id wherever one is known; if not, only those of removed contacts are.
        """
        c = contacts.c
        matched = c.pending & c.contact_id.is_not(None) if by_id else c.pending & c.removed & c.contact_id.is_not(None)
        if not self.connection.scalar(sa.select(sa.exists().where(self._mine, matched))):
            return
        sent = sa.select(c.contact_id).where(self._mine, matched)
        shared = (
            sa.select(c.contact_id).where(self._mine, c.contact_id.in_(sent)).group_by(c.contact_id).having(sa.func.count() > 1)
        )
        ids = list(self.connection.scalars(shared))
        for start in range(0, len(ids), PAGE):
            some = c.contact_id.in_(ids[start : start + PAGE])
            self.connection.execute(sa.update(contacts).where(self._mine, matched, some).values(contact_id=None, confirmed=None))

    def settle_unknown(self, *, removed_only: bool) -> int:
        """Settle pending contacts that dotdigital does not hold: there is nothing to clear, or to create."""
        # what was read back is there, also where its id is of no use
        conditions = [self._mine, contacts.c.pending, contacts.c.contact_id.is_(None), contacts.c.confirmed.is_(None)]
        if removed_only:
            conditions.append(contacts.c.removed)
        return self.connection.execute(sa.update(contacts).where(*conditions).values(pending=False, in_doubt=False)).rowcount

    def relabel(self, payload_of: Callable[[str], str]) -> None:
        """Make every desired value anew; `payload_of` gives the payload for a JSON array of names."""
        page = sa.select(contacts.c.email, contacts.c.names).order_by(contacts.c.email).limit(PAGE)
        known = self._mine & ~contacts.c.removed & contacts.c.names.is_not(None)
        statement = (
            sa.update(contacts)
            .where(self._mine, bulk.matching(contacts.c.email, labelled))
            .values(desired=labelled.c.payload, pending=_pending(labelled.c.payload, contacts.c.removed))
        )
        after = ""
        while rows := self.connection.execute(page.where(known, contacts.c.email > after)).all():
            bulk.stage(self.connection, labelled, [(email, payload_of(names)) for email, names in rows])
            self.connection.execute(statement)
            after = rows[-1][0]

    def segments(self) -> dict[str, int]:
        """Count the contacts of each segment, those that were removed left out."""
        known: str | None = self.connection.scalar(sa.select(scopes.c.segments).where(scopes.c.id == self.scope))
        if known is None:
            counted: collections.Counter[str] = collections.Counter()
            query = sa.select(contacts.c.names).where(self._mine, ~contacts.c.removed, contacts.c.names.is_not(None))
            for page in self.connection.execute(query.execution_options(yield_per=PAGE)).scalars().partitions():
                lists = msgspec.json.decode(f"[{','.join(page)}]", type=list[list[str]])
                counted.update(itertools.chain.from_iterable(lists))
            # not by the encoder's own order, which takes quadratic time
            known = msgspec.json.encode(dict(sorted(counted.items()))).decode()
            self.update_scope(segments=known)
        return msgspec.json.decode(known, type=dict[str, int])

    def update_scope(self, **values: Any) -> None:
        """Store facts about this part of the ledger."""
        self.connection.execute(sa.update(scopes).where(scopes.c.id == self.scope).values(**values))


def _pending(
    desired: sa.ColumnElement[str],
    removed: sa.ColumnElement[bool],
    *,
    rejected: sa.ColumnElement[Any] = contacts.c.rejected,
    held: sa.ColumnElement[Any] = contacts.c.held,
) -> sa.ColumnElement[bool]:
    """Return what has to be sent: whatever is not confirmed just so, but nothing that was rejected just so, or is held."""
    there = contacts.c.confirmed.is_not_distinct_from(desired) & ~contacts.c.in_doubt & (contacts.c.in_address_book | removed)
    return ~(there | rejected.is_not_distinct_from(desired)) & held.is_(None)
