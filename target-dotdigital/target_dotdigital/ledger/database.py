"""The ledger's database (SQLite or PostgreSQL), its layout, and the lock that allows one run per account at a time."""

from __future__ import annotations

import errno
import logging
import os
import re
import sqlite3
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from filelock import FileLock, Timeout

from target_dotdigital.errors import AnotherRunError, LedgerError
from target_dotdigital.ledger.migrations import migrate
from target_dotdigital.ledger.schema import FIRST_LAYOUT, LAYOUT, METADATA, layouts, scopes
from target_dotdigital.text import make_private_folder, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


LOGGER = logging.getLogger("target-dotdigital")

# Statistics that SQLite's planner cannot derive: nearly all contacts are of one scope, and few are in the partial indexes. Without them it
# reads every contact to find the few. Rows of sqlite_stat1, which an application may write (https://www.sqlite.org/fileformat2.html#stat1tab):
# index (the table's own name stands for its key), number of rows, rows for each scope, rows for each scope and address.
STATISTICS = (
    ("dotdigital_contacts", "1000000 1000000 1"),
    ("dotdigital_contacts_pending", "10000 10000 1"),
    ("dotdigital_contacts_unaccepted", "10000 10000 1"),
)


SQLITE_URL = re.compile(
    r"(?P<driver>sqlite(?:\+pysqlite)?):///(?P<path>.+?)(?:\?(?P<query>[a-z_]+=[^/?&]*(?:&[a-z_]+=[^/?&]*)*))?", re.DOTALL
)
BACKEND = sa.select(sa.func.pg_backend_pid())
HOLDS_LOCK = """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid::bigint = :high AND objid::bigint = :low
    )
"""
# since PostgreSQL 14, a server may end sessions that are idle
NEVER_IDLE = """
    SELECT set_config('idle_session_timeout', '0', false) WHERE current_setting('server_version_num')::integer >= 140000
"""
FULL = "the disk is full, or its quota is used up. Free some space"
RIGHTS = "permission is missing. Check its owner and rights"
READ_ONLY = "it is read-only. Check its owner and rights, and the file system"
FILE_CAUSES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM), RIGHTS),
    errno.EROFS: READ_ONLY,
}
DAMAGED = "it is damaged, or not a SQLite database. Restore a backup, or move it away: a run with --full-refresh creates a new one"
LOCKED = "another program holds it locked. Close that program, or wait until it has ended, and run again"
# https://www.sqlite.org/rescode.html: all others mean that a statement of this target is wrong
SQLITE_CAUSES = {
    **dict.fromkeys((sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH), RIGHTS),
    **dict.fromkeys((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL), LOCKED),
    sqlite3.SQLITE_NOMEM: "memory ran out. Run again with more of it",
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_IOERR: "it cannot be read or written. Check the disk, its free space and limits on the size of files (ulimit -f)",
    **dict.fromkeys((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB), DAMAGED),
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_CANTOPEN: "it, or a file beside it, cannot be opened. Check ledger_url, and the rights of the folder",
}
UNREACHABLE = "the server cannot be reached, or has ended the connection. Check ledger_url, the server and the network"
REJECTED = "the server rejected the login: user, password or database are wrong, or it takes no more connections. Check ledger_url"
# https://www.postgresql.org/docs/current/errcodes-appendix.html: a code, or the class that begins it
POSTGRES_CAUSES = {
    "08": UNREACHABLE,
    **dict.fromkeys(("28", "3D"), REJECTED),
    "3F": "the database has no such schema. Create it, or check ledger_url",
    "25006": "the server is read-only, such as a replica. Let ledger_url name the primary server",
    "25P03": "the server ended a transaction that was idle (idle_in_transaction_session_timeout). Raise that limit",
    "40": "another program changed the same rows. Run again",
    "42501": "the user lacks a right. Grant it on the tables of the ledger and, for the first run, CREATE on the schema",
    "53": "the server lacks memory or connections. Run again later",
    "53100": "the server's disk is full. Free some space",
    "55": LOCKED,
    "57": "the server is stopping or starting, or ended the session or the statement. Run again; check its time-outs if it recurs",
    "58": "the server reports an error of its own system. Ask its administrator",
    "XX001": "its data is damaged. Ask its administrator",
    "XX002": "an index is damaged. Ask its administrator",
}
# how long a run waits for a lock of another program; `?timeout=` in ledger_url overrides it for SQLite
BUSY_SECONDS = 30.0
# SQLite's number for this kind of auto_vacuum: https://www.sqlite.org/pragma.html#pragma_auto_vacuum
AUTO_VACUUM_INCREMENTAL = 2
# pages of 4 kB that are given back in one transaction
PAGES_PER_PIECE = 2_000
# of the lock in PostgreSQL that lets one process at a time change tables
LAYOUT_KEY = int.from_bytes(blake2b(b"target-dotdigital layout", digest_size=8).digest(), signed=True)


