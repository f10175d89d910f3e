"""The command line: the Singer target or, with a subcommand, one of the operator's commands. Every failure becomes one line."""

from __future__ import annotations

import contextlib
import datetime
import gc
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

import click
from singer_sdk.plugin_base import SingerCommand, _ConfigInput
from typing_extensions import override

from target_dotdigital.clock import find_zone
from target_dotdigital.environment import read_setting, variables_without_effect
from target_dotdigital.errors import NoInputError, SettingsError
from target_dotdigital.failures import (
    SIGNALLED,
    configure_streams,
    error_message,
    quiet_sdk_logs,
    read_to_end,
    signal_of,
    stdin_of,
    unreadable_config,
)
from target_dotdigital.settings import SCHEMA, Settings
from target_dotdigital.target import TargetDotdigital

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from target_dotdigital.clock import Clock

# both databases can store it
MAX_NUMBER = (1 << 31) - 1
LOGGER = logging.getLogger("target-dotdigital")
# keys of click's context: the files of every --config so far, what they contain, and why one of them cannot be read
CONFIG_FILES, GIVEN, UNREADABLE = (f"target_dotdigital.{name}" for name in ("config_files", "given", "unreadable"))
HELP = (
    "Singer target for dotdigital: without a command, read Singer messages from standard input and deliver them. "
    "Each command has its own --help page."
)


class CommandLine(TargetDotdigital):  # noqa: D101 - has the docstring of the target, which --about shows
    __doc__ = TargetDotdigital.__doc__

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> _ConfigInput:
        # the files after a command's name are read after those before it
        files = ctx.meta[CONFIG_FILES] = (*ctx.meta.get(CONFIG_FILES, ()), *value)
        try:
            return super().cb_config(ctx, param, files)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            # raised later, where the input is read to its end and the failure is reported
            ctx.meta[UNREADABLE] = unreadable_config(error)
            return _ConfigInput()

    @classmethod
    @override
    def get_singer_command(cls) -> click.Group:
        sync = super().get_singer_command()

        @click.pass_context
        def begin(context: click.Context, /, **given: Any) -> None:
            if context.invoked_subcommand is None:
                sync.invoke(context)
            elif given["about"] or given["about_format"] or given["file_input"]:
                msg = f"--about, --format and --input belong to the sync, not to {context.invoked_subcommand}, so nothing was done."
                raise click.UsageError(msg)

        return click.Group(
            sync.name,
            COMMANDS,
            callback=begin,
            params=sync.params,
            help=HELP,
            invoke_without_command=True,
            subcommand_metavar="[COMMAND [OPTIONS]]",
            context_settings={**sync.context_settings, "obj": cls},
        )

    @classmethod
    def create(cls, given: _ConfigInput) -> Self:
        """Return the target with the settings of --config and the environment.

        Raises:
            Exception: a file cannot be read, or a setting is invalid.
        """
        context = click.get_current_context(silent=True)
        if context is not None and UNREADABLE in context.meta:
            raise context.meta[UNREADABLE]
        with quiet_sdk_logs(cls.logger, logging.getLogger("singer_sdk")):
            target = cls(config=given.config, parse_env_config=given.parse_env)
        for line in variables_without_effect(target.config, cls.config_jsonschema, from_environment=given.parse_env):
            cls.logger.warning("%s", line)
        return target

    @classmethod
    @override
    def invoke(  # type: ignore[override]  # with the parameters of a target, as the SDK has it
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        file_input: IO[str] | None = None,
    ) -> None:
        """Run the sync; on failure, the same line is printed last and is the first problem of the report."""
        _prepare(terminal=False)
        if about:
            super().invoke(about=about, about_format=about_format)
        # records create no reference cycles: raising the threshold saves about 10 % of the run time
        gc.set_threshold(50_000)
        from target_dotdigital.reporting.folder import ReportFolder
        from target_dotdigital.reporting.notifications import notify
        from target_dotdigital.reporting.report import Report
        from target_dotdigital.sync.run import published

        given = config or _ConfigInput()
        target: CommandLine | None = None
        report = Report(started_at=cls.clock().now())

        def destination() -> tuple[ReportFolder, int]:
            if target is not None:
                with contextlib.suppress(SettingsError):
                    return ReportFolder(Path(target.settings.report_dir), target.settings.zone), target.settings.report_keep
            # the settings are wrong
            path, keep, zone = (
                read_setting(given.config, SCHEMA, name) for name in ("report_dir", "report_keep", "report_timezone")
            )
            return ReportFolder(Path(path), find_zone(zone) or datetime.UTC), max(1, keep)

        try:
            with published(report, destination, lambda error: error_message(error, target.line if target else 0)):
                target = cls.create(given)
                # invalid settings are reported before a line is read
                cls.print_version(print_fn=cls.logger.info)
                _ = target.settings
                target.sync(report, file_input)
            # notify only after STATE has been written, so that a slow receiver cannot delay it
            notify(report, target.config)
            cls.logger.info("%s", report.summary())
        except BaseException as error:
            ended = signal_of(error)
            if ended is None and not isinstance(error, Exception):
                raise
            cls.logger.debug("Full traceback", exc_info=True)
            if ended is None:
                read_to_end(stdin_of(file_input))
            notify(report, given.config if target is None else target.config, report.problems[0])
            if not isinstance(error, NoInputError):
                # otherwise the tap's last line, which contains the cause, would scroll away
                cls.logger.info("%s", report.summary())
            _fail(report.problems[0], 1 if ended is None else SIGNALLED + ended)


