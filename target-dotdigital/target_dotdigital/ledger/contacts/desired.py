"""What contacts should have: the input, and the desired labels that follow from it.

Labels are stored as payloads (`payloads.py`); NULL means "not known".
"""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contacts.named import NamedContacts
from target_dotdigital.ledger.contacts.pending import is_pending
from target_dotdigital.ledger.scopes import update_scope
from target_dotdigital.ledger.tables import changed_input, contacts, incoming, labelled, replaced, scopes
from target_dotdigital.payloads import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from target_dotdigital.ledger.contacts.named import Incoming

PAGE = 20_000


class DesiredContacts(NamedContacts):
    """Stores the labels that contacts should have."""

    #: Number of contacts whose desired labels the input has changed.
    _stored = 0

    def desire(self, rows: Sequence[Incoming], known: Container[str], payload_of: Callable[[str], str]) -> None:
        """Store labels of the input as desired labels; in each of the contacts something has changed.

        Args:
            rows: different contacts.
            known: addresses of those that the ledger has already, and perhaps of others.
            payload_of: returns the payload for a JSON array of names.
        """
        if not rows:
            return
        self._note_change()
        changed = [(*row, payload_of(row[2])) for row in rows if row[0] in known]
        if changed:
            bulk.stage(self.connection, changed_input, changed)
            self.connection.execute(self._desire_changed())
        new = [(*row, payload_of(row[2]), *self._new.values()) for row in rows if row[0] not in known]
        bulk.put(self.connection, contacts, new, ("email", "stream", "names", "removed", "desired", *self._new), replace=False)
        self._stored += len(rows)

    def desire_staged(self, payload_of: Callable[[str], str]) -> None:
        """Store the labels of the staged input as desired labels, for contacts in which something changed.

        Args:
            payload_of: returns the payload for a JSON array of names.
        """
        news = incoming.c.names.is_distinct_from(contacts.c.names) | (incoming.c.removed != contacts.c.removed)
        start = sa.bindparam("after", type_=sa.Text)
        page = (
            sa.select(incoming.c.email, incoming.c.stream, incoming.c.names, incoming.c.removed, contacts.c.email)
            # the page's start on both sides, because PostgreSQL merges them in the order of the addresses
            .outerjoin(contacts, self._mine & (contacts.c.email == incoming.c.email) & (contacts.c.email > start))
            .where(incoming.c.email > start, news | incoming.c.stream.is_distinct_from(contacts.c.stream))
            .order_by(incoming.c.email)
            .limit(PAGE)
        )
        after = ""
        while rows := self.connection.execute(page, {"after": after}).all():
            self.desire(
                [(email, stream, names, removed) for email, stream, names, removed, _ in rows], {row[4] for row in rows}, payload_of
            )
            after = rows[-1][0]
        if self._stored > PAGE:
            bulk.analyze(self.connection, contacts)

    @property
    def _new(self) -> dict[str, Any]:
        """What is the same for every contact that the ledger does not have yet."""
        return {
            "scope": self.scope,
            "in_address_book": False,
            "result_unknown": False,
            "pending": True,
            "rejections": 0,
            "membership_tries": 0,
            "excluded": False,
            "changed_run": self.run,
        }

    def _desire_changed(self) -> sa.Update:
        new = changed_input.c
        # a rejection of a removed contact says nothing about the same contact after it has come back
        rejected = sa.case((contacts.c.removed == new.removed, contacts.c.rejected))
        return (
            sa.update(contacts)
            .where(self._mine, bulk.matching(contacts.c.email, changed_input))
            .values(
                stream=new.stream,
                names=new.names,
                desired=new.payload,
                removed=new.removed,
                restored=None,
                changed_run=self.run,
                rejected=rejected,
                pending=is_pending(self.uploads, new.payload, new.removed, rejected=rejected),
            )
        )

    def remove_unmentioned(self, whole: Iterable[str], others: Iterable[str]) -> int:
        """Mark contacts as removed that a complete input does not mention, and return their number.

        If every stream of the input is complete, this includes contacts of streams that the input no longer has, and contacts that no
        stream of the source ever named (orphaned labels): a data field belongs to one pipeline.

        Args:
            whole: streams of which the input names every contact.
            others: streams of which the input names only what changed.
        """
        return self._remove(
            ~self.is_mentioned(),
            contacts.c.stream.in_(list(whole)) if list(others) else sa.true(),
            # a contact that was removed before has nothing to lose, unless its labels came back since
            ~contacts.c.removed | (contacts.c.desired != EMPTY),
        )

    def clear_orphaned(self) -> int:
        """Make contacts pending whose labels are orphaned, so that they are cleared, and return their number."""
        return self._remove(contacts.c.stream.is_(None), contacts.c.removed, contacts.c.desired != EMPTY)

    def _remove(self, *conditions: sa.ColumnElement[bool]) -> int:
        statement = (
            sa.update(contacts)
            .where(self._mine, ~contacts.c.excluded, *conditions)
            .values(
                removed=True,
                names="[]",
                desired=EMPTY,
                restored=None,
                changed_run=self.run,
                pending=is_pending(self.uploads, sa.literal(EMPTY), sa.true()),
            )
        )
        changed = self.connection.execute(statement).rowcount
        if changed:
            self._note_change()
        return changed

    def put_back(self, images: dict[str, tuple[str | None, str]]) -> int:
        """Make replaced labels the desired ones, for contacts that still have what replaced them, and return their number.

        Args:
            images: address -> payload before and payload after; None before means "empty".
        """
        rows = [(email, before or EMPTY, after) for email, (before, after) in images.items()]
        bulk.stage(self.connection, replaced, rows)
        statement = (
            sa.update(contacts)
            .where(self._mine, bulk.matching(contacts.c.email, replaced), contacts.c.confirmed == replaced.c.after)
            # the names no longer stand for the labels
            .values(desired=replaced.c.before, names=None, restored=self.run, pending=is_pending(self.uploads, replaced.c.before))
        )
        changed = self.connection.execute(statement).rowcount
        if changed:
            update_scope(self.connection, self.scope, segments=None)
        return changed

    def relabel(self, payload_of: Callable[[str], str]) -> None:
        """Recompute all desired labels from the names.

        Args:
            payload_of: returns the payload for a JSON array of names.
        """
        page = sa.select(contacts.c.email, contacts.c.names).order_by(contacts.c.email).limit(PAGE)
        known = self._mine & ~contacts.c.removed & contacts.c.names.is_not(None)
        statement = (
            sa.update(contacts)
            .where(self._mine, bulk.matching(contacts.c.email, labelled))
            .values(desired=labelled.c.payload, pending=is_pending(self.uploads, labelled.c.payload))
        )
        after = ""
        while rows := self.connection.execute(page.where(known, contacts.c.email > after)).all():
            bulk.stage(self.connection, labelled, [(email, payload_of(names)) for email, names in rows])
            self.connection.execute(statement)
            after = rows[-1][0]

    def mark_excluded(self, is_excluded: Callable[[str], bool] | None) -> None:
        """Mark the contacts that are excluded by the settings: they are not sent, and keep what they have.

        Args:
            is_excluded: whether an address is excluded; None if no pattern is set.
        """
        page = sa.select(contacts.c.email, contacts.c.excluded).order_by(contacts.c.email).limit(PAGE)
        after, changed = "", False
        while rows := self.connection.execute(page.where(self._mine, contacts.c.email > after)).all():
            wrong = [email for email, excluded in rows if excluded != (is_excluded is not None and is_excluded(email))]
            if wrong:
                which = self._mine, bulk.among(self.connection, contacts.c.email, wrong)
                self.connection.execute(sa.update(contacts).where(*which).values(excluded=~contacts.c.excluded))
                self.connection.execute(sa.update(contacts).where(*which).values(pending=is_pending(self.uploads)))
            changed |= bool(wrong)
            after = rows[-1][0]
        if changed:
            update_scope(self.connection, self.scope, segments=None)

    def forget_rejected_labels(self) -> None:
        """Let rejected contacts be sent once more, as after a change of their labels."""
        rejected = sa.update(contacts).where(self._mine, contacts.c.rejection.is_not(None), contacts.c.rejected.is_not(None))
        self.connection.execute(rejected.values(rejected=None, retry_at=None))

    def segments(self) -> dict[str, int]:
        """Count the contacts of each segment; removed contacts do not count."""
        known: str | None = self.connection.scalar(sa.select(scopes.c.segments).where(scopes.c.id == self.scope))
        if known is None:
            counted: collections.Counter[str] = collections.Counter()
            query = sa.select(contacts.c.names).where(self._mine, self._in_source, contacts.c.names.is_not(None))
            for page in self.connection.execute(query.execution_options(yield_per=PAGE)).scalars().partitions():
                lists = msgspec.json.decode(f"[{','.join(page)}]", type=list[list[str]])
                counted.update(itertools.chain.from_iterable(lists))
            # sorted here, because the encoder's own ordering takes quadratic time
            known = msgspec.json.encode(dict(sorted(counted.items()))).decode()
            update_scope(self.connection, self.scope, segments=known)
        return msgspec.json.decode(known, type=dict[str, int])

    def _note_change(self) -> None:
        update_scope(self.connection, self.scope, segments=None, changed_run=self.run)
