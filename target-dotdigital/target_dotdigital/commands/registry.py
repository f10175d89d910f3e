"""The command-line commands other than the sync. Each logs in, does one thing and prints the result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from target_dotdigital.commands.explain import options as explain_options
from target_dotdigital.commands.explain import run_explain
from target_dotdigital.commands.forget import forget
from target_dotdigital.commands.reconcile import reconcile
from target_dotdigital.commands.rehearse import options as rehearsal_options
from target_dotdigital.commands.rehearse import run_rehearsal
from target_dotdigital.commands.rejected import options as rejected_options
from target_dotdigital.commands.rejected import run_rejected
from target_dotdigital.commands.release import release
from target_dotdigital.commands.restore import options as restore_options
from target_dotdigital.commands.restore import run_restore
from target_dotdigital.commands.runs import options as runs_options
from target_dotdigital.commands.runs import run_runs
from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.errors import SettingsError
from target_dotdigital.reporting.report import Report
from target_dotdigital.sync.readback import Drift
from target_dotdigital.sync.run import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings


def check(settings: Settings, clock: Clock, _value: Any) -> None:
    """Log in, read what the settings name, and print it; write nothing."""
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


def show_review(settings: Settings, clock: Clock, _value: Any) -> None:
    """Print the review of the contacts that are pending in the ledger; like a dry run, it leaves nothing in it."""
    with open_run(replace(settings, dry_run=True), clock, Report(started_at=clock.now())) as run:
        click.echo(run.review())


def run_reconcile(settings: Settings, clock: Clock, _value: Any) -> None:
    """Read dotdigital back into the ledger and print the drift."""
    total, drift, waiting = reconcile(settings, clock)
    click.echo(f"{total:>12,}  contacts read back from dotdigital")
    for kind in Drift:
        click.echo(f"{drift[kind]:>12,}  {kind.value}")
    click.echo(f"{waiting:>12,}  contacts pending: the next run corrects them, within the brakes")
    click.echo("Nothing was written to dotdigital.")


def run_forget(settings: Settings, _clock: Clock, address: Any) -> None:
    """Remove an address from everything that the target stores."""
    forgotten = forget(settings, str(address))
    if not forgotten.places:
        msg = "This target stores nothing about that address, so nothing was removed. Check the spelling."
        raise SettingsError(msg)
    click.echo(f"Removed from {forgotten.places} places. Reports hold no addresses; snapshots follow Nosto's own export.")
    if forgotten.in_source:
        click.echo(
            "The source still had the address when it was last read. If it still has it, the contact keeps its labels as they are until "
            "the source changes it; run once with --full-refresh before you change label settings, upload_emails or address_book."
        )


def run_release(settings: Settings, clock: Clock, _value: Any) -> None:
    """Release the contacts held after dotdigital's Data Watchdog rejected their import."""
    count = release(settings, clock)
    click.echo(f"{count:,} contacts are no longer held: the next run sends those whose labels are not confirmed yet.")


COMMANDS: dict[str, Callable[[Settings, Clock, Any], None]] = {
    "check": check,
    "review": show_review,
    "reconcile": run_reconcile,
    "restore": run_restore,
    "forget": run_forget,
    "release": run_release,
    "rehearse": run_rehearsal,
    "runs": run_runs,
    "explain": run_explain,
    "rejected": run_rejected,
}


def options() -> list[click.Option]:
    """Return the command-line options of the commands."""
    return [
        click.Option(["--check"], is_flag=True, help="Log in and read the account; write nothing."),
        click.Option(
            ["--review"], is_flag=True, help="Show what is pending in the ledger, the active programs and the activation code."
        ),
        click.Option(
            ["--reconcile"],
            is_flag=True,
            help="Read dotdigital back into the ledger, and show drift; rejected contacts are then tried once more.",
        ),
        click.Option(
            ["--release"],
            is_flag=True,
            help="Release contacts that are held because dotdigital's Data Watchdog rejected their import.",
        ),
        *restore_options(),
        click.Option(
            ["--forget"], metavar="EMAIL", help="Remove an address from ledger, before-images and the file of rejected contacts."
        ),
        *rehearsal_options(),
        *runs_options(),
        *explain_options(),
        *rejected_options(),
    ]
