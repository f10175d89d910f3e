"""Releases contacts that are held since dotdigital's Data Watchdog rejected their import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.ledger.contacts import ContactLedger, open_scope
from target_dotdigital.sync.locked_account import LockedAccount

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings


def release(settings: Settings, clock: Clock) -> int:
    """Let the next run send held contacts again; return how many there are.

    Raises:
        TargetError: account or ledger cannot be used.
    """
    with LockedAccount(settings, clock) as place, place.ledger.engine.begin() as connection:
        scope = open_scope(connection, place.scope_key, place.account.id)
        return ContactLedger(connection, scope.id, uploads=settings.upload_emails).release_held()
