"""Verifies login, region and permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.contacts import ContactReader

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings


def check_account(settings: Settings, clock: Clock) -> None:
    """Log in, read what the settings name, and print it; write nothing.

    Raises:
        TargetError: the login failed, or the account does not allow what the settings require.
    """
    client, info = accounts.connect(settings, clock)
    account = accounts.read_account(settings, client, info)
    programs = accounts.active_programs(client)
    ContactReader(client, account).require_v3()
    book = f"{account.book.name} (id {account.book.id}, {account.book.contacts:,} contacts)" if account.book else "to be created"
    click.echo(f"Account:      {account.name} (id {account.id})")
    click.echo(f"Region:       {account.endpoint}")
    click.echo(f"Address book: {book if settings.has_address_book else 'none (upload_emails is none)'}")
    click.echo(f"Data field:   {account.fields.get(settings.data_field, settings.data_field + ', to be created')}")
    click.echo(f"Programs:     {'not visible to this API user' if programs is None else f'{len(programs)} active'}")
    click.echo("OK: login, region and permissions verified. Nothing was written.")
