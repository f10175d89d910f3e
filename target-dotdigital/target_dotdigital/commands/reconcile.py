"""Compares the ledger with dotdigital and counts the drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.runs import begin_run, end_run
from target_dotdigital.sync.locked_account import lock_account
from target_dotdigital.sync.opening import keep_excluded_current, keep_membership_current
from target_dotdigital.sync.reading import AccountReading, Drift

if TYPE_CHECKING:
    from collections import Counter

    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings


def reconcile(settings: Settings, clock: Clock) -> tuple[int, Counter[Drift], int]:
    """Read the whole account back into the ledger.

    The next run tries rejected contacts once more, if they do not hold what they should, and those that did not come into the address
    book. It also clears orphaned labels, provided
    that a complete input of the source has reached this ledger before; otherwise they are kept until one does.

    Returns:
        Contacts read, drift by kind, and contacts that are now pending.

    Raises:
        TargetError: account or ledger cannot be read.
    """
    with lock_account(settings, clock) as place, place.ledger.engine.begin() as connection:
        scope = place.open_scope(connection)
        run = begin_run(connection, scope.id, clock.now().isoformat())
        ledger = ContactLedger(connection, scope.id, uploads=settings.upload_emails, run=run)
        # whatever the reason was, somebody may have cured it in dotdigital
        ledger.forget_rejected_labels()
        ledger.retry_membership()
        keep_excluded_current(ledger, scope, settings)
        keep_membership_current(ledger, scope, place)
        reading = AccountReading(ledger, settings.is_excluded)
        total = reading.read(ContactReader(place.client, place.account))
        if scope.had_full_input and settings.on_removed == "clear":
            ledger.clear_orphaned()
        ledger.drop_unknown()
        left = ledger.count_pending()
        end_run(connection, run, "reconciled", finished_at=clock.now().isoformat())
    return total, +reading.drift, left
