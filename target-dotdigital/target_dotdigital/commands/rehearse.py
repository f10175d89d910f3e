"""Checks the sync's assumptions about dotdigital on the account itself, with the operator's own addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from target_dotdigital.errors import RehearsalError, SettingsError
from target_dotdigital.rehearsal.journal import JournalFile
from target_dotdigital.rehearsal.opening import OpenRehearsal, open_rehearsal
from target_dotdigital.rehearsal.performing import look, perform
from target_dotdigital.rehearsal.plan import check_addresses
from target_dotdigital.rehearsal.result import AssumptionVerdict, RehearsalResult
from target_dotdigital.reporting.folder import open_folder
from target_dotdigital.reporting.rehearsal import planned_contacts, rehearsal_table, write_rehearsal

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.reporting.folder import ReportFolder
    from target_dotdigital.settings import Settings


def run_rehearsal(settings: Settings, clock: Clock, confirm: str | None, *, read_only: bool) -> None:
    """Print the plan of the rehearsal, or perform it if it is confirmed.

    Args:
        settings: the settings.
        clock: injectable clock.
        confirm: the code of the plan; None prints the plan.
        read_only: whether nothing may be written.

    Raises:
        RehearsalError: an assumption is refuted.
        TargetError: the rehearsal could not be made, or not be completed.
    """
    emails = check_addresses(settings.rehearsal_emails)
    folder = open_folder(settings.report_dir)
    file = JournalFile(folder)
    opened = open_rehearsal(settings, clock, emails, file, read_only=read_only)
    planned = planned_contacts(folder.path)
    if isinstance(opened, RehearsalResult):
        _show(opened, folder, write=not read_only)
        return
    if read_only:
        _show(look(opened, planned), folder, write=False)
        return
    if _is_confirmed(opened, confirm):
        result = perform(opened, file, planned, lambda step: click.echo(f"  {step} ...", err=True))
        write_rehearsal(folder, result.to_dict())
        file.remove()
        _show(result, folder, write=False)


def _is_confirmed(opened: OpenRehearsal, code: str | None) -> bool:
    plan, resumed = opened.plan, bool(opened.journal.steps)
    if code is not None and code.strip().upper() == plan.code:
        if opened.settings.dry_run:
            msg = "dry_run is set, and a rehearsal writes, so nothing was done. Unset dry_run, or rehearse with --read-only."
            raise SettingsError(msg)
        return True
    click.echo("\n".join(plan.lines()))
    if resumed:
        click.echo(f"An interrupted rehearsal of {opened.journal.started_at[:16].replace('T', ' ')} UTC is continued.")
    click.echo("Nothing has been written yet. To perform this rehearsal:")
    click.echo(f"  target-dotdigital rehearse --config CONFIG --confirm {plan.code}")
    click.echo(f"  meltano invoke target-dotdigital:rehearse --confirm {plan.code}")
    if code is not None:
        msg = "The code of --confirm belongs to another plan, so nothing was written. Read the plan, and confirm it with its own code."
        raise SettingsError(msg)
    return False


def _show(result: RehearsalResult, folder: ReportFolder, *, write: bool) -> None:
    facts = result.to_dict()
    if write:
        write_rehearsal(folder, facts)
    click.echo(rehearsal_table(facts))
    if result.read_only:
        click.echo("Nothing was written to dotdigital.")
    if write or not result.read_only:
        click.echo(f"The page to read and to share: {folder.path / 'rehearsal.html'}")
    refuted = result.having(AssumptionVerdict.REFUTED)
    if refuted:
        msg = (
            f"The rehearsal refutes {len(refuted)} of the sync's assumptions about this account: {', '.join(refuted)}. Do what the table "
            "says under each of them before you activate the sync, then rehearse again."
        )
        raise RehearsalError(msg)