class Ledger:
    """The ledger's database.

    Args:
        engine: the database.
        path: file of a SQLite database; None for PostgreSQL.
    """

    def __init__(self, engine: sa.Engine, path: Path | None) -> None:
        self.engine = engine
        self._path = path
        self._locks: list[Callable[[], None]] = []

    @contextmanager
    def locked(self, account_id: int) -> Iterator[None]:
        """Lock the ledger for one account, and upgrade it if an earlier version made it; the lock is released even if the process dies.

        Raises:
            AnotherRunError: another run holds the lock.
            LedgerError: the database cannot hold a lock, or cannot be upgraded.
        """
        with self._lock(account_id) as require:
            self._locks.append(require)
            try:
                self._upgrade(account_id)
                yield
            finally:
                self._locks.remove(require)

    def _lock(self, account_id: int) -> AbstractContextManager[Callable[[], None]]:
        return self._file_lock(account_id) if self._path is not None else self._advisory_lock(account_id)

    def _upgrade(self, account_id: int) -> None:
        """Upgrade the tables to the current layout, after a copy of a SQLite file, while no run of any account uses the ledger."""
        with self.engine.connect() as connection:
            before = layout_of(connection)
            others = set(connection.scalars(sa.select(scopes.c.account_id))) - {account_id} if before != LAYOUT else set()
        if before == LAYOUT:
            return
        started = time.monotonic()
        with ExitStack() as stack:
            for other in sorted(others):
                try:
                    stack.enter_context(self._lock(other))
                except AnotherRunError:
                    raise _upgrade_waits(other) from None
            copy = None if self._path is None else self._copy_file()
            with one_transaction(self.engine) as connection:
                if self._path is None:
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS:.0f}s'")
                migrate(connection)
                require_layout(connection)
            if copy is not None:
                for older in self._copies():
                    if older != copy:
                        older.unlink()
        kept = "" if copy is None else f"; the ledger from before is {copy}"
        LOGGER.info("Ledger upgraded from layout %d to %d in %.1f s%s", before, LAYOUT, time.monotonic() - started, kept)

    def _copy_file(self) -> Path:
        """Copy the SQLite file, let it give back the space of deleted rows from now on, and return the copy.

        Raises:
            LedgerError: the disk is full, or the copy cannot be written.
        """
        path = Path(str(self._path))
        copy = path.with_name(f"{path.name}.before-{LAYOUT}")
        part = copy.with_name(f"{copy.name}.part")
        try:
            part.unlink(missing_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            with self.engine.connect() as connection, closing(sqlite3.connect(part)) as target:
                source: Any = connection.connection.driver_connection
                source.backup(target)
                # one file, which needs no log beside it
                target.execute("PRAGMA journal_mode = DELETE")
            part.replace(copy)
        except (OSError, sqlite3.Error) as error:
            part.unlink(missing_ok=True)
            raise _unusable(part, cause_of(error) or "it cannot be written. Check the disk") from None
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() != AUTO_VACUUM_INCREMENTAL:
                connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")
                connection.exec_driver_sql("VACUUM")
        return copy

    def _copies(self) -> list[Path]:
        """Return the copies that upgrades have made."""
        if self._path is None:
            return []
        # a file with another ending is a backup that somebody made
        named = re.compile(re.escape(f"{self._path.name}.before-") + r"\d{1,4}")
        return sorted(path for path in self._path.parent.iterdir() if named.fullmatch(path.name) and path.is_file())

    def require_lock(self) -> None:
        """Check that every lock that was acquired is still held. Costs one query, or one stat of the file.

        Raises:
            LedgerError: a lock is lost.
        """
        for require in self._locks:
            require()

    @contextmanager
    def _file_lock(self, account_id: int) -> Iterator[Callable[[], None]]:
        path = Path(f"{self._path}.{account_id}.lock")
        lock = FileLock(path, timeout=0, mode=0o600)
        try:
            lock.acquire()
            held = path.stat()
        except Timeout:
            raise _another_run() from None
        except OSError as error:
            raise _unusable(path, str(cause_of(error))) from None

        def require() -> None:
            # a deleted file is locked for this process alone: the next run would create and lock another one
            if not path.exists() or not os.path.samestat(path.stat(), held):
                raise _lost_lock(path)

        try:
            yield require
        finally:
            lock.release()

    @contextmanager
    def _advisory_lock(self, account_id: int) -> Iterator[Callable[[], None]]:
        key = int.from_bytes(blake2b(f"target-dotdigital {account_id}".encode(), digest_size=8).digest(), signed=True)
        # without transactions: a lock is held for hours, and a server may end a transaction that is idle
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(NEVER_IDLE))
            held = sa.text(HOLDS_LOCK).bindparams(high=key >> 32 & 0xFFFFFFFF, low=key & 0xFFFFFFFF)
            backend = connection.scalar(BACKEND)
            # the lock of a session that has it already was left behind by another client of a pooler
            pooled = bool(connection.scalar(held)) or self._is_pooled(connection)
            if not pooled and not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))):
                raise _another_run()
            if pooled or connection.scalar(BACKEND) != backend or not connection.scalar(held):
                msg = (
                    "The ledger's PostgreSQL is reached through a pooler that shares sessions (PgBouncer in transaction mode), so a run "
                    "cannot be locked against others, and nothing was done. Let ledger_url name the server itself, or a pool in session "
                    "mode."
                )
                raise LedgerError(msg)

            def require() -> None:
                try:
                    is_held = connection.scalar(held)
                except (LedgerError, sa.exc.SQLAlchemyError):
                    is_held = False
                if not is_held:
                    raise _lost_lock(None)

            try:
                yield require
            finally:
                with suppress(LedgerError, sa.exc.SQLAlchemyError):
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))

    def _is_pooled(self, connection: sa.Connection) -> bool:
        """Return whether two transactions of a connection reach two sessions of the server."""
        session = connection.scalar(BACKEND)
        driver: Any = connection.connection.driver_connection
        if driver.info.backend_pid == session:
            return False
        # a pooler: occupy the session that it would use again
        with self.engine.connect() as other:
            other.scalar(BACKEND)
            return bool(connection.scalar(BACKEND) != session)

    def shred(self) -> None:
        """Overwrite deleted data, which would otherwise remain in the free pages of a SQLite file and in copies of it."""
        for copy in self._copies():
            copy.unlink()
        if self._path is not None:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text("VACUUM"))
                connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))

    def give_back_space(self) -> None:
        """Shrink a SQLite file from which much was deleted, piece by piece; a tenth of it stays free, because the next run needs it.

        Raises:
            LedgerError: the file cannot be written.
        """
        if self._path is None:
            return
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            pages, free = (connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0 for name in ("page_count", "freelist_count"))
            driver: Any = connection.connection.driver_connection
            surplus = free - pages // 10
            try:
                while surplus > 0:
                    # SQLite gives back a page with each step, of which execute() makes only the first
                    driver.executescript(f"PRAGMA incremental_vacuum({min(surplus, PAGES_PER_PIECE)})")
                    surplus -= PAGES_PER_PIECE
            except sqlite3.Error as error:
                raise _unusable(self._path, cause_of(error) or type(error).__name__) from None

    def close(self) -> None:
        """Close all connections to the database."""
        self.engine.dispose()


