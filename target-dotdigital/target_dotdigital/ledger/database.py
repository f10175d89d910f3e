"""The ledger's database (SQLite or PostgreSQL), and the lock that allows one run per account at a time."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from filelock import FileLock, Timeout

from target_dotdigital.errors import LedgerError
from target_dotdigital.ledger.tables import METADATA
from target_dotdigital.private import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator


# What SQLite's planner cannot know of the contacts: nearly all are of one scope, and few are in the partial indexes. Without this it reads
# every contact to find the few. Rows of sqlite_stat1, which an application may write (https://www.sqlite.org/fileformat2.html#stat1tab):
# index (the table's own name stands for its key), number of rows, rows for each scope, rows for each scope and address.
STATISTICS = (
    ("dotdigital_contacts", "1000000 1000000 1"),
    ("dotdigital_contacts_pending", "10000 10000 1"),
    ("dotdigital_contacts_unaccepted", "10000 10000 1"),
)


class Ledger:
    """The ledger's database.

    Args:
        engine: the database.
        path: file of a SQLite database; None for PostgreSQL.
    """

    def __init__(self, engine: sa.Engine, path: Path | None) -> None:
        """Store the database."""
        self.engine = engine
        self._path = path

    @contextmanager
    def locked(self, account_id: int) -> Iterator[None]:
        """Lock the ledger for one account; the lock is released even if the process dies.

        Raises:
            LedgerError: another run holds the lock.
        """
        msg = (
            "Another run is working on this account: two at once would overwrite each other. Nothing was done. Wait until it has "
            "ended; if none is running, look for a process that hangs."
        )
        if self._path is not None:
            lock = FileLock(f"{self._path}.{account_id}.lock", timeout=0, mode=0o600)
            try:
                lock.acquire()
            except Timeout:
                raise LedgerError(msg) from None
            try:
                yield
            finally:
                lock.release()
            return
        with self.engine.connect() as connection:
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(0x646F7464, account_id))):
                raise LedgerError(msg)
            connection.commit()
            yield

    def shred(self) -> None:
        """Overwrite deleted data, which would otherwise remain in the free pages of a SQLite file."""
        if self._path is not None:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text("VACUUM"))
                connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))

    def close(self) -> None:
        """Close all connections to the database."""
        self.engine.dispose()


def open_ledger(url: str) -> Ledger:
    """Open a ledger, creating it if it is missing.

    Args:
        url: SQLAlchemy URL.

    Raises:
        LedgerError: the database cannot be opened, or has the layout of another version.
    """
    try:
        parsed = sa.make_url(url)
        path = _private_file(parsed) if parsed.get_backend_name() == "sqlite" else None
        engine = sa.create_engine(parsed, hide_parameters=True)
    except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
        raise ledger_error(error) from None
    if path is not None:
        sa.event.listen(engine, "connect", _configure_sqlite)
    with _disposed_on_failure(engine):
        METADATA.create_all(engine)
        _check_layout(engine)
        if path is not None:
            _state_statistics(engine)
    return Ledger(engine, path)


def open_for_reading(url: str) -> Ledger:
    """Open an existing ledger for queries alone: it is not locked, so that a run may be working on it, and not changed.

    Args:
        url: SQLAlchemy URL.

    Raises:
        LedgerError: there is no ledger yet, it cannot be opened, or it has the layout of another version.
    """
    try:
        parsed = sa.make_url(url)
        path = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        # SQLite would create the file
        _require_ledger(there=path is None or path.is_file())
        engine = sa.create_engine(parsed, hide_parameters=True)
    except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
        raise ledger_error(error) from None
    if path is not None:
        sa.event.listen(engine, "connect", _forbid_writes)
    else:
        engine = engine.execution_options(postgresql_readonly=True)
    with _disposed_on_failure(engine):
        _require_ledger(there=sa.inspect(engine).has_table(next(iter(METADATA.tables))))
        _check_layout(engine)
    return Ledger(engine, path)


def ledger_error(error: Exception) -> LedgerError:
    """Return the error for an unavailable ledger."""
    msg = (
        f"The ledger cannot be used ({type(error).__name__}): without it the target cannot tell what dotdigital has confirmed, so "
        "nothing more was done. Check ledger_url, the folder's rights and the free space; a damaged ledger can be moved "
        "away: a run with --full-refresh creates a new one."
    )
    return LedgerError(msg)


@contextmanager
def _disposed_on_failure(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise ledger_error(error) from None
    except LedgerError:
        engine.dispose()
        raise


def _require_ledger(*, there: bool) -> None:
    if not there:
        msg = (
            "There is no ledger yet where ledger_url points to, so there is nothing to show. Check ledger_url; the first run that is "
            "allowed to write creates the ledger."
        )
        raise LedgerError(msg)


def _check_layout(engine: sa.Engine) -> None:
    """Check that the ledger's tables have exactly the columns of this version.

    Raises:
        LedgerError: a table has a missing or an unknown column.
    """
    inspector = sa.inspect(engine)
    if any({one["name"] for one in inspector.get_columns(table.name)} != set(table.c.keys()) for table in METADATA.sorted_tables):
        msg = (
            "The ledger was made by another version of this target, and nothing was done. Move it away (ledger_url) and run once "
            "with --full-refresh: a new one is made, what dotdigital holds is read back, and only what differs is sent. The upgrade "
            "notes in the documentation say more."
        )
        raise LedgerError(msg)


def _private_file(url: sa.URL) -> Path:
    if not url.database or url.database == ":memory:":
        msg = "ledger_url names no file: the ledger has to outlast the run. Name one, such as sqlite:///ledger.db."
        raise LedgerError(msg)
    path = Path(url.database)
    make_private_folder(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    return path


def _state_statistics(engine: sa.Engine) -> None:
    """Tell SQLite's planner what it cannot know; it is written once, because another run may be writing."""
    with engine.begin() as connection:
        if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = 'sqlite_stat1'").scalar():
            return
        # creates the table of the statistics, without a row for an empty table
        connection.exec_driver_sql("ANALYZE dotdigital_contacts")
        connection.exec_driver_sql("INSERT INTO sqlite_stat1 VALUES ('dotdigital_contacts', ?, ?)", list(STATISTICS))
    # a connection reads the statistics when it is opened
    engine.dispose()


def _forbid_writes(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # readers never wait for the writer, and a commit survives a crash of the process
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA cache_size = -16384")
    # in pages; a run rewrites the same pages many times, so checkpoints are rare
    cursor.execute("PRAGMA wal_autocheckpoint = 10000")
    cursor.close()
