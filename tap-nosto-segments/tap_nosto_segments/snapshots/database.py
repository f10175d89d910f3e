"""DuckDB as the tap uses it: out of core, in its own working folder, without downloading extensions."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import duckdb

from tap_nosto_segments.errors import out_of_space_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORY_LIMIT = "256MB"
THREADS = 2
# A full disk shows up in the write, in the commit, or in a later statement. This tap causes no other transaction failures.
OUT_OF_SPACE_EXCEPTIONS = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException, duckdb.FatalException)


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """Open a database in a working folder; what does not fit in memory is spilled there."""
    connection = duckdb.connect(
        folder / "work.duckdb",
        config={
            "memory_limit": MEMORY_LIMIT,
            "threads": THREADS,
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        },
    )
    connection.execute("SET enable_progress_bar = false")
    return connection


@contextlib.contextmanager
def explain_out_of_space(action: str, *, emitted: bool = False) -> Iterator[None]:
    """Turn a lack of disk space or memory into one clear error.

    Args:
        action: the work, as a past participle: "stored", "compared".
        emitted: whether messages may already have been written.

    Raises:
        SnapshotError: disk or memory is full.
    """
    try:
        yield
    except (*OUT_OF_SPACE_EXCEPTIONS, OSError) as error:
        raise out_of_space_error(error, action=action, emitted=emitted) from None


def quote_literal(text: str) -> str:
    """Quote a text as an SQL literal. DuckDB has no escape sequences except the doubled quote."""
    return "'" + text.replace("'", "''") + "'"
