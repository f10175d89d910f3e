"""What no program can do without: reading, decoding, hashing, compressing and storing the same bytes. One figure for each."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from table import Table

BATCH = 5_000
DECODING = "reading and decoding the JSON"
INSERTING = "reading, and inserting each line into a SQLite table with a key"


def show_limits(table: Table, source: Path, count: str, folder: Path) -> None:
    """Note the processor time of each operation on a first day's messages, in this process.

    Args:
        table: where the figures go.
        source: the messages.
        count: how many contacts that is, in words.
        folder: where a database goes.
    """
    for name in _operations(folder):
        table.note(
            f"limit: {name}, {count}", f"{least(source, folder, name)} s of processor time", "no more can be saved", "itself"
        )


def least(source: Path, folder: Path, name: str) -> str:
    """Return the processor seconds of one operation."""
    return f"{_busy(_operations(folder)[name], source):.1f}"


def _operations(folder: Path) -> dict[str, Callable[[Path], None]]:
    return {
        "reading the lines": _read,
        DECODING: _decode,
        "reading and hashing (SHA-256)": _hash,
        INSERTING: lambda path: _insert(path, folder / "limit.db"),
    }


def _busy(operation: Callable[[Path], None], source: Path) -> float:
    started = time.process_time()
    operation(source)
    return time.process_time() - started


def _read(path: Path) -> None:
    with path.open("rb") as lines:
        for _ in lines:
            pass


def _decode(path: Path) -> None:
    decode = msgspec.json.Decoder().decode
    with path.open("rb") as lines:
        for line in lines:
            decode(line)


def _hash(path: Path) -> None:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def _insert(path: Path, database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE lines (number INTEGER PRIMARY KEY, line BLOB)")
    with path.open("rb") as lines:
        rows: list[tuple[bytes]] = []
        for line in lines:
            rows.append((line,))
            if len(rows) == BATCH:
                connection.executemany("INSERT INTO lines (line) VALUES (?)", rows)
                rows.clear()
        connection.executemany("INSERT INTO lines (line) VALUES (?)", rows)
    connection.commit()
    connection.close()
    database.unlink()
