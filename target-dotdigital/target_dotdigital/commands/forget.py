"""Removes everything that this target stores about one address."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.addresses import normalise
from target_dotdigital.ledger import scopes
from target_dotdigital.ledger.contacts.outcomes import forget_address
from target_dotdigital.ledger.database import open_ledger
from target_dotdigital.ledger.imports import forget_deliveries
from target_dotdigital.reporting.folder import REJECTED_FILE
from target_dotdigital.reporting.rejected_csv import remove_address

if TYPE_CHECKING:
    from target_dotdigital.settings import Settings


def forget(settings: Settings, address: str) -> int:
    """Remove an address from the ledger, the before-images and the file of rejected contacts.

    Returns:
        The number of entries that were removed.

    Raises:
        LedgerError: the ledger is unavailable, or a run is using it.
    """
    email = normalise(address)
    ledger = open_ledger(settings.ledger_url)
    with ExitStack() as stack:
        stack.callback(ledger.close)
        with ledger.engine.connect() as connection:
            accounts = scopes.accounts(connection)
        for account in accounts:
            stack.enter_context(ledger.locked(account))
        with ledger.engine.begin() as connection:
            places = forget_address(connection, email) + forget_deliveries(connection, email)
            scopes.doubt_completeness(connection)
        ledger.shred()
    folder = Path(settings.report_dir)
    places += _remove_lines(folder / "rejected.singer.jsonl", email, settings.email_property)
    return places + remove_address(folder / REJECTED_FILE, email)


def _remove_lines(path: Path, email: str, name: str) -> int:
    if not path.exists():
        return 0
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if normalise(str(msgspec.json.decode(line).get("record", {}).get(name, ""))) != email]
    if len(kept) < len(lines):
        path.write_bytes(b"".join(kept))
    return len(lines) - len(kept)
