"""The ledger: per contact what is desired and what dotdigital has confirmed, in SQLite or PostgreSQL.

A contact's labels are stored as a JSON object, field -> value, with sorted keys: equal texts are equal labels, `{}` is
"empty", NULL is "not known". The rules for what is pending stand in one place, `_pending`.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.dialects import postgresql, sqlite

from target_dotdigital.errors import LedgerError
from target_dotdigital.tables import METADATA, contacts, scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

EMPTY = "{}"
PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Desired:
    """What the input says of one contact.

    Args:
        email: normalised.
        stream: where it came from.
        names: JSON array of segment names.
        payload: JSON object, field -> value.
        vanished: the source no longer holds it.
    """

    email: str
    stream: str
    names: str
    payload: str
    vanished: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """What dotdigital holds of one contact, read back."""

    email: str
    contact_id: int
    payload: str
    listed: bool


class Ledger:
    """The ledger's database.

    Args:
        url: SQLAlchemy address.

    Raises:
        LedgerError: it cannot be opened.
    """

    def __init__(self, url: str) -> None:
        """Open the database, and make it if it is missing."""
        try:
            parsed = sa.make_url(url)
            self._path = _private_file(parsed) if parsed.get_backend_name() == "sqlite" else None
            self.engine = sa.create_engine(parsed, hide_parameters=True)
            if self._path is not None:
                sa.event.listen(self.engine, "connect", _configure_sqlite)
            METADATA.create_all(self.engine)
        except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
            fail(error)

    @contextmanager
    def locked(self, account_id: int) -> Iterator[None]:
        """Hold the ledger for one account; whoever dies lets go of it.

        Raises:
            LedgerError: another run holds it.
        """
        msg = (
            "Another run is working on this account: two at once would overwrite each other. Nothing was done. Wait until it has "
            "ended; if none runs, look for a process that hangs."
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

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()


class Book:
    """The ledger's part for one account, address book and data field, within one transaction.

    Args:
        connection: the transaction.
        scope: the part's number.
        run: the number of the run.
        uploads: whether contacts are put into an address book; if not, none ever waits to be.
    """

    def __init__(self, connection: sa.Connection, scope: int, run: int, *, uploads: bool) -> None:
        """Work within a transaction."""
        self._uploads = uploads
        self.connection = connection
        self.scope = scope
        self.run = run
        self._mine = contacts.c.scope == scope

    def desire(self, rows: Sequence[Desired]) -> None:
        """Store what the input says; of several rows for one address the last wins."""
        insert = postgresql.insert(contacts) if self.connection.dialect.name == "postgresql" else sqlite.insert(contacts)
        new = insert.excluded
        statement = insert.values(
            scope=self.scope, run=self.run, listed=not self._uploads, in_doubt=False, pending=True
        ).on_conflict_do_update(
            index_elements=["scope", "email"],
            set_={
                "stream": new.stream,
                "names": new.names,
                "desired": new.desired,
                "vanished": new.vanished,
                "run": new.run,
                "pending": _pending(new.desired, new.vanished),
            },
        )
        last = {row.email: row for row in rows}
        self.connection.execute(
            statement,
            [
                {"email": r.email, "stream": r.stream, "names": r.names, "desired": r.payload, "vanished": r.vanished}
                for r in last.values()
            ],
        )

    def vanish_unseen(self, stream: str) -> int:
        """Treat the contacts of a stream that this run did not name as vanished; give how many."""
        statement = (
            sa.update(contacts)
            .where(self._mine, contacts.c.stream == stream, contacts.c.run != self.run, ~contacts.c.vanished)
            .values(vanished=True, names="[]", desired=EMPTY, run=self.run, pending=_pending(sa.literal(EMPTY), sa.true()))
        )
        return self.connection.execute(statement).rowcount

    def observe(self, rows: Sequence[Observed]) -> None:
        """Store what dotdigital holds of contacts that the ledger knows; others are passed over."""
        if not rows:
            return
        statement = (
            sa.update(contacts)
            .where(self._mine, contacts.c.email == sa.bindparam("e"))
            .values(
                contact_id=sa.bindparam("i"),
                confirmed=sa.bindparam("p"),
                listed=sa.bindparam("l"),
                in_doubt=False,
            )
        )
        self.connection.execute(
            statement,
            [{"e": row.email, "i": row.contact_id, "p": row.payload, "l": row.listed or not self._uploads} for row in rows],
        )

    def weigh(self) -> None:
        """Decide anew what is pending, after what is confirmed was changed."""
        self.connection.execute(
            sa.update(contacts).where(self._mine).values(pending=_pending(contacts.c.desired, contacts.c.vanished))
        )

    def settle_unknown(self, *, vanished_only: bool) -> int:
        """Take contacts that dotdigital does not hold off what is pending: there is nothing to clear, or to create."""
        conditions = [self._mine, contacts.c.pending, contacts.c.contact_id.is_(None)]
        if vanished_only:
            conditions.append(contacts.c.vanished)
        return self.connection.execute(sa.update(contacts).where(*conditions).values(pending=False)).rowcount

    def pending(self, most: int, after: str = "") -> list[sa.Row[Any]]:
        """Give the next contacts to deliver, in order of their addresses."""
        query = (
            sa.select(
                contacts.c.email,
                contacts.c.desired,
                contacts.c.confirmed,
                contacts.c.contact_id,
                contacts.c.listed,
                contacts.c.vanished,
            )
            .where(self._mine, contacts.c.pending, contacts.c.email > after)
            .order_by(contacts.c.email)
            .limit(most)
        )
        return list(self.connection.execute(query))

    def emails(self, *conditions: sa.ColumnElement[bool]) -> list[str]:
        """Give the addresses of the contacts for which all conditions hold."""
        return list(self.connection.scalars(sa.select(contacts.c.email).where(self._mine, *conditions)))

    def fields_used(self, names: Sequence[str]) -> tuple[str, ...]:
        """Give those of the data fields that some contact's desired labels fill."""
        return tuple(name for name in names if self.count(contacts.c.desired.contains(f'"{name}":', autoescape=True)))

    def count(self, *conditions: sa.ColumnElement[bool]) -> int:
        """Count the contacts for which all conditions hold."""
        query = sa.select(sa.func.count()).select_from(contacts).where(self._mine, *conditions)
        return self.connection.scalar(query) or 0

    def relabel(self, payload_of: Callable[[str], str]) -> None:
        """Make every desired value anew; `payload_of` gives the payload for a JSON array of names."""
        after = ""
        page = sa.select(contacts.c.email, contacts.c.names).order_by(contacts.c.email).limit(PAGE)
        known = self._mine & ~contacts.c.vanished & contacts.c.names.is_not(None)
        statement = (
            sa.update(contacts)
            .where(self._mine, contacts.c.email == sa.bindparam("e"))
            .values(desired=sa.bindparam("p"), pending=_pending(sa.bindparam("p"), contacts.c.vanished))
        )
        while rows := self.connection.execute(page.where(known, contacts.c.email > after)).all():
            self.connection.execute(statement, [{"e": email, "p": payload_of(names)} for email, names in rows])
            after = rows[-1].email

    def all_names(self) -> dict[str, int]:
        """Give each combination of names that occurs, as stored, and how many contacts have it."""
        query = (
            sa.select(contacts.c.names, sa.func.count())
            .where(self._mine, ~contacts.c.vanished, contacts.c.names.is_not(None))
            .group_by(contacts.c.names)
        )
        return {names: count for names, count in self.connection.execute(query)}

    def describe(self, **values: Any) -> None:
        """Store facts about this part of the ledger."""
        self.connection.execute(sa.update(scopes).where(scopes.c.id == self.scope).values(**values))


