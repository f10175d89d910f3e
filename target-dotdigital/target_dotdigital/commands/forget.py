"""Removes everything that this target stores about one address."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from target_dotdigital.errors import SettingsError
from target_dotdigital.ledger import runs
from target_dotdigital.ledger.contacts import forget_address
from target_dotdigital.ledger.database import open_ledger
from target_dotdigital.ledger.imports import forget_deliveries
from target_dotdigital.ledger.runs import Bookmarks
from target_dotdigital.reporting.folder import remove_address
from target_dotdigital.text import normalise

if TYPE_CHECKING:
    from target_dotdigital.settings import Settings


def forget_contact(settings: Settings, address: str) -> None:
    """Remove an address from the ledger, the before-images and the files of rejected contacts.

    If the source still has the contact, the ledger no longer contains every contact of the source until the next full input: it no longer
    identifies orphaned labels, and a run that has to compare every contact stops. If the result of a delivery of the contact is unknown,
    only a full input shows what the contact should have, so the next run needs one.

    Raises:
        SettingsError: nothing is stored about the address.
        LedgerError: the ledger is unavailable, or a run is using it.
    """
    email = normalise(address)
    places, in_source = _forget_in_ledger(settings.ledger_url, email)
    folder = Path(settings.report_dir)
    places += _remove_lines(folder / "rejected.singer.jsonl", email, settings.email_property)
    places += remove_address(folder, email)
    if not places:
        msg = "This target stores nothing about that address, so nothing was removed. Check the spelling."
        raise SettingsError(msg)
    click.echo(f"Removed from {places} places. Reports hold no addresses; snapshots follow Nosto's own export.")
    if in_source:
        click.echo(
            "The source still had the address when it was last read. If it still has it, the contact keeps its labels as they are until "
            "the source changes it; run once with --full-refresh before you change label settings, upload_emails or address_book."
        )


def _forget_in_ledger(url: str, email: str) -> tuple[int, bool]:
    """Return the number of removed entries, and whether the source may still have the address."""
    ledger = open_ledger(url)
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
    return places, bool(in_source)


def _remove_lines(path: Path, email: str, name: str) -> int:
    """Remove the records of an address from a file of Singer messages, and return their number."""
    if not path.exists():
        return 0
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if normalise(str(msgspec.json.decode(line).get("record", {}).get(name, ""))) != email]
    if len(kept) < len(lines):
        path.write_bytes(b"".join(kept))
    return len(lines) - len(kept)
