"""Opens the ledger for commands that only read it.

They take no lock, so that they work during a run, and log in only if they have to: nearly every ledger holds one account.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.ledger.database import open_for_reading
from target_dotdigital.ledger.scopes import known_scopes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

    from target_dotdigital.clock import Clock
    from target_dotdigital.ledger.scopes import KnownScope
    from target_dotdigital.settings import Settings


@dataclass(frozen=True, slots=True)
class LedgerView:
    """A ledger that is open for reading.

    Args:
        connection: the transaction.
        scope: scope of the configured data field; None if no run has used it.
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
        account_id: the account; if None, it is the only account of the ledger, or else that of the login.

    Raises:
        TargetError: the ledger is missing or unusable, or the login failed.
    """
    ledger = open_for_reading(settings.ledger_url)
    try:
        with ledger.engine.connect() as connection:
            known = known_scopes(connection)
            if account_id is None:
                account_id = _account_of({scope.account_id for scope in known}, settings, clock)
            mine = [scope for scope in known if scope.account_id == account_id]
            field = settings.data_field.upper()
            others = tuple(scope for scope in mine if scope.data_field != field)
            yield LedgerView(connection, next((scope for scope in mine if scope.data_field == field), None), others)
    finally:
        ledger.close()


def scope_title(scope: KnownScope) -> str:
    """Return the address book and data field of a scope as text."""
    book = scope.address_book
    return f"{'no address book' if book is None else f'address book {book!r}'}, data field {scope.data_field}"


def _account_of(accounts_known: set[int], settings: Settings, clock: Clock) -> int:
    """Return the only account of the ledger, or else that of the login; 0 for an empty ledger."""
    if len(accounts_known) < 2:  # noqa: PLR2004 - with one account, no login is needed
        return next(iter(accounts_known), 0)
    _, info = accounts.connect(settings, clock)
    return info.id or 0
