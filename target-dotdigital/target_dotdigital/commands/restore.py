"""Restores what a run replaced, lists the runs that can be restored, and shows the review: runs that take no input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from target_dotdigital.commands.ledger_view import open_view
from target_dotdigital.commands.runs import runs_table
from target_dotdigital.commands.tables import labels_text, moment, table
from target_dotdigital.failures import error_message
from target_dotdigital.ledger.imports import history_start
from target_dotdigital.ledger.runs import latest_run, recent_runs
from target_dotdigital.reporting.folder import ReportFolder
from target_dotdigital.reporting.report import Report
from target_dotdigital.sync.plan import brakes
from target_dotdigital.sync.run import open_run, published

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_dotdigital.clock import Clock
    from target_dotdigital.models import Plan
    from target_dotdigital.settings import Settings

MAX_RUNS = 20
SAMPLES = ("Contacts", "Labels now", "Labels after the restore")


def restore_run(settings: Settings, clock: Clock, run: int) -> None:
    """Restore the labels that a run replaced; in a dry run, only show the plan.

    Raises:
        TargetError: the run delivered nothing, was not allowed to deliver, or not everything arrived.
    """
    report, folder = Report(started_at=clock.now()), ReportFolder(Path(settings.report_dir), settings.zone)
    with open_run(settings, clock, report) as opened:
        images = opened.images_of(run)
        with published(report, lambda: (folder, settings.report_keep), lambda error: error_message(error, 0)):
            opened.restore(run, images)
    planned = report.planned
    if settings.dry_run and planned is not None:
        click.echo("\n".join(_plan_lines(planned.plan, run)))
        for reason in brakes(planned.plan, settings, clock.today()):
            click.echo(f"The brakes would stop it: {reason}.")
        click.echo("Nothing was restored (dry_run). Unset dry_run, and run the command again.")
        return
    click.echo(report.summary())
    click.echo(
        "Fix the cause, then run once with --full-refresh. Until then ordinary runs stop: the tap assumes that the restored contacts "
        "are current."
    )


def list_restorable(settings: Settings, clock: Clock) -> None:
    """List the runs that can be restored.

    Raises:
        TargetError: the ledger is missing or unusable.
    """
    with open_view(settings, clock) as view:
        scope = view.scope.id if view.scope else 0
        found = recent_runs(view.connection, scope, MAX_RUNS, restorable=True)
        latest = latest_run(view.connection, scope)
        start = history_start(view.connection, scope)
    if found:
        click.echo("Runs that can be put back, newest first:")
        click.echo("\n".join(runs_table(found, latest)))
        click.echo(f"Deliveries are kept since {moment(start)} UTC (history_days).")
        click.echo(
            "Nothing was done. To put one back, give its number: restore --run NUMBER. With dry_run, it shows what it would do."
        )
    else:
        click.echo(
            "The ledger has no delivery to this account and data field, so there is nothing to put back. Older ones are deleted after "
            f"{settings.history_days} days (history_days)."
        )


def show_review(settings: Settings, clock: Clock) -> None:
    """Print the review of the contacts that are pending in the ledger; like a dry run, it leaves nothing in the ledger.

    Raises:
        TargetError: no run has read a source yet, or the account cannot be read.
    """
    with open_run(replace(settings, dry_run=True), clock, Report(started_at=clock.now())) as run:
        click.echo(run.review())


def _plan_lines(plan: Plan, run: int) -> Iterator[str]:
    """Yield what a restore would do; contacts that have changed since the run are not part of the plan."""
    yield f"Restoring run {run} would send {plan.total:,} contacts: {plan.updated:,} updated, {plan.cleared:,} cleared."
    if plan.samples:
        rows = [[f"{sample.contacts:,}", labels_text(sample.before), labels_text(sample.after)] for sample in plan.samples]
        yield from (f"  {line}" for line in table(SAMPLES, rows, numbers=(0,)))
