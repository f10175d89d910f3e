"""Which contacts the input names.

There are two ways. As long as the input names the contacts in the order of their addresses, it is compared with the ledger batch by
batch, and only the contacts that it leaves out are noted. Everything after that is staged, and compared when the input has ended.
"""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contacts.pending import may_create
from target_dotdigital.ledger.contacts.queries import ContactQueries
from target_dotdigital.ledger.tables import contacts, incoming, mentioned, unnamed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Incoming = tuple[str, str, str, bool]  # address, stream, JSON array of names, whether the contact was removed
Known = dict[str, tuple[str | None, str | None, bool]]  # address -> stream, JSON array of names, whether the contact was removed
# of the contacts between two that the input names, so many for each named one are read: beyond that, staging costs less
MOST_READ = 2


class NamedContacts(ContactQueries):
    """Keeps track of the contacts that the input names."""

    #: Number of unique contacts that the input names with usable labels.
    named = 0
    #: Up to this address, the input names every contact of the ledger but those noted as unnamed.
    _named_until = ""
    #: Whether the input has named all contacts in the order of their addresses so far.
    _in_order = True

    def open_input(self) -> None:
        """Create the tables in which the input is staged."""
        for table in (incoming, mentioned, unnamed):
            bulk.stage(self.connection, table)

    def read_along(self, addresses: Sequence[str]) -> Known | None:
        """Return the contacts of the ledger from the last address that was read up to the last of these.

        Args:
            addresses: of the next batch of the input.

        Returns:
            None if the batch has to be staged: it, or one before it, does not continue in order, or names less than every third contact.
        """
        if self._in_order:
            # PostgreSQL takes no NUL, which the text of a record may hold
            ascending = all(map(operator.lt, addresses, itertools.islice(addresses, 1, None)))
            self._in_order = ascending and addresses[0] > self._named_until and "\0" not in addresses[-1]
        if not self._in_order:
            return None
        c, most = contacts.c, MOST_READ * len(addresses)
        query = (
            sa.select(c.email, c.stream, c.names, c.removed)
            .where(self._mine, c.email > self._named_until, c.email <= addresses[-1])
            .order_by(c.email)
            .limit(most + 1)
        )
        rows = self.connection.execute(query).all()
        self._in_order = len(rows) <= most
        return {email: (stream, names, removed) for email, stream, names, removed in rows} if self._in_order else None

    def note_named(self, until: str, count: int, left_out: Iterable[str]) -> None:
        """Note what a batch that was read along has named.

        Args:
            until: its last address.
            count: contacts that it names with usable labels.
            left_out: contacts of the ledger up to there that it does not name with usable labels.
        """
        self._named_until = until
        self.named += count
        bulk.put(self.connection, unnamed, [(email,) for email in left_out])

    def stage_input(self, rows: Sequence[Incoming]) -> None:
        """Stage contacts of the input; of several with the same address, the last counts."""
        bulk.put(self.connection, incoming, list({row[0]: row for row in rows}.values()))

    def mark_mentioned(self, emails: Iterable[str]) -> None:
        """Mark contacts that the input names without usable labels: they were not removed."""
        bulk.put(self.connection, mentioned, [(email,) for email in set(emails)])

    def streams_of(self, emails: Sequence[str]) -> dict[str, str | None]:
        """Return the stream that named each of these contacts last, in this input or before; unknown contacts are left out."""
        found: dict[str, str | None] = {}
        for table, mine in ((contacts, self._mine), (incoming, sa.true())):
            query = sa.select(table.c.email, table.c.stream).where(mine, bulk.among(self.connection, table.c.email, emails))
            found |= {email: stream for email, stream in self.connection.execute(query)}
        return found

    def supersede(self, stream: str) -> None:
        """Forget that the input has named the contacts of a stream, because it names them again in another version of the stream.

        What it said about them has to be stored before.
        """
        read_along = sa.select(contacts.c.email).where(self._mine, contacts.c.stream == stream, self._is_read_along)
        insert = sa.insert(unnamed).from_select(["email"], read_along).execution_options(preserve_rowcount=True)
        if self._named_until:
            self.named -= self.connection.execute(insert).rowcount
        self.connection.execute(sa.delete(incoming).where(incoming.c.stream == stream))

    def count_staged(self) -> None:
        """Count the staged contacts as named; has to come before they are applied."""
        staged = sa.select(sa.func.count()).select_from(incoming)
        count = self.connection.scalar(staged) or 0
        if count and self._named_until:
            # named once in order, and once more behind
            again = sa.exists().where(self._mine, contacts.c.email == incoming.c.email, self._is_read_along)
            count -= self.connection.scalar(staged.where(again)) or 0
        self.named += count

    def is_named(self) -> sa.ColumnElement[bool]:
        """Return the condition for contacts that the input names with usable labels."""
        staged = sa.exists().where(incoming.c.email == contacts.c.email)
        return staged | self._is_read_along if self._named_until else staged

    def is_mentioned(self) -> sa.ColumnElement[bool]:
        """Return the condition for contacts that the input names."""
        return self.is_named() | sa.exists().where(mentioned.c.email == contacts.c.email)

    @property
    def _is_read_along(self) -> sa.ColumnElement[bool]:
        # without a stream: adopted from dotdigital after the input had ended, so that the input was never compared with it
        there = (contacts.c.email <= self._named_until) & contacts.c.stream.is_not(None)
        return there & ~sa.exists().where(unnamed.c.email == contacts.c.email)

    def missed_since(self, run: int, streams: Iterable[str]) -> int:
        """Count contacts of the given streams that a later run changed and that the input does not mention.

        An input that starts from a bookmark has to mention every contact that changed after the bookmark was acknowledged. If it
        does not, the source no longer knows that it emitted them.
        """
        later = (contacts.c.changed_run > run) & (contacts.c.changed_run != self.run)
        return self._count(later, contacts.c.stream.in_(list(streams)), ~self.is_mentioned())

    def to_look_up(self, since: int | None, most: int | None = None) -> list[str]:
        """Return the addresses of contacts whose state in dotdigital has to be looked up before they are planned.

        These are contacts that were sent with an unknown result; pending contacts without a known ID that can only be matched by ID;
        and contacts that the input repeats although nothing has changed since its bookmark. For the last, source and ledger
        disagree: one of them was restored from a backup, so only dotdigital shows which labels were delivered last.

        Args:
            since: run that acknowledged the bookmark that the input starts from; None for an input without a bookmark.
            most: a number beyond which it does not matter how many more there are; None if it does.
        """
        c = contacts.c
        conditions: list[list[sa.ColumnElement[bool]]] = [
            [c.result_unknown],
            [c.pending, c.contact_id.is_(None), ~may_create(self.uploads)],
        ]
        if since is not None:
            repeated = (c.changed_run <= since) & (sa.func.coalesce(c.checked_run, 0) <= since)
            # not is_named(), whose alternatives together would look at every contact
            conditions.append([c.email.in_(sa.select(incoming.c.email)), repeated])
            if self._named_until:
                conditions.append([self._is_read_along, repeated])
        limit = None if most is None else most + 1
        found = itertools.chain.from_iterable(self._emails(*one, limit=limit) for one in conditions)
        return list(dict.fromkeys(found))[:limit]

    def unseen_removals(self, most: int) -> list[str]:
        """Return the addresses of contacts that this input removes, and that were not seen when the account was read.

        Args:
            most: maximum number of addresses.
        """
        c = contacts.c
        unseen = c.contact_id.is_(None) & c.confirmed.is_(None)
        return self._emails(c.pending, c.removed, unseen, c.changed_run == self.run, limit=most)