@dataclass(frozen=True, slots=True)
class Operator:
    """The object that click passes to an operator command."""

    settings: Settings
    clock: Clock


class OperatorCommand(SingerCommand):
    """A command of the operator: it accepts --config like the sync, never reads standard input, and reports a failure in one line.

    Args:
        name: its name.
        callback: called with an `Operator`.
        uses: the settings that it depends on, besides the login settings.
        example: its arguments in an example.
        options: as for `click.Command`.
    """

    def __init__(self, name: str, callback: Callable[..., Any], *, uses: str, example: str = "", **options: Any) -> None:
        arguments = f"{name} --config config.json{example}"
        epilog = (
            f"Settings: the login (api_user, api_password), and {uses}.\n\n\b\nExample:\n  target-dotdigital {arguments}\n"
            f"  meltano invoke target-dotdigital:{name}{example}"
        )
        super().__init__(name, callback=callback, epilog=epilog, logger=LOGGER, **options)
        # read by the callback of the sync's own option
        config = click.Option(
            ["--config"], multiple=True, is_eager=True, expose_value=False, callback=_read_config, help="File of settings, or ENV."
        )
        self.params.append(config)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        target: type[CommandLine] = ctx.obj
        _prepare(terminal=True)
        try:
            ctx.obj = Operator(target.create(ctx.meta[GIVEN]).settings, target.clock())
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - every failure becomes one line for the operator
            _fail(error_message(error, 0))


