"""Everything that can go wrong, by what the operator should do about it.

A message says what happened, what it means and what to do. It never holds an address of a contact, a token or a body.
"""

from __future__ import annotations

import errno

# what a file system says when it takes no more: disk, quota, size of one file
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class TapError(Exception):
    """The run stops; nothing was acknowledged and the bookmark stays where it was."""


class SettingsError(TapError):
    """Two settings contradict each other, or one cannot mean anything. Change the settings."""


class InputError(TapError):
    """A file named on the command line cannot be used. Correct the file, or name another."""


class ExportUnavailableError(TapError):
    """The export could not be fetched. Check address and token, or wait for Nosto."""


class ExportDamagedError(TapError):
    """The export arrived, but not whole, or it is not what it should be. Nothing was emitted."""


class GuardError(TapError):
    """The export is whole, but looks like an accident. Nothing was emitted."""


class SnapshotError(TapError):
    """The snapshot folder cannot be read or written."""


class CatalogueError(TapError):
    """Nosto's GraphQL API did not give the catalogue of segments."""


def no_space(error: Exception, *, what: str, emitted: bool = False) -> SnapshotError:
    """Return the error for work that disk or memory had no room for.

    Args:
        error: what the file system or DuckDB raised.
        what: the work, as a participle: "stored", "compared".
        emitted: whether messages may have been written before.
    """
    consequence = "The output is incomplete, and the bookmark stays" if emitted else "Nothing was emitted"
    msg = (
        f"The export could not be {what} ({type(error).__name__}): probably the disk for temporary files is full, or the memory. "
        f"{consequence}. Free some space, or point TMPDIR to a larger disk."
    )
    return SnapshotError(msg)