def _pending(desired: sa.ColumnElement[str], vanished: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """What has to be sent: whatever is not confirmed just so, but nothing that was refused for good just so."""
    there = contacts.c.confirmed.is_not_distinct_from(desired) & ~contacts.c.in_doubt & (contacts.c.listed | vanished)
    return ~(there | contacts.c.refused.is_not_distinct_from(desired))


def open_scope(connection: sa.Connection, key: str, account_id: int) -> sa.Row[Any]:
    """Find the ledger's part for an account, address book and data field; make it if it is missing."""
    query = sa.select(scopes).where(scopes.c.key == key)
    found = connection.execute(query).one_or_none()
    if found is None:
        connection.execute(sa.insert(scopes).values(key=key, account_id=account_id))
        found = connection.execute(query).one()
    return found


def fail(error: Exception) -> NoReturn:
    """Say that the ledger cannot be used.

    Raises:
        LedgerError: always.
    """
    msg = (
        f"The ledger cannot be used ({type(error).__name__}): without it the target cannot tell what dotdigital has confirmed, so "
        "nothing more was done. Check ledger_url, the folder's rights and the free space; a ledger that is damaged or lost can be "
        "moved away, and is made anew."
    )
    raise LedgerError(msg) from None


def _private_file(url: sa.URL) -> Path:
    if not url.database or url.database == ":memory:":
        msg = "ledger_url names no file: the ledger has to outlast the run. Name one, such as sqlite:///ledger.db."
        raise LedgerError(msg)
    path = Path(url.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    return path


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # readers never wait for the writer, and a commit survives a crash of the process
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA cache_size = -65536")
    cursor.close()
