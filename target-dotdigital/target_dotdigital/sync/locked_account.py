"""The account, the ledger and the lock that a run or command needs."""

from __future__ import annotations

import logging
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.ledger.database import Ledger

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")


class LockedAccount:
    """An account that is logged in and read, with its ledger open and locked.

    Args:
        settings: the settings.
        clock: injectable clock.

    Raises:
        TargetError: login, ledger or lock unavailable; anything acquired is released.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Log in, read the account, and open and lock the ledger."""
        self.settings = settings
        self.clock = clock
        self.stack = ExitStack()
        # the SDK has no hook for a run that breaks off, so the ledger is also released when this object is garbage collected
        self.close = weakref.finalize(self, self.stack.close)
        try:
            self.client, info = accounts.connect(settings, clock)
            self.account = accounts.read_account(settings, self.client, info)
            LOGGER.info("Account: %s (%d) at %s", self.account.name, self.account.id, self.account.endpoint)
            self.ledger = Ledger(settings.ledger_url)
            self.stack.callback(self.ledger.close)
            self.stack.enter_context(self.ledger.locked(self.account.id))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release ledger and lock."""
        self.close()

    @property
    def scope_key(self) -> str:
        """The key of the ledger scope for this account, address book and data field."""
        return scope_key(self.settings, self.account)


def scope_key(settings: Settings, account: Account) -> str:
    """Return the key of the ledger scope for an account, address book and data field."""
    if not settings.upload_emails:
        book = "-"
    elif settings.address_book_id is not None:
        book = str(settings.address_book_id)
    else:
        book = settings.address_book.strip().lower()
    return f"{account.id}|{book}|{settings.data_field.upper()}"