def _read_config(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> None:
    target: type[CommandLine] = context.obj
    context.meta[GIVEN] = target.cb_config(context, cast("click.Option", option), value)


def _prepare(*, terminal: bool) -> None:
    # ledger, reports and CSV files hold addresses
    os.umask(0o077)
    configure_streams(terminal=terminal)


def _fail(message: str, code: int = 1) -> NoReturn:
    LOGGER.error(message)  # no traceback, which may quote addresses
    raise SystemExit(code) from None


def _check_address(_context: click.Context, _argument: click.Parameter, value: str) -> str:
    """Refuse what cannot be an address; it would become part of a URL.

    Raises:
        click.BadParameter: it is not an address.
    """
    local, _, domain = value.strip().rpartition("@")
    try:
        value.encode()
    except UnicodeEncodeError:
        local = ""
    if not local or not domain:
        msg = "it is not an e-mail address."
        raise click.BadParameter(msg)
    return value


def _command(**facts: Any) -> Callable[[Callable[..., None]], OperatorCommand]:
    """Create a command from a function, whose docstring is the help text."""

    def decorate(function: Callable[..., None]) -> OperatorCommand:
        return click.command(function.__name__, cls=OperatorCommand, **facts)(click.pass_obj(function))

    return decorate


@_command(uses="address_book, data_field and the other settings that name something in the account")
def check(operator: Operator) -> None:
    """Log in, find the region, and read what the settings name. Writes nothing."""
    from target_dotdigital.commands.check import check_account

    check_account(operator.settings, operator.clock)


@_command(uses="all settings of the sync")
def review(operator: Operator) -> None:
    """Show what is pending in the ledger, the active programs and the activation code. Writes nothing."""
    from target_dotdigital.commands.restore import show_review

    show_review(operator.settings, operator.clock)


@_command(uses="ledger_url, address_book, data_field, upload_emails, on_removed and exclude_emails")
def reconcile(operator: Operator) -> None:
    """Read dotdigital back into the ledger, and show the drift.

    Rejected contacts are then tried once more. Writes nothing to dotdigital.
    """
    from target_dotdigital.commands.reconcile import reconcile_ledger

    reconcile_ledger(operator.settings, operator.clock)


@_command(uses="ledger_url and data_field")
def release(operator: Operator) -> None:
    """Release contacts that are held because dotdigital's Data Watchdog rejected their import."""
    from target_dotdigital.commands.reconcile import release_held

    release_held(operator.settings, operator.clock)


@_command(uses="all settings of the sync; with dry_run, it only shows what it would do", example=" --run 12")
@click.option(
    "--run", type=click.IntRange(1, MAX_NUMBER), help="The run to put back; `runs`, reports and the summary line give its number."
)
def restore(operator: Operator, run: int | None) -> None:
    """Put back the labels that a run replaced, within the brakes. Without --run, list the runs that can be put back."""
    from target_dotdigital.commands.restore import list_restorable, restore_run

    if run is None:
        list_restorable(operator.settings, operator.clock)
    else:
        restore_run(operator.settings, operator.clock, run)


@_command(uses="ledger_url and report_dir", example=" jane@example.com")
@click.argument("email", callback=_check_address)
def forget(operator: Operator, email: str) -> None:
    """Remove an address from ledger, before-images and the files of rejected contacts."""
    from target_dotdigital.commands.forget import forget_contact

    forget_contact(operator.settings, email)


@_command(uses="rehearsal_emails, address_book, data_field, ledger_url and report_dir", example=" --confirm ABCD-EFGH-IJKL")
@click.option("--confirm", metavar="CODE", help="Perform the plan that has this code.")
@click.option("--read-only", is_flag=True, help="Check only what can be checked without writing.")
def rehearse(operator: Operator, confirm: str | None, *, read_only: bool) -> None:
    """Check on your account, with your own addresses, what the sync assumes about dotdigital. Prints the plan and its code first."""
    from target_dotdigital.commands.rehearse import run_rehearsal

    run_rehearsal(operator.settings, operator.clock, confirm, read_only=read_only)


@_command(uses="ledger_url, report_dir and data_field", example=" --limit 5")
@click.option("--limit", type=click.IntRange(1, MAX_NUMBER), default=20, show_default=True, help="Number of runs to list.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def runs(operator: Operator, limit: int, *, as_json: bool) -> None:
    """List the last starts, newest first: the runs of the ledger, and the other starts whose reports are kept in report_dir."""
    from target_dotdigital.commands.runs import list_runs

    list_runs(operator.settings, operator.clock, limit, as_json=as_json)


@_command(uses="ledger_url, data_field and exclude_emails", example=" jane@example.com --live")
@click.argument("email", callback=_check_address)
@click.option("--live", is_flag=True, help="Also log in and show what dotdigital holds now.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(operator: Operator, email: str, *, live: bool, as_json: bool) -> None:
    """Show what decides about one contact: source, labels, rejections, deliveries, and from when it is safe to mail it."""
    from target_dotdigital.commands.explain import explain_contact

    explain_contact(operator.settings, operator.clock, email, live=live, as_json=as_json)


@_command(uses="ledger_url and data_field", example=" --csv rejected.csv")
@click.option("--csv", metavar="FILE", help="Write all of them to a CSV file; - for standard output.")
def rejected(operator: Operator, csv: str | None) -> None:
    """List the contacts whose last delivery dotdigital rejected, and what to do. Prints addresses."""
    from target_dotdigital.commands.rejected import list_rejected

    list_rejected(operator.settings, operator.clock, csv)


COMMANDS = [check, review, reconcile, restore, forget, release, rehearse, runs, explain, rejected]
