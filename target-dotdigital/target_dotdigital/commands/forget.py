"""Removes everything that this target stores about one address."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.addresses import normalise
from target_dotdigital.ledger import runs
from target_dotdigital.ledger.contacts import forget_address
from target_dotdigital.ledger.database import open_ledger
from target_dotdigital.ledger.imports import forget_deliveries
from target_dotdigital.ledger.runs import Bookmarks
from target_dotdigital.reporting.folder import remove_address

if TYPE_CHECKING:
    from target_dotdigital.settings import Settings


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed.

    Args:
        places: number of entries that were removed.
        in_source: whether the source may still have the address.
    """

    places: int
    in_source: bool


def forget(settings: Settings, address: str) -> Forgotten:
    """Remove an address from the ledger, the before-images and the files of rejected and changed contacts.

    If the source still has the contact, the ledger no longer knows every contact of the source until the next complete input: it no
    longer identifies orphaned labels, and a run that has to compare every contact stops. If the result of a delivery of the contact is
    outstanding, nothing but a complete input can tell what it should have, so the next run needs one.

    Raises:
        LedgerError: the ledger is unavailable, or a run is using it.
    """
    email = normalise(address)
    ledger = open_ledger(settings.ledger_url)
    with ExitStack() as stack:
        stack.callback(ledger.close)
        with ledger.engine.connect() as connection:
            accounts = runs.accounts(connection)
        for account in accounts:
            stack.enter_context(ledger.locked(account))
        with ledger.engine.begin() as connection:
            places, in_source = forget_address(connection, email)
            places += forget_deliveries(connection, email)
            for scope, is_outstanding in in_source.items():
                runs.update_scope(connection, scope, segments=None, had_full_input=False, forgotten=True)
                if is_outstanding:
                    Bookmarks(connection, scope).withdraw()
        ledger.shred()
    folder = Path(settings.report_dir)
    places += _remove_lines(folder / "rejected.singer.jsonl", email, settings.email_property)
    return Forgotten(places + remove_address(folder, email), bool(in_source))


def _remove_lines(path: Path, email: str, name: str) -> int:
    if not path.exists():
        return 0
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if normalise(str(msgspec.json.decode(line).get("record", {}).get(name, ""))) != email]
    if len(kept) < len(lines):
        path.write_bytes(b"".join(kept))
    return len(lines) - len(kept)
