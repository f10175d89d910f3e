"""Puts back what a run replaced, or lists the runs that can be put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from target_dotdigital.commands.companions import Companion
from target_dotdigital.commands.reading import open_view
from target_dotdigital.commands.runs import DEFAULT_LIMIT, runs_table
from target_dotdigital.commands.tables import moment
from target_dotdigital.failures import explain
from target_dotdigital.ledger.imports import history_start
from target_dotdigital.ledger.runs import latest_run, recent_runs
from target_dotdigital.reporting.folder import open_folder
from target_dotdigital.reporting.report import Report, RunStatus
from target_dotdigital.sync.starting import open_sync

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.run import SyncRun


def run_restore(settings: Settings, clock: Clock, run: Any) -> None:
    """Put back the labels that a run replaced; without a run, list the runs that can be put back.

    Raises:
        TargetError: the run delivered nothing, was not allowed to deliver, or not everything arrived.
    """
    if run is None:
        _list(settings, clock)
        return
    sync = open_command(settings, clock)
    sync.restore(int(run))
    click.echo(sync.report.summary())
    if sync.report.outcome is RunStatus.DRY_RUN:
        click.echo("Nothing was restored (dry_run). The report shows what would be.")
    else:
        click.echo(
            "Fix the cause, then run once with --full-refresh. Until then ordinary runs stop: the tap assumes that the restored contacts "
            "are current."
        )


def open_command(settings: Settings, clock: Clock) -> SyncRun:
    """Open a run for a command.

    Raises:
        TargetError: the run cannot start.
    """
    folder = open_folder(settings.report_dir)
    return open_sync(settings, clock, Report(started_at=clock.now()), folder, lambda error: explain(error, 0))


def _list(settings: Settings, clock: Clock) -> None:
    with open_view(settings, clock) as view:
        scope = view.scope.id if view.scope else 0
        found = recent_runs(view.connection, scope, DEFAULT_LIMIT, restorable=True)
        latest = latest_run(view.connection, scope)
        start = history_start(view.connection, scope)
    if found:
        click.echo("Runs that can be put back, newest first:")
        click.echo("\n".join(runs_table(found, latest)))
        click.echo(f"Deliveries are kept since {moment(start)} UTC (history_days).")
        click.echo("Nothing was done. To put one back, give its number: --restore --run NUMBER")
    else:
        click.echo("No run has delivered anything to this account and data field: there is nothing to put back.")


def options() -> list[click.Option]:
    """Return the command-line options of this command."""
    return [
        click.Option(
            ["--restore"],
            is_flag=True,
            help="Put back what the run given by --run replaced, within the brakes; without --run, list the runs that can be put back.",
        ),
        Companion(
            ["--run"],
            ("restore",),
            type=click.IntRange(min=1),
            expose_value=True,
            help="With --restore: the run to put back; --runs, reports and the summary line give its number.",
        ),
    ]
