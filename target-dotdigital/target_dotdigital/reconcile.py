"""Holds the ledger against what dotdigital really has, and shows the drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.book import Book, open_scope
from target_dotdigital.deliveries import begin_run, end_run
from target_dotdigital.directory import Directory
from target_dotdigital.payloads import EMPTY
from target_dotdigital.reading import AccountReading, Drift
from target_dotdigital.tables import contacts
from target_dotdigital.workplace import Workplace

if TYPE_CHECKING:
    from collections import Counter

    from target_dotdigital.retry import Clock
    from target_dotdigital.settings import Settings


def reconcile(settings: Settings, clock: Clock) -> tuple[int, Counter[Drift], int]:
    """Read the whole account back into the ledger; return contacts read, drift by kind, and contacts that now wait.

    Labels of contacts that the source does not have are cleared by the next run if the source has once named all of its
    contacts to this ledger; else they are left as they are until it does.

    Raises:
        TargetError: account or ledger cannot be read.
    """
    with Workplace(settings, clock) as place, place.ledger.engine.begin() as connection:
        scope = open_scope(connection, place.scope_key, place.account.id)
        run = begin_run(connection, scope.id, clock.now().isoformat())
        book = Book(connection, scope.id, uploads=settings.upload_emails, run=run)
        reading = AccountReading(book, uploads=settings.upload_emails, is_excluded=settings.is_excluded)
        total = reading.read(Directory(place.client, place.account).pages())
        if scope.whole and settings.on_removed == "clear":
            book.clear(contacts.c.stream.is_(None), contacts.c.vanished, contacts.c.desired != EMPTY)
        book.settle_unknown(vanished_only=settings.upload_emails)
        left = book.count(contacts.c.pending)
        end_run(connection, run, "reconciled")
    return total, +reading.drift, left
