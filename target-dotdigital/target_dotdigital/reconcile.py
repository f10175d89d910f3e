"""Holds the ledger against what dotdigital really has: finds drift, and rebuilds a ledger that was lost."""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING

import sqlalchemy as sa

from target_dotdigital import bulk
from target_dotdigital.book import EMPTY, Book, open_scope
from target_dotdigital.directory import Directory
from target_dotdigital.tables import contacts, observed
from target_dotdigital.workplace import Workplace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_dotdigital.book import Observed
    from target_dotdigital.retry import Clock
    from target_dotdigital.settings import Settings


class Drift(enum.StrEnum):
    """How account and ledger differ over a contact."""

    LABELS = "labels were changed by somebody else"
    LISTED = "taken off the address book"
    DELETED = "deleted in dotdigital"
    NOBODYS = "labels that no contact of the source has: they will be cleared"
    ADOPTED = "unknown to the ledger, and taken over as they are"


class Reconciliation:
    """One reading back of the whole account.

    Args:
        book: the ledger's part.
        stamp: a number that no earlier reading back had.
        whole: whether the ledger knows every contact of the source.
        uploads: whether contacts are put into an address book.
    """

    def __init__(self, book: Book, stamp: int, *, whole: bool, uploads: bool) -> None:
        """Start with nothing read."""
        self.drift: Counter[Drift] = Counter()
        self._book = book
        self._stamp = stamp
        self._whole = whole
        self._uploads = uploads
        self._mine = contacts.c.scope == book.scope

    def take(self, page: Sequence[Observed]) -> int:
        """Compare a page of the account with the ledger, and store what is there; give its length."""
        # what the ledger knew is compared before it is overwritten
        self._book.see(page)
        c, there = contacts.c, observed.c
        known = sa.select(sa.func.count()).select_from(contacts).where(self._mine, bulk.matching(c.email, observed))
        changed = known.where(c.confirmed.is_not(None), c.confirmed != there.payload)
        self.drift[Drift.LABELS] += self._book.connection.scalar(changed) or 0
        if self._uploads:
            unlisted = known.where(c.listed, ~there.listed, ~c.vanished)
            self.drift[Drift.LISTED] += self._book.connection.scalar(unlisted) or 0
        self._book.observe(self._stamp)
        self._adopt()
        return len(page)

    def finish(self) -> None:
        """Forget the ids of contacts that the account no longer has, and decide anew what is pending."""
        gone = [self._mine, contacts.c.contact_id.is_not(None), contacts.c.found.is_distinct_from(self._stamp)]
        unknown = sa.update(contacts).where(*gone).values(contact_id=None, confirmed=None, listed=not self._uploads, in_doubt=False)
        self.drift[Drift.DELETED] = self._book.connection.execute(unknown).rowcount
        self._book.weigh()
        self._book.settle_unknown(vanished_only=self._uploads)

    def _adopt(self) -> None:
        """Take contacts into the ledger that it does not know."""
        labelled = observed.c.payload != EMPTY
        # once the source has named all, who only stands in the address book was put there by somebody else, and may stay
        wanted = labelled if self._whole else labelled | observed.c.listed
        values = {
            "scope": sa.literal(self._book.scope),
            "email": observed.c.email,
            "contact_id": observed.c.contact_id,
            "confirmed": observed.c.payload,
            "desired": sa.literal(EMPTY) if self._whole else observed.c.payload,
            "vanished": sa.true() if self._whole else ~observed.c.listed,
            "listed": observed.c.listed if self._uploads else sa.true(),
            "in_doubt": sa.false(),
            "pending": sa.false(),
            "found": sa.literal(self._stamp),
        }
        stranger = ~sa.exists().where(self._mine, contacts.c.email == observed.c.email)
        select = sa.select(*values.values()).where(stranger, wanted)
        insert = sa.insert(contacts).from_select(list(values), select).execution_options(preserve_rowcount=True)
        adopted = self._book.connection.execute(insert).rowcount
        self.drift[Drift.NOBODYS if self._whole else Drift.ADOPTED] += adopted


def reconcile(settings: Settings, clock: Clock) -> tuple[int, Counter[Drift], int]:
    """Read the whole account back into the ledger; give contacts read, drift by kind, and contacts that now wait.

    Raises:
        TargetError: account or ledger cannot be read.
    """
    with Workplace(settings, clock) as place:
        with place.ledger.engine.begin() as connection:
            scope = open_scope(connection, place.scope_key, place.account.id)
            book = Book(connection, scope.id, uploads=settings.upload_emails)
            reading = Reconciliation(book, int(clock.wall() * 1000), whole=bool(scope.whole), uploads=settings.upload_emails)
            total = sum(map(reading.take, Directory(place.client, place.account).pages()))
            reading.finish()
            book.describe(account_contacts=total)
            left = book.count(contacts.c.pending)
        return total, +reading.drift, left
