"""What dotdigital holds, as read back from the account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contacts.pending import MAX_MEMBERSHIP_TRIES, NOT_REJECTED, is_delivered, is_pending, may_create
from target_dotdigital.ledger.contacts.queries import ContactQueries
from target_dotdigital.ledger.tables import contacts, observed
from target_dotdigital.payloads import EMPTY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_dotdigital.records import Observed

IDS = 20_000


@dataclass(frozen=True, slots=True)
class Differences:
    """How contacts of the account compare with those that the ledger has.

    Args:
        known: contacts that the ledger has with the same ID, such as those that it created itself.
        twice: contacts that were read before in this reading, under another spelling of the address.
        relabelled: contacts with other labels than the confirmed ones.
        taken_off: contacts that were taken off the address book.
        not_joined: contacts that are not in the address book, although they were delivered to it twice.
    """

    known: int
    twice: int
    relabelled: int
    taken_off: int
    not_joined: int


class RemoteContacts(ContactQueries):
    """Stores what was read back from dotdigital."""

    def stage_remote(self, rows: Sequence[Observed]) -> None:
        """Stage contacts as dotdigital holds them; of several with the same address, the last counts."""
        last = {
            row.email: (row.email, row.contact_id, row.payload, row.in_address_book, row.is_pending_opt_in, row.excluded)
            for row in rows
        }
        bulk.stage(self.connection, observed, list(last.values()))

    def compare_remote(self) -> Differences:
        """Compare the staged contacts with the ledger, before `apply_remote` overwrites it."""
        c, there = contacts.c, observed.c
        # a contact that has yet to confirm its opt-in joins the address book when it does
        absent = c.in_address_book & ~there.in_address_book & ~there.pending_opt_in & may_create(self.uploads)
        conditions = (
            c.contact_id == there.contact_id,
            c.checked_run == self.run,
            c.confirmed.is_not(None) & (c.confirmed != there.payload),
            absent & (c.membership_tries == 0),
            absent & (c.membership_tries == MAX_MEMBERSHIP_TRIES - 1),
        )
        sums = (sa.func.coalesce(sa.func.sum(sa.case((one, 1), else_=0)), 0) for one in conditions)
        query = sa.select(*sums).select_from(contacts).where(self._mine, bulk.matching(c.email, observed))
        return Differences(*self.connection.execute(query).one())

    def begin_reading(self) -> None:
        """Begin to read the whole account: a contact that was looked up before in this run is not read twice because of that."""
        checked = sa.update(contacts).where(self._mine, contacts.c.checked_run == self.run)
        self.connection.execute(checked.values(checked_run=None))

    def apply_remote(self) -> None:
        """Store the staged state of contacts that the ledger knows; others are left out."""
        c, there = contacts.c, observed.c
        values: dict[str, Any] = {
            "contact_id": there.contact_id,
            "confirmed": there.payload,
            # no stream has named it, and no run has cleared it: it keeps what it holds
            "desired": sa.case((c.stream.is_(None) & c.changed_run.is_(None), there.payload), else_=c.desired),
            "in_address_book": there.in_address_book,
            "membership_tries": sa.case(
                (there.in_address_book, 0),
                (there.pending_opt_in, MAX_MEMBERSHIP_TRIES),
                (c.in_address_book, c.membership_tries + 1),
                else_=c.membership_tries,
            ),
            "result_unknown": sa.false(),
            "excluded": there.excluded,
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
            "membership_tries": sa.literal(0),
            "result_unknown": sa.false(),
            "excluded": sa.false(),
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
        unseen = [self._mine, contacts.c.checked_run.is_distinct_from(self.run)]
        if emails is not None:
            unseen.append(bulk.among(self.connection, contacts.c.email, emails))
        values = {"contact_id": None, "confirmed": None, "in_address_book": False, "membership_tries": 0, "result_unknown": False}
        gone = self.connection.execute(sa.update(contacts).where(*unseen, known).values(values)).rowcount
        # sent for the first time, and not there: the result is known by now
        self.connection.execute(sa.update(contacts).where(*unseen, contacts.c.result_unknown).values(result_unknown=False))
        return gone

    def forget_membership(self) -> None:
        """Forget who is in the address book, because it is another one now: the account has to be read back."""
        listed = contacts.c.in_address_book | (contacts.c.membership_tries > 0)
        self.connection.execute(sa.update(contacts).where(self._mine, listed).values(in_address_book=False, membership_tries=0))

    def retry_membership(self) -> None:
        """Let contacts be delivered once more that dotdigital did not put into the address book."""
        tried = sa.update(contacts).where(self._mine, contacts.c.membership_tries > 0)
        self.connection.execute(tried.values(membership_tries=0))

    def note_empty_book(self) -> int:
        """Record that the address book has no contact, and return the number of contacts that were delivered to it twice."""
        c = contacts.c
        twice = sa.select(sa.func.count()).where(self._mine, c.in_address_book, c.membership_tries == MAX_MEMBERSHIP_TRIES - 1)
        count = self.connection.scalar(twice) or 0
        absent = sa.update(contacts).where(self._mine, c.in_address_book)
        self.connection.execute(absent.values(in_address_book=False, membership_tries=c.membership_tries + 1))
        return count

    def trust_membership(self) -> None:
        """Trust that all contacts which were delivered by address are in the address book, because its size says so."""
        assumed = contacts.c.in_address_book & (contacts.c.membership_tries > 0)
        self.connection.execute(sa.update(contacts).where(self._mine, assumed).values(membership_tries=0))

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

    def forget_shared_ids(self) -> int:
        """Forget the IDs of pending contacts that share their ID with another address, and return their number.

        An address may be changed in dotdigital: the contact keeps its ID. Matched by ID, the row that clears the old address would
        clear the new one.
        """
        c = contacts.c
        matched = contacts.c.pending & c.contact_id.is_not(None) & ~may_create(self.uploads)
        if not self.connection.scalar(sa.select(sa.exists().where(self._mine, matched))):
            return 0
        sent = sa.select(c.contact_id).where(self._mine, matched)
        shared = (
            sa.select(c.contact_id).where(self._mine, c.contact_id.in_(sent)).group_by(c.contact_id).having(sa.func.count() > 1)
        )
        ids = list(self.connection.scalars(shared))
        count = 0
        for start in range(0, len(ids), IDS):
            some = c.contact_id.in_(ids[start : start + IDS])
            forgotten = sa.update(contacts).where(self._mine, matched, some).values(contact_id=None, confirmed=None)
            count += self.connection.execute(forgotten).rowcount
        return count

    def settle_unknown(self) -> int:
        """Mark pending contacts as settled that dotdigital does not hold, and return their number.

        There is nothing to clear in them, and nothing to create.
        """
        # a contact that was read back is there even if its ID is unusable
        unknown = contacts.c.contact_id.is_(None) & contacts.c.confirmed.is_(None)
        settled = sa.update(contacts).where(self._mine, contacts.c.pending, unknown, ~may_create(self.uploads))
        count = self.connection.execute(settled.values(pending=False, result_unknown=False)).rowcount
        self._settle_rejections(unknown & ~may_create(self.uploads))
        return count

    def _settle_rejections(self, absent: sa.ColumnElement[bool]) -> None:
        """Mark contacts as not rejected in which nothing is left to deliver: the source took the labels back, or the contact left.

        Args:
            absent: the condition for contacts that dotdigital does not hold, and that are not created.
        """
        c = contacts.c
        settled = ~c.result_unknown & (absent | is_delivered(self.uploads))
        rejected = sa.update(contacts).where(self._mine, c.rejection.is_not(None), c.held.is_(None), settled)
        self.connection.execute(rejected.values(NOT_REJECTED))
