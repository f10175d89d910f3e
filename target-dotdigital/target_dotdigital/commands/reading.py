"""Opens the ledger for commands that only show what it holds.

They take no lock, so that they answer while a run works, and log in only if they have to: the ledger's scopes are keyed by account,
and nearly every ledger holds one account.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.ledger.database import open_for_reading
from target_dotdigital.ledger.scopes import known_scopes
from target_dotdigital.sync.locked_account import scope_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

    from target_dotdigital.clock import Clock
    from target_dotdigital.ledger.scopes import KnownScope
    from target_dotdigital.settings import Settings

REHEARSAL = "rehearsal|"


@dataclass(frozen=True, slots=True)
class LedgerView:
    """A ledger that is open for reading.

    Args:
        connection: the transaction.
        scope: scope of the configured address book and data field; None if no run has used it.
        others: the other scopes of the account.
    """

    connection: sa.Connection
    scope: KnownScope | None
    others: tuple[KnownScope, ...]


@contextmanager
def open_view(settings: Settings, clock: Clock, account_id: int | None = None) -> Iterator[LedgerView]:
    """Open the ledger for reading.

    Args:
        settings: the settings.
        clock: injectable clock.
        account_id: the account; if None, it is the only account of the ledger, or else the one that the login names.

    Raises:
        TargetError: the ledger is missing or unusable, or the login failed.
    """
    ledger = open_for_reading(settings.ledger_url)
    try:
        with ledger.engine.connect() as connection:
            known = known_scopes(connection)
            there = {scope.account_id for scope in known}
            if account_id is None:
                account_id = next(iter(there)) if len(there) == 1 else _account_of(settings, clock) if there else 0
            mine = [scope for scope in known if scope.account_id == account_id]
            key = scope_key(settings, _account(account_id))
            others = tuple(scope for scope in mine if scope.key != key)
            yield LedgerView(connection, next((scope for scope in mine if scope.key == key), None), others)
    finally:
        ledger.close()


def place_of(scope: KnownScope) -> str:
    """Return the address book and data field of a scope as text."""
    book = book_of(scope)
    rehearsed = " (rehearsal)" if scope.key.partition("|")[2].startswith(REHEARSAL) else ""
    return f"{'no address book' if book is None else f'address book {book!r}'}, data field {field_of(scope)}{rehearsed}"


def book_of(scope: KnownScope) -> str | None:
    """Return the name (in lower case) or the ID of a scope's address book; None if it uses none."""
    book = scope.key.partition("|")[2].rpartition("|")[0].removeprefix(REHEARSAL)
    return None if book == "-" else book


def field_of(scope: KnownScope) -> str:
    """Return the data field of a scope."""
    return scope.key.rpartition("|")[2]


def _account(account_id: int) -> accounts.Account:
    return accounts.Account(account_id, "", "", None, {}, None)


def _account_of(settings: Settings, clock: Clock) -> int:
    _, info = accounts.connect(settings, clock)
    return info.id or 0
