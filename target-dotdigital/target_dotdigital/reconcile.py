"""Holds the ledger against what dotdigital really has: finds drift, and rebuilds a ledger that was lost."""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING

import sqlalchemy as sa

from target_dotdigital.book import EMPTY, Book, open_scope
from target_dotdigital.directory import Directory
from target_dotdigital.tables import contacts
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
        known = self._known([one.email for one in page])
        strangers = []
        for one in page:
            row = known.get(one.email)
            if row is None:
                if one.payload != EMPTY or one.listed:
                    strangers.append(one)
                continue
            if row.confirmed is not None and row.confirmed != one.payload:
                self.drift[Drift.LABELS] += 1
            if self._uploads and row.listed and not one.listed and not row.vanished:
                self.drift[Drift.LISTED] += 1
        self._book.observe([one for one in page if one.email in known])
        self._adopt(strangers)
        self._mark([one.email for one in page])
        return len(page)

    def finish(self) -> None:
        """Forget the ids of contacts that the account no longer has, and decide anew what is pending."""
        gone = [self._mine, contacts.c.contact_id.is_not(None), contacts.c.found.is_distinct_from(self._stamp)]
        unknown = sa.update(contacts).where(*gone).values(contact_id=None, confirmed=None, listed=not self._uploads, in_doubt=False)
        self.drift[Drift.DELETED] = self._book.connection.execute(unknown).rowcount
        self._book.weigh()
        self._book.settle_unknown(vanished_only=self._uploads)

    def _known(self, emails: list[str]) -> dict[str, sa.Row[tuple[str, str | None, bool, bool]]]:
        columns = (contacts.c.email, contacts.c.confirmed, contacts.c.listed, contacts.c.vanished)
        rows = self._book.connection.execute(sa.select(*columns).where(self._mine, contacts.c.email.in_(emails)))
        return {row.email: row for row in rows}

    def _adopt(self, strangers: list[Observed]) -> None:
        if self._whole:
            # who only stands in the address book was put there by somebody else, and may stay
            strangers = [one for one in strangers if one.payload != EMPTY]
        self.drift[Drift.NOBODYS if self._whole else Drift.ADOPTED] += len(strangers)
        rows = [
            {
                "email": one.email,
                "contact_id": one.contact_id,
                "confirmed": one.payload,
                "desired": EMPTY if self._whole else one.payload,
                "vanished": self._whole or not one.listed,
                "listed": one.listed or not self._uploads,
            }
            for one in strangers
        ]
        if rows:
            new = sa.insert(contacts).values(scope=self._book.scope, run=0, in_doubt=False, pending=False)
            self._book.connection.execute(new, rows)

    def _mark(self, emails: list[str]) -> None:
        self._book.connection.execute(sa.update(contacts).where(self._mine, contacts.c.email.in_(emails)).values(found=self._stamp))


def reconcile(settings: Settings, clock: Clock) -> tuple[int, Counter[Drift], int]:
    """Read the whole account back into the ledger; give contacts read, drift by kind, and contacts that now wait.

    Raises:
        TargetError: account or ledger cannot be read.
    """
    with Workplace(settings, clock) as place:
        with place.ledger.engine.begin() as connection:
            scope = open_scope(connection, place.scope_key, place.account.id)
            book = Book(connection, scope.id, 0, uploads=settings.upload_emails)
            reading = Reconciliation(book, int(clock.wall() * 1000), whole=bool(scope.whole), uploads=settings.upload_emails)
            total = sum(map(reading.take, Directory(place.client, place.account).pages()))
            reading.finish()
            book.describe(account_contacts=total)
            waiting = book.count(contacts.c.pending)
        return total, +reading.drift, waiting
