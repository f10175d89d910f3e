"""The contacts of the ledger: desired labels, the state in dotdigital, and the results of deliveries.

This is the only module that writes the table of contacts. Labels are stored as payloads (`models.to_payload`); NULL means "not known".
"""

from __future__ import annotations

import collections
import itertools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contact_queries import (
    MAX_MEMBERSHIP_TRIES,
    ContactQueries,
    is_delivered,
    is_pending,
    may_create,
    to_send,
)
from target_dotdigital.ledger.runs import update_scope
from target_dotdigital.ledger.schema import (
    accepted_rows,
    changed_input,
    contacts,
    deliveries,
    imports,
    incoming,
    labelled,
    mentioned,
    observed,
    replaced,
    row_results,
    scopes,
    unnamed,
)
from target_dotdigital.models import EMPTY, Plan, Sample, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from target_dotdigital.models import Observed, Uploads

Incoming = tuple[str, str, str, bool]  # address, stream, JSON array of names, whether the contact was removed
Known = dict[str, tuple[str | None, str | None, bool]]  # address -> stream, JSON array of names, whether the contact was removed
# read at most this many rows of the ledger per row of the input while it is in address order; beyond that, staging is cheaper
MAX_ROWS_READ_PER_INPUT_ROW = 2
# contacts that are read, and written, at once
CONTACTS_PER_PAGE = 20_000
# IDs in one statement; SQLite allows 32,766 parameters
MAX_IDS_PER_QUERY = 20_000
# kinds of changes that the review shows
MAX_SAMPLES = 8
AcceptedRow = tuple[str, str, int | None, bool]  # address, payload, contact ID, whether the row was matched by address
# hours before a rejected contact is retried, by the number of consecutive rejections; the last value applies from then on
RETRY_PAUSES = (0, 20, 68, 164)
# the columns of a contact that is not rejected
NOT_REJECTED: dict[str, Any] = {
    "rejected": None,
    "rejection": None,
    "rejections": 0,
    "retry_at": None,
    "rejected_since": None,
    "rejected_at": None,
}


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences between contacts of the account and contacts of the ledger.

    Args:
        known: contacts that are in the ledger with the same ID, such as contacts that this target created.
        twice: contacts that this read-back has already read under another spelling of the address.
        relabelled: contacts with other labels than the confirmed ones.
        taken_off: contacts that were taken off the address book.
        not_joined: contacts that are not in the address book, although they were delivered to it twice.
    """

    known: int
    twice: int
    relabelled: int
    taken_off: int
    not_joined: int


class ContactLedger(ContactQueries):
    """The contacts of one ledger scope, within one transaction of a run.

    The input is handled in one of two ways. As long as it lists the contacts in the order of their addresses, it is compared with the
    ledger batch by batch, and only contacts that are missing in it are recorded. All later records are staged, and compared after the
    end of the input.

    Args:
        connection: the transaction.
        scope: number of the scope.
        uploads: which contacts are created, and belong in the address book.
        run: number of the run; 0 for reading only.
    """

    def __init__(self, connection: sa.Connection, scope: int, *, uploads: Uploads, run: int = 0) -> None:
        super().__init__(connection, scope, uploads=uploads)
        self.run = run
        #: Number of unique contacts with usable labels in the input.
        self.input_count = 0
        # the input has every contact of the ledger up to this address, except those noted as absent
        self._compared_until = ""
        # whether the input has been in the order of the addresses so far
        self._in_order = True
        # number of contacts whose desired labels the input has changed
        self._stored = 0

    # The input

    def open_input(self) -> None:
        """Create the tables in which the input is staged."""
        for table in (incoming, mentioned, unnamed):
            bulk.replace_staged(self.connection, table)

    def compare_in_order(self, addresses: Sequence[str]) -> Known | None:
        """Return the contacts of the ledger after the last address that was compared, up to the last address of a batch.

        Args:
            addresses: addresses of the next batch of the input.

        Returns:
            None if the batch has to be staged: this or an earlier batch is not in order, or has less than half of the ledger's contacts.
        """
        if self._in_order:
            # PostgreSQL does not accept NUL, which the text of a record may contain
            ascending = all(map(operator.lt, addresses, itertools.islice(addresses, 1, None)))
            self._in_order = ascending and addresses[0] > self._compared_until and "\0" not in addresses[-1]
        if not self._in_order:
            return None
        c, most = contacts.c, MAX_ROWS_READ_PER_INPUT_ROW * len(addresses)
        query = (
            sa.select(c.email, c.stream, c.names, c.removed)
            .where(self._mine, c.email > self._compared_until, c.email <= addresses[-1])
            .order_by(c.email)
            .limit(most + 1)
        )
        rows = self.connection.execute(query).all()
        self._in_order = len(rows) <= most
        return {email: (stream, names, removed) for email, stream, names, removed in rows} if self._in_order else None

    def record_batch(self, until: str, count: int, left_out: Iterable[str]) -> None:
        """Record a batch that was compared in order.

        Args:
            until: its last address.
            count: contacts of the batch with usable labels.
            left_out: contacts of the ledger up to that address that the batch does not contain with usable labels.
        """
        self._compared_until = until
        self.input_count += count
        bulk.bulk_insert(self.connection, unnamed, [(email,) for email in left_out])

    def stage_input(self, rows: Sequence[Incoming]) -> None:
        """Stage contacts of the input; of several with the same address, the last counts."""
        bulk.bulk_insert(self.connection, incoming, list({row[0]: row for row in rows}.values()))

    def mark_present(self, emails: Iterable[str]) -> None:
        """Mark contacts that are in the input without usable labels: they were not removed."""
        bulk.bulk_insert(self.connection, mentioned, [(email,) for email in set(emails)])

    def streams_of(self, emails: Sequence[str]) -> dict[str, str | None]:
        """Return the stream of each of these contacts, from this input or the ledger; unknown contacts are left out."""
        found: dict[str, str | None] = {}
        for table, mine in ((contacts, self._mine), (incoming, sa.true())):
            query = sa.select(table.c.email, table.c.stream).where(mine, bulk.in_values(self.connection, table.c.email, emails))
            found |= {email: stream for email, stream in self.connection.execute(query)}
        return found

    def discard_stream_input(self, stream: str) -> None:
        """Discard which contacts of a stream the input has contained, because it lists them again in another version of the stream.

        The labels of the earlier version have to be stored before.
        """
        compare_in_order = sa.select(contacts.c.email).where(self._mine, contacts.c.stream == stream, self._is_compared)
        insert = sa.insert(unnamed).from_select(["email"], compare_in_order).execution_options(preserve_rowcount=True)
        if self._compared_until:
            self.input_count -= self.connection.execute(insert).rowcount
        self.connection.execute(sa.delete(incoming).where(incoming.c.stream == stream))

    def count_staged(self) -> None:
        """Count staged contacts. Call this before applying them."""
        staged = sa.select(sa.func.count()).select_from(incoming)
        count = self.connection.scalar(staged) or 0
        if count and self._compared_until:
            # address appeared once in sorted order and again later
            again = sa.exists().where(self._mine, contacts.c.email == incoming.c.email, self._is_compared)
            count -= self.connection.scalar(staged.where(again)) or 0
        self.input_count += count

    def is_in_input(self) -> sa.ColumnElement[bool]:
        """Return the condition for contacts that are in the input with usable labels."""
        staged = sa.exists().where(incoming.c.email == contacts.c.email)
        return staged | self._is_compared if self._compared_until else staged

    def is_present(self) -> sa.ColumnElement[bool]:
        """Return the condition for contacts that are in the input."""
        return self.is_in_input() | sa.exists().where(mentioned.c.email == contacts.c.email)

    @property
    def _is_compared(self) -> sa.ColumnElement[bool]:
        # a contact without a stream was read back after the end of the input, so the input was never compared with it
        there = (contacts.c.email <= self._compared_until) & contacts.c.stream.is_not(None)
        return there & ~sa.exists().where(unnamed.c.email == contacts.c.email)

    def changed_streams(self) -> set[str]:
        """Return the streams whose contacts this run's input changed."""
        query = sa.select(contacts.c.stream).where(self._mine, contacts.c.changed_run == self.run, contacts.c.stream.is_not(None))
        return set(self.connection.scalars(query.distinct()))

    def count_missing_since(self, run: int, streams: Iterable[str]) -> int:
        """Count contacts of the given streams that a later run changed and that are missing in the input.

        An input that starts from a bookmark has to contain every contact that changed after the bookmark was acknowledged. Otherwise
        the source has lost the record that it emitted them.
        """
        later = (contacts.c.changed_run > run) & (contacts.c.changed_run != self.run)
        return self._count(later, contacts.c.stream.in_(list(streams)), ~self.is_present())

    def contacts_to_verify(self, since: int | None, most: int | None = None) -> list[str]:
        """Return the addresses of contacts whose state in dotdigital has to be looked up before they are planned.

        These are contacts that were sent with an unknown result; pending contacts without a known ID that can only be matched by ID;
        and contacts that the input repeats although nothing has changed since its bookmark. For the last, source and ledger
        disagree: one of them was restored from a backup, so only dotdigital shows which labels were delivered last.

        Args:
            since: run that acknowledged the bookmark that the input starts from; None for an input without a bookmark.
            most: at most one address more than this is returned, which shows that there are more; None returns all.
        """
        c = contacts.c
        conditions: list[list[sa.ColumnElement[bool]]] = [
            [c.result_unknown],
            [c.pending, c.contact_id.is_(None), ~may_create(self.uploads)],
        ]
        if since is not None:
            repeated = (c.changed_run <= since) & (sa.func.coalesce(c.checked_run, 0) <= since)
            # not is_in_input(), whose OR would scan every contact
            conditions.append([c.email.in_(sa.select(incoming.c.email)), repeated])
            if self._compared_until:
                conditions.append([self._is_compared, repeated])
        limit = None if most is None else most + 1
        found = itertools.chain.from_iterable(self._emails(*condition, limit=limit) for condition in conditions)
        return list(dict.fromkeys(found))[:limit]

    def unseen_removals(self, most: int) -> list[str]:
        """Return the addresses of contacts that this input removes, and that were not seen when the account was read.

        Args:
            most: maximum number of addresses.
        """
        c = contacts.c
        unseen = c.contact_id.is_(None) & c.confirmed.is_(None)
        return self._emails(c.pending, c.removed, unseen, c.changed_run == self.run, limit=most)

    # Desired labels

    def store_input(self, rows: Sequence[Incoming], known: Container[str], payload_of: Callable[[str], str]) -> None:
        """Store labels of the input as desired labels, for contacts that changed.

        Args:
            rows: different contacts.
            known: addresses that are already in the ledger; it may contain other addresses.
            payload_of: returns the payload for a JSON array of names.
        """
        if not rows:
            return
        self._note_change()
        changed = [(*row, payload_of(row[2])) for row in rows if row[0] in known]
        if changed:
            bulk.replace_staged(self.connection, changed_input, changed)
            self.connection.execute(self._update_changed())
        new = [(*row, payload_of(row[2]), *self._new.values()) for row in rows if row[0] not in known]
        bulk.bulk_insert(
            self.connection, contacts, new, ("email", "stream", "names", "removed", "desired", *self._new), replace=False
        )
        self._stored += len(rows)

    def store_staged_input(self, payload_of: Callable[[str], str]) -> None:
        """Store the labels of the staged input as desired labels, for contacts that changed.

        Args:
            payload_of: returns the payload for a JSON array of names.
        """
        is_changed = incoming.c.names.is_distinct_from(contacts.c.names) | (incoming.c.removed != contacts.c.removed)
        start = sa.bindparam("after", type_=sa.Text)
        page = (
            sa.select(incoming.c.email, incoming.c.stream, incoming.c.names, incoming.c.removed, contacts.c.email)
            # the page's start on both sides, because PostgreSQL merges them in the order of the addresses
            .outerjoin(contacts, self._mine & (contacts.c.email == incoming.c.email) & (contacts.c.email > start))
            .where(incoming.c.email > start, is_changed | incoming.c.stream.is_distinct_from(contacts.c.stream))
            .order_by(incoming.c.email)
            .limit(CONTACTS_PER_PAGE)
        )
        after = ""
        while rows := self.connection.execute(page, {"after": after}).all():
            self.store_input(
                [(email, stream, names, removed) for email, stream, names, removed, _ in rows], {row[4] for row in rows}, payload_of
            )
            after = rows[-1][0]
        if self._stored > CONTACTS_PER_PAGE:
            bulk.analyze(self.connection, contacts)

    @property
    def _new(self) -> dict[str, Any]:
        """Return the initial values of a contact that is new to the ledger."""
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

    def _update_changed(self) -> sa.Update:
        new = changed_input.c
        # the rejection of a removed contact does not apply after the contact has returned
        rejected = sa.case((contacts.c.removed == new.removed, contacts.c.rejected))
        return (
            sa.update(contacts)
            .where(self._mine, bulk.joins_staged(contacts.c.email, changed_input))
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

    def remove_unmentioned(self, full: Iterable[str], incremental: Iterable[str]) -> int:
        """Mark contacts as removed that a full input does not contain, and return their number.

        If every stream of the input is full, this includes contacts of streams that the input no longer has, and contacts that no
        stream of the source ever contained (orphaned labels): a data field belongs to one pipeline.

        Args:
            full: streams of which the input contains every contact.
            incremental: streams of which the input contains only changes.
        """
        return self._remove(
            ~self.is_present(),
            contacts.c.stream.in_(list(full)) if list(incremental) else sa.true(),
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

    def restore_labels(self, images: dict[str, tuple[str | None, str]]) -> int:
        """Make replaced labels the desired ones, for contacts that still have the replacing labels, and return their number.

        Args:
            images: address -> payload before and payload after; None before means "empty".
        """
        rows = [(email, before or EMPTY, after) for email, (before, after) in images.items()]
        bulk.replace_staged(self.connection, replaced, rows)
        statement = (
            sa.update(contacts)
            .where(self._mine, bulk.joins_staged(contacts.c.email, replaced), contacts.c.confirmed == replaced.c.after)
            # the names no longer match the labels
            .values(desired=replaced.c.before, names=None, restored=self.run, pending=is_pending(self.uploads, replaced.c.before))
        )
        changed = self.connection.execute(statement).rowcount
        if changed:
            update_scope(self.connection, self.scope, segments=None)
        return changed

    def recompute_labels(self, payload_of: Callable[[str], str]) -> None:
        """Recompute all desired labels from the names.

        Args:
            payload_of: returns the payload for a JSON array of names.
        """
        page = sa.select(contacts.c.email, contacts.c.names).order_by(contacts.c.email).limit(CONTACTS_PER_PAGE)
        known = self._mine & ~contacts.c.removed & contacts.c.names.is_not(None)
        statement = (
            sa.update(contacts)
            .where(self._mine, bulk.joins_staged(contacts.c.email, labelled))
            .values(desired=labelled.c.payload, pending=is_pending(self.uploads, labelled.c.payload))
        )
        after = ""
        while rows := self.connection.execute(page.where(known, contacts.c.email > after)).all():
            bulk.replace_staged(self.connection, labelled, [(email, payload_of(names)) for email, names in rows])
            self.connection.execute(statement)
            after = rows[-1][0]

    def mark_excluded(self, is_excluded: Callable[[str], bool] | None) -> None:
        """Mark the contacts that are excluded by the settings: they are not sent, and keep their labels.

        Args:
            is_excluded: whether an address is excluded; None if no pattern is set.
        """
        page = sa.select(contacts.c.email, contacts.c.excluded).order_by(contacts.c.email).limit(CONTACTS_PER_PAGE)
        after, changed = "", False
        while rows := self.connection.execute(page.where(self._mine, contacts.c.email > after)).all():
            wrong = [email for email, excluded in rows if excluded != (is_excluded is not None and is_excluded(email))]
            if wrong:
                which = self._mine, bulk.in_values(self.connection, contacts.c.email, wrong)
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
            for page in self.connection.execute(query.execution_options(yield_per=CONTACTS_PER_PAGE)).scalars().partitions():
                lists = msgspec.json.decode(f"[{','.join(page)}]", type=list[list[str]])
                counted.update(itertools.chain.from_iterable(lists))
            # sorted here, because the encoder's own ordering takes quadratic time
            known = msgspec.json.encode(dict(sorted(counted.items()))).decode()
            update_scope(self.connection, self.scope, segments=known)
        return msgspec.json.decode(known, type=dict[str, int])

    def _note_change(self) -> None:
        update_scope(self.connection, self.scope, segments=None, changed_run=self.run)

    # State in dotdigital

    def stage_remote(self, rows: Sequence[Observed]) -> None:
        """Stage contacts as dotdigital holds them; of several with the same address, the last counts."""
        last = {
            row.email: (row.email, row.contact_id, row.payload, row.in_address_book, row.is_pending_opt_in, row.excluded)
            for row in rows
        }
        bulk.replace_staged(self.connection, observed, list(last.values()))

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
        sums = (sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0) for condition in conditions)
        query = sa.select(*sums).select_from(contacts).where(self._mine, bulk.joins_staged(c.email, observed))
        return Differences(*self.connection.execute(query).one())

    def begin_reading(self) -> None:
        """Begin to read the whole account: a contact that was looked up before in this run is not read twice because of that."""
        checked = sa.update(contacts).where(self._mine, contacts.c.checked_run == self.run)
        self.connection.execute(checked.values(checked_run=None))

    def apply_remote(self) -> None:
        """Store the staged state of contacts that are in the ledger; other contacts are left out."""
        c, there = contacts.c, observed.c
        values: dict[str, Any] = {
            "contact_id": there.contact_id,
            "confirmed": there.payload,
            # in no stream, and not cleared by a run: it keeps its labels
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
        self.connection.execute(sa.update(contacts).where(self._mine, bulk.joins_staged(contacts.c.email, observed)).values(values))

    def add_unknown_labelled(self) -> int:
        """Add staged contacts with labels that are not in the ledger, and return their number.

        Their current labels become the desired ones, until a full input shows that they are orphaned.
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

    def clear_remote_state(self, emails: Sequence[str] | None = None) -> int:
        """Forget the remote state of contacts that this run looked for and did not find, and return their number.

        Args:
            emails: addresses that were looked up; None if the whole account was read.
        """
        known = contacts.c.contact_id.is_not(None) | contacts.c.confirmed.is_not(None)
        unseen = [self._mine, contacts.c.checked_run.is_distinct_from(self.run)]
        if emails is not None:
            unseen.append(bulk.in_values(self.connection, contacts.c.email, emails))
        values = {"contact_id": None, "confirmed": None, "in_address_book": False, "membership_tries": 0, "result_unknown": False}
        gone = self.connection.execute(sa.update(contacts).where(*unseen, known).values(values)).rowcount
        # sent for the first time, and not found: the result is now known
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
        twice = self._count(c.in_address_book, c.membership_tries == MAX_MEMBERSHIP_TRIES - 1)
        absent = sa.update(contacts).where(self._mine, c.in_address_book)
        self.connection.execute(absent.values(in_address_book=False, membership_tries=c.membership_tries + 1))
        return twice

    def trust_membership(self) -> None:
        """Trust that all contacts which were delivered by address are in the address book, because its size matches."""
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
            changed.append(bulk.in_values(self.connection, contacts.c.email, emails))
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
        for start in range(0, len(ids), MAX_IDS_PER_QUERY):
            some = c.contact_id.in_(ids[start : start + MAX_IDS_PER_QUERY])
            forgotten = sa.update(contacts).where(self._mine, matched, some).values(contact_id=None, confirmed=None)
            count += self.connection.execute(forgotten).rowcount
        return count

    def drop_unknown(self) -> int:
        """Mark pending contacts that dotdigital does not hold as not pending, and return their number.

        Nothing has to be cleared or created for them.
        """
        # a contact that was read back exists even if its ID is unusable
        unknown = contacts.c.contact_id.is_(None) & contacts.c.confirmed.is_(None)
        settled = sa.update(contacts).where(self._mine, contacts.c.pending, unknown, ~may_create(self.uploads))
        count = self.connection.execute(settled.values(pending=False, result_unknown=False)).rowcount
        self._settle_rejections(unknown & ~may_create(self.uploads))
        return count

    def _settle_rejections(self, absent: sa.ColumnElement[bool]) -> None:
        """Mark contacts as not rejected if nothing is left to deliver: the source withdrew the labels, or the contact was removed.

        Args:
            absent: the condition for contacts that dotdigital does not hold, and that are not created.
        """
        c = contacts.c
        settled = ~c.result_unknown & (absent | is_delivered(self.uploads))
        rejected = sa.update(contacts).where(self._mine, c.rejection.is_not(None), c.held.is_(None), settled)
        self.connection.execute(rejected.values(NOT_REJECTED))

    # The plan

    def plan_figures(self, restored: int | None = None) -> Plan:
        """Count the contacts to send by kind of change.

        Args:
            restored: number of a restoring run, which sends only the contacts that it restores; None for any other run.
        """
        c = contacts.c
        sent = to_send(restored)
        labelled = c.confirmed.is_not(None) & (c.confirmed != EMPTY) & ~c.excluded
        kind = sa.case(
            (c.contact_id.is_(None) & c.confirmed.is_(None) & may_create(self.uploads), "created"),
            (labelled & (c.desired == EMPTY), "cleared"),
            (c.confirmed.is_distinct_from(c.desired), "updated"),
            (~c.in_address_book & may_create(self.uploads), "added_to_address_book"),
            else_="resent",
        )
        relabelled = labelled & (c.confirmed != c.desired)
        orphaned = labelled & (c.desired == EMPTY) & c.stream.is_(None)
        unlabelled = (kind == "created") & (c.desired == EMPTY)
        sums = (
            sa.func.sum(sa.case((condition, 1), else_=0)) for condition in (relabelled, self.is_in_input(), orphaned, unlabelled)
        )
        query = sa.select(kind, sa.func.count(), *sums).where(self._mine, sent).group_by(kind)
        rows = self.connection.execute(query).all()
        kinds: dict[str, int] = {row[0]: row[1] for row in rows}
        samples = (
            sa.select(c.confirmed, c.desired, sa.func.count().label("contacts"))
            .where(self._mine, sent)
            .group_by(c.confirmed, c.desired)
            .order_by(sa.desc("contacts"), c.desired, c.confirmed)
            .limit(MAX_SAMPLES)
        )
        return Plan(
            **{name: kinds.get(name, 0) for name in ("created", "updated", "cleared", "added_to_address_book", "resent")},
            created_without_labels=sum(row[5] for row in rows),
            unchanged=self.input_count - sum(row[3] for row in rows),
            orphaned=sum(row[4] for row in rows),
            labelled=self._count(labelled),
            relabelled=sum(row[2] for row in rows),
            samples=tuple(Sample(*row) for row in self.connection.execute(samples)),
        )

    # Results of deliveries

    def mark_import_unknown(self, key: int) -> None:
        """Mark the contacts of an import whose result will never be known: their labels are unknown as well."""
        self._mark_unknown(_is_in_import(key))

    def mark_unconfirmed(self) -> None:
        """Mark the contacts among the staged results of an import that are missing in its report."""
        self._mark_unknown(bulk.joins_staged(contacts.c.email, row_results, row_results.c.verdict == Verdict.UNCONFIRMED))

    def quarantine(self, key: int) -> int:
        """Hold the contacts of an import that the Data Watchdog rejected, and return their number."""
        held = sa.update(contacts).where(self._mine, _is_in_import(key)).values(held=key, pending=False, result_unknown=True)
        return self.connection.execute(held).rowcount

    def release_held(self) -> int:
        """Make held contacts pending again, and return their number."""
        held = sa.update(contacts).where(self._mine, contacts.c.held.is_not(None))
        return self.connection.execute(held.values(held=None, pending=is_pending(self.uploads, held=sa.null()))).rowcount

    def release_due(self, now: float) -> None:
        """Make rejected contacts pending whose pause is over.

        Args:
            now: seconds since 1970.
        """
        due = sa.update(contacts).where(self._mine, contacts.c.rejection.is_not(None), contacts.c.retry_at <= now)
        self.connection.execute(due.values(rejected=None, retry_at=None, pending=is_pending(self.uploads, rejected=sa.null())))

    def confirm(self, rows: Sequence[AcceptedRow]) -> None:
        """Apply the rows of an import that created or updated a contact."""

        def values(given: Mapping[str, sa.ColumnElement[Any]]) -> dict[str, Any]:
            # rows matched by ID carry no address book
            joined = given["by_address"] & (contacts.c.membership_tries < MAX_MEMBERSHIP_TRIES)
            in_address_book = contacts.c.in_address_book | joined
            return {
                **NOT_REJECTED,
                "confirmed": given["payload"],
                "result_unknown": False,
                "held": None,
                "contact_id": sa.func.coalesce(given["contact_id"], contacts.c.contact_id),
                "in_address_book": in_address_book,
                # the desired labels may have changed since the row was sent
                "pending": is_pending(
                    self.uploads,
                    confirmed=given["payload"],
                    in_address_book=in_address_book,
                    result_unknown=sa.false(),
                    rejected=sa.null(),
                    held=sa.null(),
                ),
            }

        bulk.bulk_update(self.connection, contacts, self._mine, accepted_rows, values, rows)

    def count_unexpectedly_created(self, created: Iterable[str]) -> int:
        """Count the created contacts that were read back in this run.

        Such a contact was deleted meanwhile, or dotdigital treats two spellings of an address as two contacts.

        Args:
            created: addresses of the rows that created a contact.
        """
        again = contacts.c.contact_id.is_not(None) & (contacts.c.checked_run == self.run)
        found = (
            sa.select(sa.func.count())
            .select_from(contacts)
            .where(self._mine, bulk.in_values(self.connection, contacts.c.email, created))
        )
        return self.connection.scalar(found.where(again)) or 0

    def mark_wrong_contact(self, rows: Sequence[tuple[str, str]], *, clears: bool) -> None:
        """Mark the contacts of rows that updated the wrong contact, so that both contacts are looked up.

        A wrong contact that is not in the ledger is added to it, because it holds labels that were sent to it by mistake.

        Args:
            rows: address of each row, and address of the contact that it updated.
            clears: whether contacts that are not in the source lose their labels; otherwise such a contact keeps its labels.
        """
        if not rows:
            return
        reached = {other for _, other in rows}
        self._mark_to_look_up(bulk.in_values(self.connection, contacts.c.email, [email for row in rows for email in row]))
        known = sa.select(contacts.c.email).where(self._mine, bulk.in_values(self.connection, contacts.c.email, reached))
        had_full_input = self.connection.scalar(sa.select(scopes.c.had_full_input).where(scopes.c.id == self.scope))
        new = {
            "scope": self.scope,
            "desired": EMPTY,
            "removed": True,
            "in_address_book": False,
            "result_unknown": True,
            # not before it was looked up
            "pending": False,
            "rejections": 0,
            "membership_tries": 0,
            "excluded": False,
            # labels that no run has desired are kept
            "changed_run": self.run if had_full_input and clears else None,
        }
        added = [(email, *new.values()) for email in reached.difference(self.connection.scalars(known))]
        bulk.bulk_insert(self.connection, contacts, added, ("email", *new), replace=False)

    def mark_unverified(self) -> None:
        """Mark every contact of imports that were not verified, and forget its ID, so that it is looked up."""
        unverified = sa.select(imports.c.id).where(imports.c.scope == self.scope, ~imports.c.verified)
        delivered = sa.select(deliveries.c.email).where(deliveries.c["import"].in_(unverified), deliveries.c.outcome.is_(None))
        self._mark_to_look_up(contacts.c.email.in_(delivered))

    def _mark_to_look_up(self, which: sa.ColumnElement[bool]) -> None:
        unknown: dict[str, Any] = {"confirmed": sa.null(), "in_address_book": sa.false(), "result_unknown": sa.true()}
        pending = is_pending(self.uploads, **unknown)
        self.connection.execute(sa.update(contacts).where(self._mine, which).values(contact_id=None, pending=pending, **unknown))

    def forget_missing_ids(self, key: int) -> int:
        """Clear the remote state of contacts whose ID no longer exists, and return their number.

        Another contact may have the address by now, so it is looked up. Contacts that may be created were matched by ID only to
        restore them; for these, the row counts as rejected.
        """
        gone = self._rows_with_verdict(key, Verdict.REJECTED).where(row_results.c.id_not_found, ~may_create(self.uploads))
        absent: dict[str, Any] = {"confirmed": sa.null(), "in_address_book": sa.false(), "result_unknown": sa.false()}
        pending = is_pending(self.uploads, **absent)
        return self.connection.execute(gone.values(contact_id=None, pending=pending, **absent)).rowcount

    def reject(self, key: int, now: float) -> dict[str, int]:
        """Apply the rejected rows among the staged results of an import, except those that `forget_missing_ids` handles.

        Args:
            key: number of the import.
            now: seconds since 1970.

        Returns:
            New rejections: code -> number of contacts that were not rejected with this code before.
        """
        reason = sa.func.coalesce(row_results.c.reason, "Unknown")
        query = (
            sa.select(reason, sa.func.count())
            .select_from(contacts)
            .join(row_results, bulk.joins_staged(contacts.c.email, row_results, row_results.c.verdict == Verdict.REJECTED))
            .where(self._mine, contacts.c.rejection.is_distinct_from(reason), self._counts_as_rejected)
            .group_by(row_results.c.reason)
        )
        new_rejections = {code: count for code, count in self.connection.execute(query)}
        pauses = [(contacts.c.rejections == times, now + hours * 3600.0) for times, hours in enumerate(RETRY_PAUSES)]
        later = sa.case(*pauses, else_=now + RETRY_PAUSES[-1] * 3600.0)
        # if the contact was deleted, its ID and confirmed labels are no longer valid
        confirmed = sa.case((~row_results.c.id_not_found, contacts.c.confirmed))
        rejected = (
            self._rows_with_verdict(key, Verdict.REJECTED)
            .where(self._counts_as_rejected)
            .values(
                result_unknown=False,
                contact_id=sa.case((~row_results.c.id_not_found, contacts.c.contact_id)),
                confirmed=confirmed,
                rejected=deliveries.c.after,
                rejection=reason,
                rejections=contacts.c.rejections + 1,
                rejected_since=sa.case((contacts.c.rejection == reason, contacts.c.rejected_since), else_=now),
                rejected_at=now,
                retry_at=sa.case((~row_results.c.final, later)),
                # the desired labels may have changed since the row was sent
                pending=is_pending(self.uploads, confirmed=confirmed, result_unknown=sa.false(), rejected=deliveries.c.after),
            )
        )
        self.connection.execute(rejected)
        return new_rejections

    @property
    def _counts_as_rejected(self) -> sa.ColumnElement[bool]:
        """Return the condition for rejected rows, without contacts that `forget_missing_ids` handles."""
        return ~row_results.c.id_not_found | may_create(self.uploads)

    def _mark_unknown(self, *conditions: sa.ColumnElement[bool]) -> None:
        pending = is_pending(self.uploads, result_unknown=sa.true())
        self.connection.execute(sa.update(contacts).where(self._mine, *conditions).values(result_unknown=True, pending=pending))

    def _rows_with_verdict(self, key: int, verdict: Verdict) -> sa.Update:
        return sa.update(contacts).where(
            self._mine,
            bulk.joins_staged(contacts.c.email, row_results, row_results.c.verdict == verdict),
            deliveries.c["import"] == key,
            deliveries.c.email == row_results.c.email,
        )


def forget_address(connection: sa.Connection, email: str) -> tuple[int, dict[int, bool]]:
    """Delete an address from every ledger scope.

    Returns:
        The number of rows; and the scopes whose source may still have the contact, each with whether the result of a delivery of it
        is outstanding, so that only a full input shows which labels it should have.
    """
    c = contacts.c
    open_delivery = (
        sa.exists()
        .where(imports.c.scope == c.scope, imports.c.result_run.is_(None) | imports.c.lost_at.is_not(None) | ~imports.c.verified)
        .where(deliveries.c["import"] == imports.c.id, deliveries.c.email == c.email)
    )
    outstanding = c.pending | c.result_unknown | c.held.is_not(None) | c.rejection.is_not(None) | open_delivery
    in_source = sa.select(c.scope, outstanding).where(c.email == email, ~c.removed, ~c.excluded)
    found = {scope: bool(is_outstanding) for scope, is_outstanding in connection.execute(in_source)}
    return connection.execute(sa.delete(contacts).where(c.email == email)).rowcount, found


def _is_in_import(key: int) -> sa.ColumnElement[bool]:
    return contacts.c.email.in_(sa.select(deliveries.c.email).where(deliveries.c["import"] == key))
