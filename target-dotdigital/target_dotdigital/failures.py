"""Turns the exception that ended a run or a command into one line that says what happened, what it means and what to do."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import signal
import sys
import traceback
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any

from singer_sdk.exceptions import (
    ConfigValidationError,
    InvalidJSONSchema,
    InvalidRecord,
    MappingError,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_dotdigital.errors import SettingsError, TargetError
from target_dotdigital.settings import SCHEMA
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

NOT_SINGER = (
    *(InvalidInputLine, RecordsWithoutSchemaException, MissingKeyPropertiesError),
    *(InvalidRecord, InvalidJSONSchema),
)
NOT_SINGER_CAUSES: dict[type[Exception], str] = {
    RecordsWithoutSchemaException: "a RECORD message for a stream without a preceding SCHEMA",
    MissingKeyPropertiesError: "a RECORD message without a key property",
}
CHUNK_BYTES = 1 << 20
# the exit code of a process that a signal ended is this number plus the signal
SIGNALLED = 128
AGAIN = "Cure that, and run again: what dotdigital has confirmed is not sent again."
SYSTEM_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "a file would become larger than is allowed (ulimit -f)",
    errno.EROFS: "the file system is read-only",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "permission is missing"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR), "a file or folder is missing"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open (ulimit -n)"),
    errno.ENOMEM: "memory ran out",
    errno.EIO: "a disk cannot be read or written",
    errno.EPIPE: "the program that reads STATE has ended",
}
# secret setting -> what it should be
SECRETS = {
    name: "list of texts" if "items" in facts else "text" for name, facts in SCHEMA["properties"].items() if facts.get("secret")
}


def error_message(error: BaseException, line: int) -> str:
    """Return the one-line error message.

    Args:
        error: the exception that ended the run.
        line: number of the last input line that was read; 0 before the first.
    """
    if isinstance(error, TargetError):
        return str(error)
    if (cause := _cause_outside(error)) is not None:
        return cause
    if isinstance(error, ConfigValidationError):
        return f"The settings cannot be used, so nothing was done: {'; '.join(map(_without_secrets, error.errors))}. Correct them."
    if isinstance(error, NOT_SINGER):
        # the SDK's messages quote the record
        what = str(error) if isinstance(error, InvalidInputLine) else NOT_SINGER_CAUSES.get(type(error), type(error).__name__)
        return f"The input is not valid Singer: line {line} is {what}. Nothing was written; the bookmark stays. Check the tap."
    frames = _frames(error.__traceback__)
    if any(path.parts[-2:] == ("singer_sdk", "mapper.py") for path, _ in frames):
        # an exception raised by an expression may quote the record; the SDK's MappingError only quotes the settings
        what = str(error).rstrip(".") if isinstance(error, MappingError) else type(error).__name__
        return (
            f"The setting stream_maps cannot be applied (line {line} of the input): {what}. Nothing was written, and the bookmark stays. "
            "Correct the expression."
        )
    places = " > ".join(f"{path.name}:{number}" for path, number in frames)
    return f"Unexpected {type(error).__name__} at {places}: a defect. No STATE was emitted; please report it with this line."


def _cause_outside(error: BaseException) -> str | None:
    """Return the message about a run that the operating system has stopped; None if it ended otherwise."""
    if (ended := signal_of(error)) is not None:
        return f"Ended by {ended.name}: the bookmark stays, and nothing is lost. The next run completes it."
    if isinstance(error, MemoryError):
        return f"Memory ran out: the run stopped, and the bookmark stays. {AGAIN}"
    if isinstance(error, OSError) and error.errno in SYSTEM_CAUSES:
        place = f" ({shown(str(error.filename))})" if error.filename else ""
        return f"The operating system stopped the run: {SYSTEM_CAUSES[error.errno]}{place}. The bookmark stays. {AGAIN}"
    return None


def signal_of(error: BaseException) -> signal.Signals | None:
    """Return the signal that ended a run; None if it ended otherwise."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > SIGNALLED:
        return signal.Signals(error.code - SIGNALLED)
    return None


def configure_streams(*, terminal: bool) -> None:
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
def quiet_sdk_logs(*loggers: logging.Logger) -> Iterator[None]:
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
        else "is not a JSON object"
    )
    return SettingsError(f"The file of --config {what}, so nothing was done. Give a JSON file with the settings, or ENV.")


def read_to_end(source: IO[Any] | None) -> None:
    """Read the input to its end, so that the tap does not fail with a broken pipe and hide the cause."""
    if source is None or source.isatty():
        return
    try:
        stream = getattr(source, "buffer", source)
        while stream.read(CHUNK_BYTES):
            pass
    except (OSError, ValueError):
        return


def _without_secrets(text: str) -> str:
    """Replace an error message about a secret setting, which quotes its value, and one about `spill`, which is no longer supported."""
    if "'spill'" in text and "['overflow']" in text:
        return "overflow: spill is no longer supported: use drop, with segment_priority, or fail"
    name = next((name for name in SECRETS if f"[{name!r}]" in text), None)
    return text if name is None else f"{name} is not a {SECRETS[name]} as it should be"


def _frames(trace: TracebackType | None) -> list[tuple[PurePath, int | None]]:
    return [(PurePath(frame.filename), frame.lineno) for frame in traceback.extract_tb(trace)]


def stdin_of(file_input: IO[str] | None) -> IO[str] | None:
    """Return the stream that a run reads from."""
    return file_input or sys.stdin
