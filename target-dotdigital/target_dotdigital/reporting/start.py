"""Adds to the report what is known when a run starts. Reads the last rehearsal from the report folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.reporting.last_rehearsal import last_rehearsal
from target_dotdigital.reporting.report import Destination

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.reporting.folder import ReportFolder
    from target_dotdigital.reporting.report import Report
    from target_dotdigital.settings import Settings


def describe_start(report: Report, settings: Settings, account: Account, folder: ReportFolder) -> None:
    """Add destination, mode and last rehearsal to the report.

    Args:
        report: the report.
        settings: the settings.
        account: the account to deliver to.
        folder: where the report is written.
    """
    book = account.book.name if account.book else settings.address_book if settings.has_address_book else ""
    labels = settings.labels
    report.destination = Destination(account.name, account.endpoint, book, settings.data_field, account.id, labels)
    report.dry_run = settings.dry_run
    report.rehearsal = last_rehearsal(folder.path, account.id)
