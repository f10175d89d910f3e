"""Starts a run: from the settings to a run that can take its input."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from target_dotdigital.reporting.report import Traffic
from target_dotdigital.sync.locked_account import lock_account
from target_dotdigital.sync.opening import open_run
from target_dotdigital.sync.run import SyncRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_dotdigital.clock import Clock
    from target_dotdigital.reporting.folder import ReportFolder
    from target_dotdigital.reporting.report import Report
    from target_dotdigital.settings import Settings


def open_sync(
    settings: Settings, clock: Clock, report: Report, folder: ReportFolder, explain: Callable[[BaseException], str]
) -> SyncRun:
    """Log in, read the account, open the ledger, and wait for unfinished imports of earlier runs.

    Args:
        settings: the settings.
        clock: injectable clock.
        report: the report; it gets the destination and the number of the run.
        folder: where the report is written.
        explain: returns the line for the operator about an exception.

    Raises:
        TargetError: the run cannot start; anything acquired is released.
    """
    calls: Counter[str] = Counter()
    try:
        place = lock_account(settings, clock, calls)
    finally:
        report.traffic = Traffic(dict(calls), clock.waited)
    report.describe_start(settings, place.account, folder.path)
    try:
        opened = open_run(place, report.started_at)
    except BaseException:
        place.close()
        raise
    report.run = opened.number
    return SyncRun(opened, report, folder, explain)