def open_ledger(url: str) -> Ledger:
    """Open a ledger, creating it if it is missing. A ledger of an earlier version is upgraded when it is locked.

    Args:
        url: SQLAlchemy URL.

    Raises:
        LedgerError: the database cannot be opened, or a newer version made it.
    """
    parsed = _parse(url)
    path = _private_file(parsed) if parsed.get_backend_name() == "sqlite" else None
    engine = _create_engine(parsed, path)
    if path is not None:
        sa.event.listen(engine, "connect", _configure_sqlite)
    with _disposed_on_failure(engine):
        with engine.connect() as connection:
            layout = layout_of(connection)
        if layout is None:
            with one_transaction(engine) as connection:
                # another run may have created it meanwhile
                if layout_of(connection) is None:
                    METADATA.create_all(connection)
                    connection.execute(sa.insert(layouts).values(version_num=str(LAYOUT)))
        elif layout == LAYOUT:
            with engine.connect() as connection:
                require_layout(connection)
        if path is not None:
            _state_statistics(engine)
    return Ledger(engine, path)


def open_for_reading(url: str) -> Ledger:
    """Open an existing ledger for queries alone: it is not locked, so that a run may be working on it, and not changed.

    Args:
        url: SQLAlchemy URL.

    Raises:
        LedgerError: there is no ledger yet, it cannot be opened, or it was made by another version.
    """
    parsed = _parse(url)
    path = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
    # SQLite would create the file
    _require_ledger(there=path is None or path.is_file())
    engine = _create_engine(parsed, path)
    if path is not None:
        sa.event.listen(engine, "connect", _forbid_writes)
    else:
        engine = engine.execution_options(postgresql_readonly=True)
    with _disposed_on_failure(engine), engine.connect() as connection:
        layout = layout_of(connection)
        _require_ledger(there=layout is not None)
        if layout != LAYOUT:
            msg = (
                f"The ledger was made by an earlier version of this target (layout {layout}), and a command that only reads does not "
                f"upgrade it. Nothing was done. The next run upgrades it to layout {LAYOUT}; after that, the command shows it."
            )
            raise LedgerError(msg)
        require_layout(connection)
    return Ledger(engine, path)


