"""Checks the sync's assumptions about dotdigital on the account itself, with the operator's own addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

META = "target_dotdigital.rehearse"


@dataclass(frozen=True, slots=True)
class RehearsalRequest:
    """What the operator asks for on the command line.

    Args:
        confirm: the code of the plan; None prints the plan.
        read_only: whether nothing may be written.
    """

    confirm: str | None = None
    read_only: bool = False


def run_rehearsal(settings: Settings, clock: Clock, request: Any) -> None:
    """Rehearse as the command line asks for it."""
    asked = request if isinstance(request, RehearsalRequest) else RehearsalRequest()
    rehearse(settings, clock, confirm=asked.confirm, read_only=asked.read_only)


def rehearse(settings: Settings, clock: Clock, *, confirm: str | None = None, read_only: bool = False) -> None:
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
    click.echo(f"  target-dotdigital --config CONFIG --rehearse --confirm {plan.code}")
    click.echo(f"  meltano invoke target-dotdigital:rehearse --confirm {plan.code}")
    if code is not None:
        msg = "The code of --confirm belongs to another plan, so nothing was written. Read the plan, and confirm it with its own code."
        raise SettingsError(msg)
    return False


def options() -> list[click.Option]:
    """Return the command-line options of the rehearsal.

    `--confirm` and `--read-only` are read first and become part of the value of `--rehearse`.
    """

    def remember(context: click.Context, option: click.Parameter, value: Any) -> None:
        context.meta.setdefault(META, {})[option.name] = value

    def request(context: click.Context, _option: click.Parameter, value: Any) -> RehearsalRequest | None:
        asked = RehearsalRequest(**context.meta.get(META, {}))
        if value:
            return asked
        if asked != RehearsalRequest():
            # otherwise a forgotten --rehearse would start a sync, which writes
            msg = "--confirm and --read-only need --rehearse: nothing was done."
            raise click.UsageError(msg)
        return None

    return [
        click.Option(
            ["--rehearse"],
            is_flag=True,
            callback=request,
            help="Check the assumptions about dotdigital on your account, with your addresses (rehearsal_emails). Prints the plan first.",
        ),
        click.Option(
            ["--confirm"],
            metavar="CODE",
            is_eager=True,
            expose_value=False,
            callback=remember,
            help="With --rehearse: perform the plan that has this code.",
        ),
        click.Option(
            ["--read-only"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=remember,
            help="With --rehearse: check only what can be checked without writing.",
        ),
    ]
