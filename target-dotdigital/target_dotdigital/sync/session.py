"""An account that is logged in and read, with its ledger open and locked."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.ledger.database import open_ledger
from target_dotdigital.ledger.runs import open_scope

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    import sqlalchemy as sa

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.dotdigital.client import Client
    from target_dotdigital.ledger.database import Ledger
    from target_dotdigital.ledger.runs import Scope
    from target_dotdigital.settings import Settings

LOGGER = logging.getLogger("target-dotdigital")


@dataclass(frozen=True, slots=True)
class Session:
    """The resources of a run or command.

    Args:
        settings: the settings.
        clock: injectable clock.
        client: API client, logged in.
        account: the account as it was read.
        ledger: the ledger's database, locked for the account.
    """

    settings: Settings
    clock: Clock
    client: Client
    account: Account
    ledger: Ledger

    def open_scope(self, connection: sa.Connection) -> Scope:
        """Return the ledger scope for this account and data field, creating it if it is missing."""
        return open_scope(connection, self.account.id, self.settings.data_field, self.settings.address_book_shown)


@contextmanager
def open_session(settings: Settings, clock: Clock, calls: Counter[str] | None = None) -> Iterator[Session]:
    """Log in, read the account, and open and lock its ledger; ledger and lock are released at the end of the block.

    Args:
        settings: the settings.
        clock: injectable clock.
        calls: counts the calls to dotdigital, even if one of them fails.

    Raises:
        TargetError: login, ledger or lock unavailable.
    """
    client, info = accounts.connect(settings, clock, calls)
    account = accounts.read_account(settings, client, info)
    LOGGER.info("Account: %s (%d) at %s", account.name, account.id, account.endpoint)
    with ExitStack() as stack:
        ledger = open_ledger(settings.ledger_url)
        stack.callback(ledger.close)
        stack.enter_context(ledger.locked(account.id))
        yield Session(settings, clock, client, account, ledger)
