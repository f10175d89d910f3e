"""Old ledgers for tests; as a program, upgrades one and is killed at every statement.

Run as `python -m support.upgrading URL` in a process without threads, because it forks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from target_dotdigital.ledger.database import open_ledger

OLD_LEDGERS = Path(__file__).parents[1] / "pipeline" / "old_ledgers"
RENAMED = (
    ("dotdigital_scopes", "terms", "input_filter"),
    ("dotdigital_scopes", "whole", "had_full_input"),
    ("dotdigital_imports", "settled_run", "result_run"),
)
ACCOUNT = 101
KILLED = 9


def create_old_ledger(url: str) -> None:
    """Replace whatever is at a ledger URL with the ledger of layout 1."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as file:
            file.executescript((OLD_LEDGERS / "layout_1.sqlite.sql").read_text())
        return
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for name in _table_names(connection):
            connection.exec_driver_sql(f"DROP TABLE {name}")
        driver: Any = connection.connection.driver_connection
        driver.execute((OLD_LEDGERS / "layout_1.postgresql.sql").read_text())
    engine.dispose()


def make_old(url: str) -> None:
    """Turn a ledger of the current layout into one of layout 1, with the same content; does nothing if there is no ledger."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        if "dotdigital_layout" in _table_names(connection):
            for table, old, new in RENAMED:
                connection.exec_driver_sql(f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}")
            connection.exec_driver_sql("DROP TABLE dotdigital_layout")


def _table_names(connection: sa.Connection) -> list[str]:
    inspector: sa.Inspector = sa.inspect(connection)
    return sorted(inspector.get_table_names())


def upgrade(url: str) -> None:
    """Upgrade a ledger, as the start of a run does."""
    ledger = open_ledger(url)
    try:
        with ledger.locked(ACCOUNT):
            pass
    finally:
        ledger.close()


def content(url: str) -> dict[str, list[Any]]:
    """Return all rows of a database: table -> rows, in order."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        names = _table_names(connection)
        rows = {name: connection.exec_driver_sql(f"SELECT * FROM {name}").mappings() for name in names}  # noqa: S608 - our own tables
        found = {name: sorted(map(repr, of_table)) for name, of_table in rows.items()}
    engine.dispose()
    return found


def kill_at_every_statement(url: str) -> int:
    """Upgrade an old ledger once for each statement, killed there, and then once more; return the number of statements."""
    create_old_ledger(url)
    old = content(url)
    upgrade(url)
    new = content(url)
    for last in itertools.count(1):
        create_old_ledger(url)
        child = os.fork()
        if not child:
            left = itertools.count(last - 1, -1)

            def die(*_: object) -> None:
                if not next(left):  # noqa: B023 - the process ends within this round
                    os._exit(KILLED)

            sa.event.listen(sa.Engine, "before_cursor_execute", die)
            sa.event.listen(sa.Engine, "commit", die)
            upgrade(url)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        left_behind = content(url)
        if left_behind not in (old, new):
            sys.exit(f"killed at statement {last}, the ledger is neither the old nor the new one")
        upgrade(url)
        if content(url) != new:
            sys.exit(f"killed at statement {last}, and upgraded again, the ledger is another one")
        if os.waitstatus_to_exitcode(status) != KILLED:
            return last - 1
    return 0


if __name__ == "__main__":
    sys.stdout.write(f"{kill_at_every_statement(sys.argv[1])}\n")
