"""The parts of the ledger: one for each account, address book and data field."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from target_dotdigital.ledger.tables import scopes


def open_scope(connection: sa.Connection, key: str, account_id: int) -> sa.Row[Any]:
    """Find the ledger's part for an account, address book and data field; make it if it is missing."""
    query = sa.select(scopes).where(scopes.c.key == key)
    found = connection.execute(query).one_or_none()
    if found is None:
        connection.execute(sa.insert(scopes).values(key=key, account_id=account_id))
        found = connection.execute(query).one()
    return found
