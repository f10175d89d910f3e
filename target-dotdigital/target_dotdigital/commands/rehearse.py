"""Checks the sync's assumptions about dotdigital on the account itself, with the operator's own addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from target_dotdigital.errors import RehearsalError, SettingsError
from target_dotdigital.rehearsal.assumptions import check_read_only, run
from target_dotdigital.rehearsal.session import check_addresses, open_session
from target_dotdigital.reporting.folder import open_folder
from target_dotdigital.reporting.rehearsal import PAGE_FILE, rehearsal_table, write_rehearsal

if TYPE_CHECKING:
    from target_dotdigital.clock import Clock
    from target_dotdigital.rehearsal.session import Session
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
    session = open_session(settings, clock, emails)
    if read_only:
        facts = check_read_only(session)
    elif _is_confirmed(session, confirm):
        facts = run(session, lambda step: click.echo(f"  {step} ...", err=True))
        write_rehearsal(folder, facts)
    else:
        return
    click.echo(rehearsal_table(facts))
    click.echo("Nothing was written to dotdigital." if read_only else f"The page to read and to share: {folder.path / PAGE_FILE}")
    if refuted := [finding["id"] for finding in facts["findings"] if finding["verdict"] == "refuted"]:
        msg = (
            f"The rehearsal refutes {len(refuted)} of the sync's assumptions about this account: {', '.join(refuted)}. Do what the table "
            "says under each of them before you activate the sync, then rehearse again."
        )
        raise RehearsalError(msg)


def _is_confirmed(session: Session, code: str | None) -> bool:
    plan = session.plan
    if code is not None and code.strip().upper() == plan.code:
        if session.settings.dry_run:
            msg = "dry_run is set, and a rehearsal writes, so nothing was done. Unset dry_run, or rehearse with --read-only."
            raise SettingsError(msg)
        return True
    click.echo("\n".join(plan.lines()))
    click.echo("Nothing has been written yet. To perform this rehearsal:")
    click.echo(f"  target-dotdigital rehearse --config CONFIG --confirm {plan.code}")
    click.echo(f"  meltano invoke target-dotdigital:rehearse --confirm {plan.code}")
    if code is not None:
        msg = "The code of --confirm belongs to another plan, so nothing was written. Read the plan, and confirm it with its own code."
        raise SettingsError(msg)
    return False
