"""The commands beside the sync: each logs in, does one thing and says what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from target_dotdigital import account as accounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_dotdigital.retry import Clock
    from target_dotdigital.settings import Settings


def check(settings: Settings, clock: Clock, _value: Any) -> None:
    """Log in and read what the settings name; write nothing."""
    client, info = accounts.connect(settings, clock)
    account = accounts.read_account(settings, client, info)
    programs = accounts.active_programs(client)
    book = f"{account.book.name} (id {account.book.id}, {account.book.contacts:,} contacts)" if account.book else "to be created"
    click.echo(f"Account:      {account.name} (id {account.id})")
    click.echo(f"Region:       {account.endpoint}")
    click.echo(f"Address book: {book if settings.upload_emails else 'none (upload_emails is false)'}")
    click.echo(f"Data field:   {account.fields.get(settings.data_field, settings.data_field + ', to be created')}")
    click.echo(f"Programs:     {'not visible to this API user' if programs is None else f'{len(programs)} active'}")
    click.echo("All right: login, region and rights are as they should be. Nothing was written.")


COMMANDS: dict[str, Callable[[Settings, Clock, Any], None]] = {"check": check}


def options() -> list[click.Option]:
    """Give the command line's options."""
    return [
        click.Option(["--check"], is_flag=True, help="Log in and read the account; write nothing."),
    ]
