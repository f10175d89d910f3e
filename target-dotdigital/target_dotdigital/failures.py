"""Handles runs that fail: one final line that says what happened, and a report that says the same."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import traceback
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any

import sqlalchemy as sa
from singer_sdk.exceptions import (
    ConfigValidationError,
    InvalidJSONSchema,
    InvalidRecord,
    MappingError,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_dotdigital.config import CONFIG
from target_dotdigital.errors import NoInputError, SettingsError, TargetError
from target_dotdigital.ledger.database import ledger_error
from target_dotdigital.reporting.folder import open_folder
from target_dotdigital.reporting.report import Report, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

NOT_SINGER = (
    *(InvalidInputLine, RecordsWithoutSchemaException, MissingKeyPropertiesError),
    *(InvalidRecord, InvalidJSONSchema),
)
CHUNK = 1 << 20
# secret setting -> what it should be
SECRETS = {
    name: "list of texts" if "items" in facts else "text"
    for name, facts in CONFIG.to_dict()["properties"].items()
    if facts.get("secret")
}


def explain(error: Exception, line: int) -> str:
    """Return the line that says what happened, what it means and what to do.

    Args:
        error: the exception that ended the run.
        line: number of the last input line that was read; 0 before the first.
    """
    if isinstance(error, TargetError):
        return str(error)
    if isinstance(error, ConfigValidationError):
        return f"The settings cannot be used, so nothing was done: {'; '.join(map(_without_secrets, error.errors))}. Correct them."
    if isinstance(error, NOT_SINGER):
        # the SDK's messages quote the record
        what = str(error) if isinstance(error, InvalidInputLine) else type(error).__name__
        return f"The input is not valid Singer: line {line} is {what}. Nothing was written; the bookmark stays. Check the tap."
    frames = _frames(error.__traceback__)
    if any(path.parts[-2:] == ("singer_sdk", "mapper.py") for path, _ in frames):
        # an exception raised by an expression may quote the record; the SDK's MappingError only quotes the settings
        what = str(error).rstrip(".") if isinstance(error, MappingError) else type(error).__name__
        return (
            f"The setting stream_maps cannot be applied (line {line} of the input): {what}. Nothing was written, and the bookmark stays. "
            "Correct the expression."
        )
    if isinstance(error, sa.exc.SQLAlchemyError):
        return str(ledger_error(error))
    places = " > ".join(f"{path.name}:{number}" for path, number in frames)
    return f"Unexpected {type(error).__name__} at {places}: a defect. No STATE was emitted; please report it with this line."


def use_utf8(*, terminal: bool) -> None:
    """Write Singer messages as UTF-8 on every system, and escape characters that a terminal cannot show.

    Args:
        terminal: whether standard output is read by a person instead of another program.
    """
    for stream, is_text in ((sys.stdout, terminal), (sys.stderr, True)):
        if isinstance(stream, io.TextIOWrapper):
            if is_text:
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="strict")


@contextlib.contextmanager
def without_progress(*loggers: logging.Logger) -> Iterator[None]:
    """Log warnings and errors only: the SDK logs a line for each environment variable that it reads."""
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        if logger.getEffectiveLevel() == logging.INFO:
            logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def unreadable_config(error: Exception) -> SettingsError:
    """Return the error for a file of --config that cannot be read.

    Args:
        error: what reading it raised; a message about its content may quote a secret.
    """
    what = (
        "does not exist"
        if isinstance(error, FileNotFoundError)
        else "is not readable"
        if isinstance(error, OSError)
        else "is no JSON"
    )
    return SettingsError(f"The file of --config {what}, so nothing was done. Name a JSON file with the settings, or ENV.")


def drain(source: IO[Any]) -> None:
    """Read the input to its end, so that the tap does not fail with a broken pipe and hide the cause."""
    if source.isatty():
        return
    try:
        stream = getattr(source, "buffer", source)
        while stream.read(CHUNK):
            pass
    except (OSError, ValueError):
        return


def report_failure(error: BaseException, message: str, report: Report, config: Mapping[str, Any]) -> None:
    """Write the report of a run that failed before it started, if its folder is writable.

    Args:
        error: the exception that ended the run.
        message: the message for the operator.
        report: the report so far.
        config: the settings, unchecked.
    """
    path = config.get("report_dir") or os.environ.get("TARGET_DOTDIGITAL_REPORT_DIR")
    if not isinstance(path, str):
        path = CONFIG.to_dict()["properties"]["report_dir"]["default"]
    if isinstance(error, NoInputError):
        report.outcome = RunStatus.NO_INPUT
    report.problems.insert(0, message)
    report.finished_at = report.finished_at or report.started_at
    try:
        open_folder(path).publish(report, _report_keep(config))
    except SettingsError:
        return


def _report_keep(config: Mapping[str, Any]) -> int:
    """Return the number of runs to keep, from settings that may be wrong."""
    keep = str(config.get("report_keep") or os.environ.get("TARGET_DOTDIGITAL_REPORT_KEEP"))
    default: int = CONFIG.to_dict()["properties"]["report_keep"]["default"]
    return int(keep) if keep.isdecimal() and int(keep) else default


def _without_secrets(text: str) -> str:
    """Replace an error message about a secret setting with one that does not quote its value."""
    name = next((name for name in SECRETS if f"[{name!r}]" in text), None)
    return text if name is None else f"{name} is not a {SECRETS[name]} as it should be"


def _frames(trace: TracebackType | None) -> list[tuple[PurePath, int | None]]:
    return [(PurePath(frame.filename), frame.lineno) for frame in traceback.extract_tb(trace)]


def stdin_of(file_input: IO[str] | None) -> IO[str]:
    """Return the stream that a run reads from."""
    return file_input or sys.stdin
