"""The target's command line: the sync, the commands, and how either fails."""

from __future__ import annotations

import datetime
import gc
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import click
from singer_sdk import Target
from singer_sdk.plugin_base import _ConfigInput
from typing_extensions import override

from target_dotdigital.clock import Clock, find_zone
from target_dotdigital.commands.registry import COMMANDS, options
from target_dotdigital.config import CONFIG
from target_dotdigital.environment import read_setting, read_settings, variables_without_effect
from target_dotdigital.failures import (
    SIGNALLED,
    drain,
    explain,
    signal_of,
    stdin_of,
    unreadable_config,
    use_utf8,
    without_progress,
)
from target_dotdigital.reporting.folder import ReportFolder
from target_dotdigital.reporting.notifications import notify
from target_dotdigital.reporting.report import Report
from target_dotdigital.sync.run import published

if TYPE_CHECKING:
    from typing import IO

    from target_dotdigital.settings import Settings

UNREADABLE = "target_dotdigital.unreadable_config"


class CommandLine(Target):
    """A target that is called with the options of its commands, or without for a sync."""

    #: Injectable clock.
    clock: ClassVar[type[Clock]] = Clock

    if TYPE_CHECKING:

        @property
        def settings(self) -> Settings:
            """The settings, checked."""

        def sync(self, report: Report, file_input: IO[str] | None = None) -> None:
            """Deliver an input."""

        @property
        def line(self) -> int:
            """Number of the last line that did not take a fast path; 0 before the first."""

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> _ConfigInput:
        try:
            return super().cb_config(ctx, param, value)
        except (OSError, ValueError) as error:
            # raised later, where the input is drained and the failure reported
            ctx.meta[UNREADABLE] = unreadable_config(error)
            return _ConfigInput()

    def __init__(self, *, config: Any = None, parse_env_config: bool = False, **options: Any) -> None:
        """Read the settings, in place of the SDK, which reads a text that it does not understand as false."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        settings = read_settings(config or {}, schema, from_environment=parse_env_config)
        super().__init__(config=settings, **options)

    @classmethod
    def _create(cls, given: _ConfigInput) -> Self:
        context = click.get_current_context(silent=True)
        if context is not None and UNREADABLE in context.meta:
            raise context.meta[UNREADABLE]
        with without_progress(cls.logger, logging.getLogger("singer_sdk")):
            target = cls(config=given.config, parse_env_config=given.parse_env)
        for line in variables_without_effect(target.config, cls.config_jsonschema, from_environment=given.parse_env):
            cls.logger.warning("%s", line)
        return target

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        command.params.extend(options())
        return command

    @classmethod
    @override
    def invoke(
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        file_input: IO[str] | None = None,
        **options: Any,
    ) -> None:
        os.umask(0o077)
        use_utf8(terminal=any(options.get(name) for name in COMMANDS))
        # rows come by the million and hold no cycles: looking for some after every 700 of them costs a tenth of the time
        gc.set_threshold(50_000)
        if about:
            super().invoke(about=about, about_format=about_format)
        given = config or _ConfigInput()
        run = options.pop("run", None)
        command = next((name for name in COMMANDS if options.get(name)), None)
        if command is None:
            cls._run_sync(given, file_input)
        else:
            cls._run_command(command, run if command == "restore" else options[command], given)

    @classmethod
    def _run_command(cls, command: str, request: Any, given: _ConfigInput) -> None:
        """Run a command; if it fails, say why in one line and exit with 1."""
        try:
            COMMANDS[command](cls._create(given).settings, cls.clock(), request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator gets one line
            cls._fail(explain(error, 0))

    @classmethod
    def _run_sync(cls, given: _ConfigInput, file_input: IO[str] | None) -> None:
        """Run the sync; however it fails, the same line is the last one on the screen and the first problem of the report."""
        target: CommandLine | None = None
        report = Report(started_at=cls.clock().now())
        schema = CONFIG.to_dict()
        path, keep, zone = (read_setting(given.config, schema, name) for name in ("report_dir", "report_keep", "report_timezone"))
        folder = ReportFolder(Path(path), find_zone(zone) or datetime.UTC)
        try:
            with published(report, folder, max(1, keep), lambda error: explain(error, target.line if target else 0)):
                target = cls._create(given)
                # invalid settings are reported before a line is read
                cls.print_version(print_fn=cls.logger.info)
                _ = target.settings
                target.sync(report, file_input)
            # after STATE, which does not wait for the receivers
            notify(report, target.config)
            cls.logger.info("%s", report.summary())
        except BaseException as error:
            ended = signal_of(error)
            if ended is None and not isinstance(error, Exception):
                raise
            cls.logger.debug("Full traceback", exc_info=True)
            if ended is None:
                drain(stdin_of(file_input))
            message = report.problems[0]
            notify(report, given.config if target is None else target.config, message)
            cls.logger.info("%s", report.summary())
            cls._fail(message, 1 if ended is None else SIGNALLED + ended)

    @classmethod
    def _fail(cls, message: str, code: int = 1) -> NoReturn:
        cls.logger.error(message)  # one line, without what a traceback quotes
        raise SystemExit(code) from None
