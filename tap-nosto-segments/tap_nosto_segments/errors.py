"""Exceptions of the tap, one class for each kind of remedy.

A message says what happened, what it means and what to do. It never contains a contact's address, a token or a response body.
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar

# disk full, quota exceeded, file too large
OUT_OF_SPACE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class TapError(Exception):
    """The run stops. Nothing is acknowledged, and the bookmark is not advanced.

    Each kind declares a title, a cause and a remedy, for the reference of errors.
    """

    title: ClassVar[str]
    cause: ClassVar[str]
    remedy: ClassVar[str]


class SettingsError(TapError):
    """A setting is invalid, or two settings contradict each other. Change the settings."""

    title: ClassVar[str] = "Settings"
    cause: ClassVar[str] = "A setting is missing, invalid, or contradicts another one."
    remedy: ClassVar[str] = "Correct the setting that the line mentions. Nothing was emitted."


class InputError(TapError):
    """A file of the command line cannot be used. Correct the file, or pass another one."""

    title: ClassVar[str] = "Files on the command line"
    cause: ClassVar[str] = "A file of `--config`, `--state` or `--catalog` cannot be used."
    remedy: ClassVar[str] = "Correct the file, or pass another one. Nothing was emitted."


class ExportUnavailableError(TapError):
    """The export could not be fetched. Check the address and the token, or wait for Nosto."""

    title: ClassVar[str] = "Export not available"
    cause: ClassVar[str] = (
        "Nosto did not hand over the export: the address or the token is wrong, there is no file yet, or Nosto cannot be reached."
    )
    remedy: ClassVar[str] = (
        "Check `export_url`, `export_token` and `export_auth` against Nosto's admin; the command `check` shows what was tried. Otherwise "
        "run again later. Nothing was emitted."
    )


class ExportDamagedError(TapError):
    """The export arrived incomplete, or in an unexpected format. Nothing was emitted."""

    title: ClassVar[str] = "Export damaged"
    cause: ClassVar[str] = "The export is incomplete, or does not have the expected format."
    remedy: ClassVar[str] = "Run again. If the error persists, inspect the file, and contact Nosto's support. Nothing was emitted."


class GuardError(TapError):
    """The export is complete, but its content looks like an accident. Nothing was emitted."""

    title: ClassVar[str] = "Guards"
    cause: ClassVar[str] = (
        "The export is complete, but its content looks like an accident: empty, shrunken, stale, malformed, or without any "
        "chosen segment."
    )
    remedy: ClassVar[str] = (
        "Check Nosto first. If the content is right, change the setting that the line mentions. Nothing was emitted."
    )


class SnapshotError(TapError):
    """A snapshot cannot be read, written or compared."""

    title: ClassVar[str] = "Snapshots"
    cause: ClassVar[str] = "A snapshot cannot be read, written or compared."
    remedy: ClassVar[str] = (
        "Check permissions and free space of `snapshot_uri` and of the folder for temporary files. The bookmark is not advanced."
    )


class CatalogueError(TapError):
    """Nosto's GraphQL API did not return the catalogue of segments."""

    title: ClassVar[str] = "Catalogue"
    cause: ClassVar[str] = (
        "Nosto's GraphQL API did not return the catalogue of segments. This stops a run only if the stream `segments` is selected."
    )
    remedy: ClassVar[str] = "Check `api_token` and `graphql_url`, or deselect the stream."


def storage_error(error: Exception, *, action: str, emitted: bool = False) -> SnapshotError:
    """Return the error for work that failed on the disk for temporary files, or in memory, with its own cause.

    Args:
        error: the exception of the file system or of DuckDB.
        action: the work, as a past participle: "stored", "compared".
        emitted: whether messages may already have been written.
    """
    code, name = _errno_of(error), type(error).__name__
    consequence = "The output is truncated, and the bookmark is not advanced" if emitted else "Nothing was emitted"
    if code in OUT_OF_SPACE_ERRNOS or "OutOfMemory" in name:
        msg = (
            f"The export could not be {action} ({name}): probably the disk for temporary files is full, or memory ran out. {consequence}. "
            "Free some space, or point TMPDIR to a larger disk."
        )
        return SnapshotError(msg)
    reason = "no reason given" if code is None else os.strerror(code)
    msg = (
        f"The export could not be {action} ({name}: {reason}): the folder for temporary files cannot be used. {consequence}. Check its "
        "permissions and its disk, or point TMPDIR to another folder."
    )
    return SnapshotError(msg)


def _errno_of(error: Exception) -> int | None:
    """Return the error number of the operating system; DuckDB puts only its text into a message."""
    if isinstance(error, OSError):
        return error.errno
    text = str(error)
    return next((code for code in errno.errorcode if os.strerror(code) in text), None)
