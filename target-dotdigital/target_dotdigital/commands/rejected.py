"""Lists the rejected contacts, on the screen or as CSV."""

from __future__ import annotations

import collections
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from target_dotdigital.commands.ledger_view import open_view
from target_dotdigital.commands.tables import counted, labels_text, moment, table
from target_dotdigital.errors import SettingsError
from target_dotdigital.ledger.contact_queries import rejected_contacts
from target_dotdigital.reporting.folder import NEXT_RUN, ON_CHANGE, write_rejected_csv
from target_dotdigital.reporting.page import advice_on
from target_dotdigital.text import without_controls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from target_dotdigital.clock import Clock
    from target_dotdigital.ledger.contact_queries import RejectedContact
    from target_dotdigital.settings import Settings

STANDARD_OUTPUT = "-"
MAX_ROWS = 100
HEADER = ("Address", "Labels", "Code", "First seen (UTC)", "Last seen (UTC)", "Next attempt (UTC)")


def list_rejected(settings: Settings, clock: Clock, csv: str | None) -> None:
    """Print the contacts whose last delivery was rejected, or write them to a CSV file that only its owner may read.

    Args:
        settings: the settings.
        clock: injectable clock.
        csv: file to write; `-` for standard output, None for a table on the screen.

    Raises:
        SettingsError: the file cannot be written.
        TargetError: the ledger is missing or unusable.
    """
    with open_view(settings, clock) as view:
        found = rejected_contacts(view.connection, view.scope.id) if view.scope else iter(())
        if csv == STANDARD_OUTPUT:
            write_rejected_csv(sys.stdout, found, clock.wall())
        elif csv is not None:
            count = _write_file(Path(csv), found, clock.wall())
            click.echo(f"{counted(count, 'rejected contact')} written to {csv}")
        else:
            _print(list(found), clock.wall())


def _print(found: list[RejectedContact], now: float) -> None:
    if not found:
        click.echo("No contact is rejected.")
        return
    for code, count in collections.Counter(contact.code for contact in found).most_common():
        click.echo(f"{count:>8,}  {code}: {advice_on(code)}")
    click.echo()
    rows = [
        [
            without_controls(contact.email),
            labels_text(contact.desired),
            contact.code,
            moment(contact.first_seen),
            moment(contact.last_seen),
            _next(contact, now),
        ]
        for contact in found[:MAX_ROWS]
    ]
    click.echo("\n".join(table(HEADER, rows)))
    if len(found) > MAX_ROWS:
        click.echo(f"Not shown: {counted(len(found) - MAX_ROWS, 'contact')}. --csv FILE writes all of them.")


def _write_file(path: Path, found: Iterable[RejectedContact], now: float) -> int:
    part = path.with_name(f".{path.name}.part")
    try:
        if path.exists() and not path.is_file():
            msg = f"--csv is {str(path)!r}, which is not a file, so nothing was written. Give a file, or - for standard output."
            raise SettingsError(msg)
        with open(part, "w", newline="", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            count = write_rejected_csv(file, found, now)
        part.chmod(0o600)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        msg = f"The file of --csv could not be written ({error.strerror}), so nothing has changed. Check the folder and the free space."
        raise SettingsError(msg) from None
    return count


def _next(contact: RejectedContact, now: float) -> str:
    if contact.pending or (contact.retry_at is not None and contact.retry_at <= now):
        return NEXT_RUN
    return ON_CHANGE if contact.retry_at is None else moment(contact.retry_at)
