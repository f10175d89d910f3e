"""Releases contacts that are held because dotdigital's Data Watchdog rejected their import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.sync.locked_account import lock_account

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings


def release(settings: Settings, clock: Clock) -> int:
    """Release held contacts, so that the next run sends them again, and return their number.

    Raises:
        TargetError: account or ledger unavailable.
    """
    with lock_account(settings, clock) as place, place.ledger.engine.begin() as connection:
        scope = place.open_scope(connection)
        return ContactLedger(connection, scope.id, uploads=settings.upload_emails).release_held()
