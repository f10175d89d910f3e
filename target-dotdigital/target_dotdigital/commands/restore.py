"""Puts back what a run replaced, or lists the runs that can be put back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from target_dotdigital.commands.companions import Companion
from target_dotdigital.commands.reading import open_view
from target_dotdigital.commands.runs import DEFAULT_LIMIT, runs_table
from target_dotdigital.failures import explain
from target_dotdigital.ledger.runs import latest_run, recent_runs
from target_dotdigital.reporting.folder import ReportFolder
from target_dotdigital.reporting.report import Report, RunStatus
from target_dotdigital.sync.run import open_run, published

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings


def run_restore(settings: Settings, clock: Clock, run: Any) -> None:
    """Put back the labels that a run replaced; without a run, list the runs that can be put back.

    Raises:
        TargetError: the run delivered nothing, was not allowed to deliver, or not everything arrived.
    """
    if run is None:
        _list(settings, clock)
        return
    report, folder = Report(started_at=clock.now()), ReportFolder(Path(settings.report_dir), settings.zone)
    with open_run(settings, clock, report) as opened:
        images = opened.images_of(int(run))
        with published(report, folder, settings.report_keep, lambda error: explain(error, 0)):
            opened.restore(int(run), images)
    click.echo(report.summary())
    if report.outcome is RunStatus.DRY_RUN:
        click.echo("Nothing was restored (dry_run). The report shows what would be.")
    else:
        click.echo(
            "Fix the cause, then run once with --full-refresh. Until then ordinary runs stop: the tap assumes that the restored contacts "
            "are current."
        )


def _list(settings: Settings, clock: Clock) -> None:
    with open_view(settings, clock) as view:
        scope = view.scope.id if view.scope else 0
        found = recent_runs(view.connection, scope, DEFAULT_LIMIT, restorable=True)
        latest = latest_run(view.connection, scope)
    if found:
        click.echo("Runs that can be put back, newest first:")
        click.echo("\n".join(runs_table(found, latest)))
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
