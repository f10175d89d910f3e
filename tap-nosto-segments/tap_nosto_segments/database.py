"""DuckDB as this tap uses it: out of core, in a folder of its own, with nothing fetched from anywhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import duckdb

from tap_nosto_segments.errors import no_space

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORY_LIMIT = "256MB"
THREADS = 2
# a write that fails is seen when it is made, at the commit, or afterwards: no transaction of ours can fail otherwise
FULL = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException, duckdb.FatalException)


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """Open a database in a work folder; what does not fit in memory is spilled there."""
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
def space_for(what: str, *, emitted: bool = False) -> Iterator[None]:
    """Say so where disk or memory has no room for the work within.

    Raises:
        SnapshotError: naming `what`.
    """
    try:
        yield
    except (*FULL, OSError) as error:
        raise no_space(error, what=what, emitted=emitted) from None


def is_json_object(text: bytes) -> bool:
    """Say whether a text is one JSON object to DuckDB, which reads the export and is less strict than other parsers."""
    try:
        line = text.decode()
    except UnicodeDecodeError:
        return False
    with duckdb.connect() as connection:
        (found,) = connection.execute("SELECT CASE WHEN json_valid($1) THEN json_type($1) = 'OBJECT' END", [line]).fetchall()
    return bool(found[0])


def literal(text: str) -> str:
    """Quote a text for SQL. DuckDB knows no escapes but the doubled quote."""
    return "'" + text.replace("'", "''") + "'"
