"""DuckDB as this tap uses it: out of core, in a folder of its own, with nothing fetched from anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from pathlib import Path

MEMORY_LIMIT = "256MB"
THREADS = 2


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


def literal(text: str) -> str:
    """Quote a text for SQL. DuckDB knows no escapes but the doubled quote."""
    return "'" + text.replace("'", "''") + "'"
