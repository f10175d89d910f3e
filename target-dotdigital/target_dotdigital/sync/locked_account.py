"""The account, the ledger and the lock that a run or command needs."""

from __future__ import annotations

import logging
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.ledger.database import open_ledger
from target_dotdigital.ledger.runs import open_scope

if TYPE_CHECKING:
    from collections import Counter

    import sqlalchemy as sa

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.dotdigital.client import Client
    from target_dotdigital.ledger.database import Ledger
    from target_dotdigital.ledger.runs import Scope
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class LockedAccount:
    """An account that is logged in and read, with its ledger open and locked.

    Args:
        settings: the settings.
        clock: injectable clock.
        client: API client, logged in.
        account: the account as it was read.
        ledger: the ledger's database, locked for the account.
        stack: releases lock, ledger and whatever else a run acquires.
    """

    settings: Settings
    clock: Clock
    client: Client
    account: Account
    ledger: Ledger
    stack: ExitStack

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release everything."""
        self.close()

    def close(self) -> None:
        """Release ledger and lock; a second call does nothing."""
        self.stack.close()

    def open_scope(self, connection: sa.Connection) -> Scope:
        """Return the ledger scope for this account and data field, creating it if it is missing."""
        return open_scope(connection, self.account.id, self.settings.data_field, self.settings.address_book_shown)


def lock_account(settings: Settings, clock: Clock, calls: Counter[str] | None = None) -> LockedAccount:
    """Log in, read the account, and open and lock its ledger.

    Args:
        settings: the settings.
        clock: injectable clock.
        calls: counts the calls to dotdigital, also if one of them fails.

    Raises:
        TargetError: login, ledger or lock unavailable; anything acquired is released.
    """
    with ExitStack() as stack:
        client, info = accounts.connect(settings, clock, calls)
        account = accounts.read_account(settings, client, info)
        LOGGER.info("Account: %s (%d) at %s", account.name, account.id, account.endpoint)
        ledger = open_ledger(settings.ledger_url)
        stack.callback(ledger.close)
        stack.enter_context(ledger.locked(account.id))
        place = LockedAccount(settings, clock, client, account, ledger, stack.pop_all())
    # the SDK has no hook for a run that breaks off, so the ledger is also released when the object is garbage collected
    weakref.finalize(place, place.stack.close)
    return place