def _parse(url: str) -> sa.URL:
    """Return a ledger URL in its parts.

    Raises:
        LedgerError: this target cannot use such a database.
    """
    # SQLAlchemy would cut a path at its first question mark
    if found := SQLITE_URL.fullmatch(url):
        query = dict(parameter.split("=", 1) for parameter in (found["query"] or "").split("&") if parameter)
        return sa.URL.create(found["driver"], database=found["path"], query=query)
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        parsed = None
    if parsed is not None and parsed.get_backend_name() == "sqlite":
        return parsed
    if not url.startswith("postgresql"):
        what = (
            "is neither a SQLite file (sqlite:///path) nor a PostgreSQL database (postgresql+psycopg://user:password@host/database)"
        )
    elif parsed is None or "@" in (parsed.host or ""):
        what = "cannot be read. In user and password, write @ as %40, : as %3A, / as %2F and % as %25; a port is a number"
    else:
        return parsed
    msg = f"The ledger cannot be used: ledger_url {what}. Nothing was done."
    raise LedgerError(msg)


def _create_engine(url: sa.URL, path: Path | None) -> sa.Engine:
    """Return an engine whose errors state their cause.

    Raises:
        LedgerError: the driver is missing.
    """
    options: dict[str, Any] = {"pool_pre_ping": True}
    if path is not None:
        options = {} if "timeout" in url.query else {"connect_args": {"timeout": BUSY_SECONDS}}
    try:
        engine = sa.create_engine(url, hide_parameters=True, **options)
    except (ImportError, sa.exc.ArgumentError):
        msg = (
            "The ledger cannot be used: the database driver that ledger_url names is not installed. Nothing was done. Write "
            "postgresql+psycopg://, and install target-dotdigital[postgres]."
        )
        raise LedgerError(msg) from None

    def name_cause(context: sa.engine.ExceptionContext) -> None:
        # a connection of the pool that has ended is replaced
        if not context.is_pre_ping and (cause := cause_of(context.original_exception)) is not None:
            raise _unusable(path, cause) from None

    sa.event.listen(engine, "handle_error", name_cause)
    return engine


def cause_of(error: BaseException) -> str | None:
    """Return why the database cannot be used, and what to do; None if a statement of this target is wrong.

    Args:
        error: the driver's exception, or one of the file system.
    """
    if isinstance(error, OSError):
        return FILE_CAUSES.get(error.errno or 0, f"it cannot be opened ({type(error).__name__}). Check ledger_url")
    if isinstance(error, sqlite3.Error):
        # the lower eight bits are the kind of error
        return SQLITE_CAUSES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    state = getattr(error, "sqlstate", None) or ""
    if not state and type(error).__name__ == "OperationalError":
        # libpq returns no code while it connects; the server's message then begins with the severity
        return REJECTED if "FATAL" in str(error) else UNREACHABLE
    codes = (state, state[:2])
    return next((POSTGRES_CAUSES[code] for code in codes if code in POSTGRES_CAUSES), None)


def _unusable(path: Path | None, cause: str) -> LedgerError:
    place = "PostgreSQL" if path is None else f"the file {path}"
    msg = f"The ledger cannot be used: {place}: {cause}. Nothing more was done, and the bookmark stays."
    return LedgerError(msg)


def _another_run() -> AnotherRunError:
    msg = (
        "Another run is working on this account: two at once would overwrite each other. Nothing was done. Wait until it has "
        "ended; if none is running, look for a process that hangs."
    )
    return AnotherRunError(msg)


def _upgrade_waits(account_id: int) -> AnotherRunError:
    msg = f"The ledger has to be upgraded, but a run of account {account_id} is using it. Nothing was done. Run again when it has ended."
    return AnotherRunError(msg)


def _lost_lock(path: Path | None) -> LedgerError:
    """Return the error for a lost lock: of a lock file, or of a connection to PostgreSQL."""
    what = "the connection to PostgreSQL has ended" if path is None else f"{path} was removed"
    suspect = "time-outs and failovers of the server or a proxy" if path is None else "a program that cleans up that folder"
    msg = (
        f"The lock on the ledger is lost ({what}), so another run may have started: nothing more was sent, and the bookmark stays. Run "
        f"again; if it happens again, look for {suspect}."
    )
    return LedgerError(msg)


