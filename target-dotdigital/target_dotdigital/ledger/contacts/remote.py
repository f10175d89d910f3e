"""What dotdigital holds, as read back from the account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contacts.pending import is_pending, may_create
from target_dotdigital.ledger.contacts.queries import ContactQueries
from target_dotdigital.ledger.tables import contacts, observed
from target_dotdigital.payloads import EMPTY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_dotdigital.records import Observed

IDS = 20_000


class RemoteContacts(ContactQueries):
    """Stores what was read back from dotdigital."""

    def stage_remote(self, rows: Sequence[Observed]) -> None:
        """Stage contacts as dotdigital holds them; of several with the same address, the last counts."""
        last = {row.email: (row.email, row.contact_id, row.payload, row.in_address_book, row.excluded) for row in rows}
        bulk.stage(self.connection, observed, list(last.values()))

    def count_drift(self) -> tuple[int, int]:
        """Count differences between staged contacts and the ledger, before `apply_remote` overwrites them.

        Returns:
            Contacts with other labels than the confirmed ones, and contacts that were taken off the address book.
        """
        c, there = contacts.c, observed.c
        known = sa.select(sa.func.count()).select_from(contacts).where(self._mine, bulk.matching(c.email, observed))
        relabelled = known.where(c.confirmed.is_not(None), c.confirmed != there.payload)
        taken_off = known.where(c.in_address_book, ~there.in_address_book, ~c.removed)
        return (
            self.connection.scalar(relabelled) or 0,
            self.connection.scalar(taken_off) or 0,
        )

    def count_read_twice(self) -> int:
        """Count staged contacts whose address an earlier page of this run had, too."""
        query = sa.select(sa.func.count()).select_from(contacts).where(self._mine, bulk.matching(contacts.c.email, observed))
        return self.connection.scalar(query.where(contacts.c.checked_run == self.run)) or 0

    def apply_remote(self, *, settles_doubt: bool = True) -> None:
        """Store the staged state of contacts that the ledger knows; others are left out.

        Args:
            settles_doubt: whether what dotdigital holds now tells what became of rows whose result is unknown.
        """
        values: dict[str, Any] = {
            "contact_id": observed.c.contact_id,
            "confirmed": observed.c.payload,
            "in_address_book": observed.c.in_address_book,
            "in_doubt": sa.false() if settles_doubt else contacts.c.in_doubt,
            "checked_run": sa.literal(self.run),
        }
        self.connection.execute(sa.update(contacts).where(self._mine, bulk.matching(contacts.c.email, observed)).values(values))

    def adopt_labelled(self) -> int:
        """Add staged contacts with labels that the ledger does not know, and return their number.

        Their current labels become the desired ones, until a complete input shows that they are orphaned.
        """
        values = {
            "scope": sa.literal(self.scope),
            "email": observed.c.email,
            "contact_id": observed.c.contact_id,
            "confirmed": observed.c.payload,
            "desired": observed.c.payload,
            "removed": sa.true(),
            "in_address_book": observed.c.in_address_book,
            "in_doubt": sa.false(),
            "rejections": sa.literal(0),
            "pending": sa.false(),
            "checked_run": sa.literal(self.run),
        }
        stranger = ~sa.exists().where(self._mine, contacts.c.email == observed.c.email)
        select = sa.select(*values.values()).where(stranger, observed.c.payload != EMPTY, ~observed.c.excluded)
        insert = sa.insert(contacts).from_select(list(values), select).execution_options(preserve_rowcount=True)
        return self.connection.execute(insert).rowcount

    def forget_unseen(self, emails: Sequence[str] | None = None) -> int:
        """Forget the remote state of contacts that this run looked for and did not find, and return their number.

        Args:
            emails: addresses that were looked up; None if the whole account was read.
        """
        known = contacts.c.contact_id.is_not(None) | contacts.c.confirmed.is_not(None)
        gone = [self._mine, known, contacts.c.checked_run.is_distinct_from(self.run)]
        if emails is not None:
            gone.append(bulk.among(self.connection, contacts.c.email, emails))
        values = {"contact_id": None, "confirmed": None, "in_address_book": False, "in_doubt": False}
        return self.connection.execute(sa.update(contacts).where(*gone).values(values)).rowcount

    def recompute_pending(self, emails: Sequence[str] | None = None) -> None:
        """Recompute what is pending, after the remote state changed.

        Args:
            emails: addresses of the contacts whose remote state may have changed; None for every contact.
        """
        now = is_pending(self.uploads)
        changed = [self._mine, contacts.c.pending != now]
        if emails is not None:
            changed.append(bulk.among(self.connection, contacts.c.email, emails))
        self.connection.execute(sa.update(contacts).where(*changed).values(pending=now))

    def forget_shared_ids(self) -> None:
        """Forget the IDs of pending contacts that share their ID with another address.

        An address may be changed in dotdigital: the contact keeps its ID. Matched by ID, the row that clears the old address would
        clear the new one.
        """
        c = contacts.c
        matched = contacts.c.pending & c.contact_id.is_not(None) & ~may_create(self.uploads)
        if not self.connection.scalar(sa.select(sa.exists().where(self._mine, matched))):
            return
        sent = sa.select(c.contact_id).where(self._mine, matched)
        shared = (
            sa.select(c.contact_id).where(self._mine, c.contact_id.in_(sent)).group_by(c.contact_id).having(sa.func.count() > 1)
        )
        ids = list(self.connection.scalars(shared))
        for start in range(0, len(ids), IDS):
            some = c.contact_id.in_(ids[start : start + IDS])
            self.connection.execute(sa.update(contacts).where(self._mine, matched, some).values(contact_id=None, confirmed=None))

    def settle_unknown(self) -> int:
        """Mark pending contacts as settled that dotdigital does not hold, and return their number.

        There is nothing to clear in them, and nothing to create.
        """
        # a contact that was read back is there even if its ID is unusable
        unknown = contacts.c.contact_id.is_(None) & contacts.c.confirmed.is_(None)
        settled = sa.update(contacts).where(self._mine, contacts.c.pending, unknown, ~may_create(self.uploads))
        return self.connection.execute(settled.values(pending=False, in_doubt=False)).rowcount
