"""Exceptions of the tap, one class for each kind of remedy.

A message says what happened, what it means and what to do. It never contains a contact's address, a token or a response body.
"""

from __future__ import annotations

import errno

# disk full, quota exceeded, file too large
OUT_OF_SPACE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class TapError(Exception):
    """The run stops. Nothing is acknowledged, and the bookmark stays where it was."""


class SettingsError(TapError):
    """A setting is invalid, or two settings contradict each other. Change the settings."""


class InputError(TapError):
    """A file named on the command line cannot be used. Correct the file, or name another."""


class ExportUnavailableError(TapError):
    """The export could not be fetched. Check the address and the token, or wait for Nosto."""


class ExportDamagedError(TapError):
    """The export arrived incomplete, or in an unexpected format. Nothing was emitted."""


class GuardError(TapError):
    """The export is complete, but its content looks like an accident. Nothing was emitted."""


class SnapshotError(TapError):
    """A snapshot cannot be read, written or compared."""


class CatalogueError(TapError):
    """Nosto's GraphQL API did not return the catalogue of segments."""


def out_of_space_error(error: Exception, *, action: str, emitted: bool = False) -> SnapshotError:
    """Return the error for work that ran out of disk space or memory.

    Args:
        error: the exception of the file system or of DuckDB.
        action: the work, as a past participle: "stored", "compared".
        emitted: whether messages may already have been written.
    """
    consequence = "The output is incomplete, and the bookmark stays" if emitted else "Nothing was emitted"
    msg = (
        f"The export could not be {action} ({type(error).__name__}): probably the disk for temporary files is full, or memory ran "
        f"out. {consequence}. Free some space, or point TMPDIR to a larger disk."
    )
    return SnapshotError(msg)