@contextmanager
def _disposed_on_failure(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except (sa.exc.SQLAlchemyError, LedgerError):
        engine.dispose()
        raise


def _require_ledger(*, there: bool) -> None:
    if not there:
        msg = (
            "There is no ledger yet where ledger_url points to, so there is nothing to show. Check ledger_url; the first run that is "
            "allowed to write creates the ledger."
        )
        raise LedgerError(msg)


def layout_of(connection: sa.Connection) -> int | None:
    """Return the layout of the ledger's tables; None if there are none yet.

    Raises:
        LedgerError: a newer version made them, or the number cannot be read.
    """
    names = set(sa.inspect(connection).get_table_names())
    if layouts.name not in names:
        if names >= set(METADATA.tables) - {layouts.name}:
            return FIRST_LAYOUT
        if missing := sorted(set(METADATA.tables) - {layouts.name} - names) if names & set(METADATA.tables) else []:
            msg = (
                f"The ledger cannot be used: its table {missing[0]!r} is missing, so it was half upgraded, or another program has changed "
                "its tables. Nothing was done. Restore the ledger from a backup, or move it away and run once with --full-refresh."
            )
            raise LedgerError(msg)
        if names and connection.dialect.name == "sqlite":
            msg = (
                f"The ledger cannot be used: the file of ledger_url belongs to another program, whose table {shown(min(names))!r} is "
                "in it. Nothing was done. Let ledger_url name a file of its own."
            )
            raise LedgerError(msg)
        return None
    found = list(connection.scalars(sa.select(layouts.c.version_num)))
    layout = int(found[0]) if len(found) == 1 and found[0].isdecimal() else 0
    if layout > LAYOUT:
        msg = (
            f"The ledger was made by a newer version of this target (layout {layout}; this version reads up to {LAYOUT}), and nothing was "
            "done. Install that version again, or restore the copy of the ledger from before its upgrade."
        )
        raise LedgerError(msg)
    if layout <= FIRST_LAYOUT:
        raise _half_upgraded()
    return layout


def require_layout(connection: sa.Connection) -> None:
    """Check that the ledger's tables have exactly the columns of the current layout.

    Raises:
        LedgerError: a table is missing, or has a missing or an unknown column.
    """
    inspector = sa.inspect(connection)
    names = set(inspector.get_table_names())
    for table in METADATA.sorted_tables:
        if table.name not in names or {column["name"] for column in inspector.get_columns(table.name)} != set(table.c.keys()):
            raise _half_upgraded()


def _half_upgraded() -> LedgerError:
    msg = (
        f"The ledger is half upgraded, or another program has changed its tables: they are not those of layout {LAYOUT}. Nothing was done. "
        "Restore the copy from before the upgrade, or a backup. Without one, move the ledger away (ledger_url) and run once with "
        "--full-refresh: a new one is made, what dotdigital holds is read back, and only what differs is sent."
    )
    return LedgerError(msg)


@contextmanager
def one_transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Change tables in one transaction, while no other process does: it is applied as a whole, or not at all."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{int(BUSY_SECONDS)}s'"))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LAYOUT_KEY)))
            yield connection
            connection.commit()
            return
        driver: Any = connection.connection.driver_connection
        # by default, the driver begins transactions itself, and only for statements that change rows
        driver.isolation_level = None
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()
        finally:
            connection.rollback()
            driver.isolation_level = ""


def _private_file(url: sa.URL) -> Path:
    if not url.database or url.database == ":memory:":
        msg = "ledger_url names no file: the ledger has to outlast the run. Name one, such as sqlite:///ledger.db."
        raise LedgerError(msg)
    path = Path(url.database)
    try:
        make_private_folder(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        if path.stat().st_uid == os.geteuid():
            path.chmod(0o600)
    except OSError as error:
        raise _unusable(path, str(cause_of(error))) from None
    return path


def _state_statistics(engine: sa.Engine) -> None:
    """Write the statistics that SQLite's planner cannot derive, only once, because another run may be writing."""
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
    # Free pages can be given back piece by piece. Only in a new file: in another one, the statement would wait for the run that is writing.
    if not cursor.execute("PRAGMA page_count").fetchone()[0]:
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # readers never wait for the writer, and a commit survives a crash of the process
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA cache_size = -16384")
    # in pages; a run rewrites the same pages many times, so checkpoints are rare
    cursor.execute("PRAGMA wal_autocheckpoint = 10000")
    cursor.close()
