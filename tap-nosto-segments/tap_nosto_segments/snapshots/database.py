"""DuckDB as the tap uses it: out of core, in its own working folder, without downloading extensions."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import duckdb

from tap_nosto_segments.errors import storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORY_LIMIT = "256MB"
THREADS = 2
GLOB = re.compile(r"[*?\[]")
# A disk that fails shows up in the write, in the commit, or in a later statement. This tap causes no other transaction failures.
STORAGE_EXCEPTIONS = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException, duckdb.FatalException)


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """Open a database in a working folder; data that does not fit in memory is spilled there."""
    # DuckDB looks for parameters behind a question mark in the path of a database, and then does not find its own files
    connection = duckdb.connect(
        ":memory:" if "?" in str(folder) else folder / "work.duckdb",
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
def explain_storage_errors(action: str, *, emitted: bool = False) -> Iterator[None]:
    """Turn a failure of the disk, or a lack of memory, into one clear error.

    Args:
        action: the work, as a past participle: "stored", "compared".
        emitted: whether messages may already have been written.

    Raises:
        SnapshotError: the disk failed, or disk or memory is full.
    """
    try:
        yield
    except (*STORAGE_EXCEPTIONS, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # not from the operating system: other libraries derive their errors from OSError as well
        raise storage_error(error, action=action, emitted=emitted) from None


def quote_literal(text: str) -> str:
    """Quote a text as an SQL literal. DuckDB has no escape sequences except the doubled quote."""
    return "'" + text.replace("'", "''") + "'"


def quote_source(path: Path) -> str:
    """Quote the path of a file that is read. DuckDB treats it as a pattern, and "a?b" must not match the folder "acb"."""
    return quote_literal(GLOB.sub(r"[\g<0>]", str(path)))
