"""Corrects the ledger: reads dotdigital back into it, or releases the contacts that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.contacts.outcomes import ContactOutcomes
from target_dotdigital.ledger.runs import begin_run, end_run
from target_dotdigital.sync.locked_account import lock_account
from target_dotdigital.sync.opening import keep_excluded_current, keep_membership_current
from target_dotdigital.sync.reading import AccountReading, Drift

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings


def reconcile_ledger(settings: Settings, clock: Clock) -> None:
    """Read the whole account back into the ledger, and print the drift.

    The next run sends rejected contacts again unless dotdigital already holds their labels, and contacts that did not get into the address
    book. It also clears orphaned labels if a full input of the source has reached this ledger before; otherwise they stay until one does.

    Raises:
        TargetError: account or ledger cannot be read.
    """
    with lock_account(settings, clock) as session, session.ledger.engine.begin() as connection:
        scope = session.open_scope(connection)
        run = begin_run(connection, scope.id, clock.now().isoformat())
        ledger = ContactLedger(connection, scope.id, uploads=settings.upload_emails, run=run)
        # the cause may have been fixed in dotdigital
        ledger.forget_rejected_labels()
        ledger.retry_membership()
        keep_excluded_current(ledger, scope, settings)
        keep_membership_current(ledger, scope, session)
        reading = AccountReading(ledger, settings.is_excluded)
        total = reading.read(ContactReader(session.client, session.account))
        if scope.whole and settings.on_removed == "clear":
            ledger.clear_orphaned()
        ledger.settle_unknown()
        pending = ledger.count_pending()
        end_run(connection, run, "reconciled", finished_at=clock.now().isoformat())
    click.echo(f"{total:>12,}  contacts read back from dotdigital")
    for kind in Drift:
        click.echo(f"{reading.drift[kind]:>12,}  {kind.value}")
    click.echo(f"{pending:>12,}  contacts pending: the next run corrects them, within the brakes")
    click.echo("Nothing was written to dotdigital.")


def release_held(settings: Settings, clock: Clock) -> None:
    """Release held contacts, so that the next run sends them again.

    Raises:
        TargetError: account or ledger unavailable.
    """
    with lock_account(settings, clock) as session, session.ledger.engine.begin() as connection:
        scope = session.open_scope(connection)
        count = ContactOutcomes(connection, scope.id, settings.upload_emails).release_held()
    click.echo(f"{count:,} contacts are no longer held: the next run sends those whose labels are not confirmed yet.")
