"""Scopes, their runs, and the bookmarks that they have acknowledged.

A scope is an account and a data field. The address book is not part of it: after a change, only membership is delivered again.

The tap stores what it has emitted, the ledger what was delivered. An incremental input contains only the changes since a bookmark, so
it can be applied only if the scope has acknowledged exactly that bookmark.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from target_dotdigital.ledger.schema import bookmarks, deliveries, imports, runs, scopes
from target_dotdigital.models import Verdict

if TYPE_CHECKING:
    import datetime

# keys that SDK taps, and older taps while they run, store in a state in addition to the bookmark
_NOTES = frozenset({"progress_markers", "starting_replication_value", "replication_key_signpost", "currently_syncing"})
# number of runs that Meltano's STATE may lag behind
MAX_BOOKMARKS = 1_000


class Feed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stream that feeds the data field.

    Args:
        version: last version of which an input contained every contact, with its ACTIVATE_VERSION; None if there was none.
        marks: whether its schema has had `_sdc_deleted_at`, which marks removed contacts.
    """

    version: int | None = None
    marks: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """A ledger scope as a run or command finds it.

    Args:
        id: number of the scope.
        labels: label settings of the last run, as JSON; None before the first.
        input_filter: settings of the last run that filter the input, as JSON; None before the first.
        account_contacts: contacts in the account at the last complete reading; None before the first.
        read_at: time up to which every contact that was created in dotdigital has been read back, in seconds since 1970; None before
            the first complete reading.
        address_book_id: address book whose members are in the ledger; None if no run has used one, or the last run used none.
        address_book_offset: contacts in the address book beyond the ledger's members of it, at the last complete reading.
        had_full_input: whether a full input has been received, so that all labels of other contacts are orphaned.
        forgotten: whether an address was forgotten that the source may still have.
        changed_run: last run whose input changed desired labels; 0 before the first.
        streams: streams that have sent STATE before, so that an input of theirs without STATE is incomplete.
        feeds: streams that the data field has been fed by.
        truncated: bookmark (digest) from which the last input started, if that input was truncated; empty if it started from nothing.
    """

    id: int
    labels: str | None
    input_filter: str | None
    account_contacts: int | None
    read_at: float | None
    address_book_id: int | None
    address_book_offset: int | None
    had_full_input: bool
    forgotten: bool
    changed_run: int
    streams: frozenset[str]
    feeds: dict[str, Feed]
    truncated: str | None


@dataclass(frozen=True, slots=True)
class KnownScope:
    """A scope of the ledger.

    Args:
        id: its number.
        account_id: account that it belongs to.
        data_field: data field that holds its labels, in capitals.
        address_book: address book of the last run's settings, as shown to people; None without an address book.
    """

    id: int
    account_id: int
    data_field: str
    address_book: str | None


def open_scope(connection: sa.Connection, account_id: int, data_field: str, address_book: str | None) -> Scope:
    """Return the scope for an account and data field, creating it if it is missing.

    Args:
        connection: the transaction.
        account_id: ID of the account.
        data_field: data field that holds the labels.
        address_book: address book of the settings, as shown to people; None without an address book.
    """
    scope = find_scope(connection, account_id, data_field)
    if scope is None:
        values = {"account_id": account_id, "data_field": data_field.upper(), "address_book": address_book}
        (scope,) = connection.execute(sa.insert(scopes).values(values)).inserted_primary_key or (0,)
    else:
        update_scope(connection, scope, address_book=address_book)
    found = connection.execute(sa.select(*(scopes.c[field.name] for field in fields(Scope))).where(scopes.c.id == scope)).one()
    streams = frozenset(msgspec.json.decode(found.streams or "[]", type=list[str]))
    feeds = msgspec.json.decode(found.feeds or "{}", type=dict[str, Feed])
    return Scope(**{**found._asdict(), "streams": streams, "feeds": feeds})


def find_scope(connection: sa.Connection, account_id: int, data_field: str) -> int | None:
    """Return the number of the scope for an account and data field; None if it is not in the ledger yet."""
    query = sa.select(scopes.c.id).where(scopes.c.account_id == account_id, scopes.c.data_field == data_field.upper())
    found: int | None = connection.scalar(query)
    return found


def update_scope(connection: sa.Connection, scope: int, **values: Any) -> None:
    """Store facts about a scope."""
    connection.execute(sa.update(scopes).where(scopes.c.id == scope).values(**values))


def known_scopes(connection: sa.Connection) -> list[KnownScope]:
    """Return all scopes of the ledger."""
    columns = [scopes.c[field.name] for field in fields(KnownScope)]
    return [KnownScope(*row) for row in connection.execute(sa.select(*columns).order_by(scopes.c.id))]


def accounts(connection: sa.Connection) -> list[int]:
    """Return the IDs of all accounts in the ledger."""
    return list(connection.scalars(sa.select(scopes.c.account_id).distinct()))


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What a run did, in numbers.

    Args:
        read: records read.
        sent: contacts sent, including imports of earlier runs whose outcome this run received.
        created: contacts that dotdigital reported as created.
        updated: contacts that dotdigital reported as updated.
        cleared: updated contacts that lost all labels.
        rejected: contacts that dotdigital rejected.
        unconfirmed: contacts whose result dotdigital did not report.
        bookmarks: stream -> replication value in the STATE with which the input ended.
        restored_run: run whose changes this one restored; None for any other run.
    """

    read: int = 0
    sent: int = 0
    created: int = 0
    updated: int = 0
    cleared: int = 0
    rejected: int = 0
    unconfirmed: int = 0
    bookmarks: dict[str, str | int | float] = field(default_factory=dict)
    restored_run: int | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run in the ledger; times are ISO 8601 in UTC.

    Args:
        run: number of the run.
        started_at: its start.
        finished_at: its end; None if it was killed or has not ended.
        outcome: how it ended; None if it was killed or has not ended.
        figures: what it did; None if it was killed, has not ended, or was no sync.
    """

    run: int
    started_at: str
    finished_at: str | None
    outcome: str | None
    figures: RunFigures | None


def latest_segments(connection: sa.Connection, scope: int) -> dict[str, int]:
    """Return the contacts per segment of the last run that delivered; empty if there is none."""
    query = (
        sa.select(runs.c.segments).where(runs.c.scope == scope, runs.c.segments.is_not(None)).order_by(runs.c.id.desc()).limit(1)
    )
    found: str | None = connection.scalar(query)
    return msgspec.json.decode(found or "{}", type=dict[str, int])


def begin_run(connection: sa.Connection, scope: int, started_at: str) -> int:
    """Start a run and return its number."""
    result: sa.CursorResult[Any] = connection.execute(sa.insert(runs).values(scope=scope, started_at=started_at))
    (key,) = result.inserted_primary_key or (0,)
    return int(key)


def end_run(
    connection: sa.Connection,
    run: int,
    outcome: str,
    segments: dict[str, int] | None = None,
    *,
    finished_at: str | None = None,
    figures: RunFigures | None = None,
) -> None:
    """Record how a run ended.

    Args:
        connection: the transaction.
        run: number of the run.
        outcome: how it ended.
        segments: contacts per segment, if it delivered.
        finished_at: its end (ISO 8601, UTC).
        figures: what a sync did.
    """
    values = {
        "outcome": outcome,
        "segments": None if segments is None else msgspec.json.encode(segments).decode(),
        "finished_at": finished_at,
        "figures": None if figures is None else msgspec.json.encode(figures).decode(),
    }
    connection.execute(sa.update(runs).where(runs.c.id == run).values(values))


def recent_runs(connection: sa.Connection, scope: int, limit: int, *, restorable: bool = False) -> list[RunRecord]:
    """Return the last runs of a scope, newest first.

    Args:
        connection: the transaction.
        scope: number of the ledger scope.
        limit: maximum number of runs.
        restorable: whether to return only runs that delivered something that can be restored.
    """
    query = _RUNS.where(runs.c.scope == scope).order_by(runs.c.id.desc()).limit(limit)
    if restorable:
        delivered = (
            sa.exists()
            .where(imports.c.run == runs.c.id, imports.c.scope == scope)
            .where(deliveries.c["import"] == imports.c.id, deliveries.c.outcome.is_distinct_from(Verdict.REJECTED))
        )
        query = query.where(delivered)
    return [_to_record(row) for row in connection.execute(query)]


def find_run(connection: sa.Connection, run: int | None) -> RunRecord | None:
    """Return a run by its number; None if it is not in the ledger."""
    row = connection.execute(_RUNS.where(runs.c.id == run)).one_or_none()
    return None if row is None else _to_record(row)


def latest_run(connection: sa.Connection, scope: int) -> int | None:
    """Return the number of a scope's last run; None if there is none."""
    found: int | None = connection.scalar(sa.select(sa.func.max(runs.c.id)).where(runs.c.scope == scope))
    return found


def delete_old_runs(connection: sa.Connection, account_id: int, before: str) -> int:
    """Delete the runs of an account that nothing refers to any more, and return their number.

    The last run of all is kept, so that no number is used twice, and the last one of each scope that delivered, whose counts of segments
    the next plan is compared with.

    Args:
        connection: the transaction.
        account_id: the account; its lock is held.
        before: runs that started before this time are deleted (ISO 8601, UTC).
    """
    mine = sa.select(scopes.c.id).where(scopes.c.account_id == account_id)
    latest = sa.select(sa.func.max(runs.c.id)).where(runs.c.segments.is_not(None)).group_by(runs.c.scope)
    sent = sa.exists().where(imports.c.run == runs.c.id)
    received = sa.exists().where(imports.c.result_run == runs.c.id)
    old = runs.c.scope.in_(mine), runs.c.started_at < before, runs.c.id < sa.select(sa.func.max(runs.c.id)).scalar_subquery()
    return connection.execute(sa.delete(runs).where(*old, runs.c.id.not_in(latest), ~sent, ~received)).rowcount


def count_runs(connection: sa.Connection) -> dict[int, int]:
    """Count the runs of each scope."""
    query = sa.select(runs.c.scope, sa.func.count()).group_by(runs.c.scope)
    return {scope: count for scope, count in connection.execute(query)}


_RUNS = sa.select(runs.c.id, runs.c.started_at, runs.c.finished_at, runs.c.outcome, runs.c.figures)


def _to_record(row: sa.Row[Any]) -> RunRecord:
    figures = None if row.figures is None else msgspec.json.decode(row.figures, type=RunFigures)
    return RunRecord(row.id, row.started_at, row.finished_at, row.outcome, figures)


def normal_form(state: object) -> Any:
    """Return a state without progress markers and empty parts; None if it contains no bookmark."""
    if isinstance(state, dict):
        parts = {name: normal_form(value) for name, value in state.items() if name not in _NOTES}
        return {name: value for name, value in parts.items() if value is not None} or None
    if isinstance(state, list):
        return [part for part in map(normal_form, state) if part is not None] or None
    return None if state == "" else state


def digest_of(state: object) -> str | None:
    """Return the digest that identifies a state's bookmark; None if the state contains none."""
    form = normal_form(state)
    if form is None:
        return None
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()


class Bookmarks:
    """The acknowledged bookmarks of one ledger scope, within one transaction.

    Args:
        connection: the transaction.
        scope: number of the scope.
    """

    def __init__(self, connection: sa.Connection, scope: int) -> None:
        self._connection = connection
        self._mine = bookmarks.c.scope == scope
        self._scope = scope

    def run_of(self, digest: str) -> int | None:
        """Return the run that acknowledged a bookmark; None if no run did."""
        found: int | None = self._connection.scalar(sa.select(bookmarks.c.run).where(self._mine, bookmarks.c.digest == digest))
        return found

    def latest(self) -> str | None:
        """Return when the last bookmark was acknowledged (ISO 8601, UTC); None if there is none."""
        found: str | None = self._connection.scalar(sa.select(sa.func.max(bookmarks.c.acknowledged_at)).where(self._mine))
        return found

    def acknowledge(self, digest: str, run: int, now: datetime.datetime) -> None:
        """Record that everything up to a bookmark is in the ledger as of a run, and drop the oldest bookmarks."""
        self._connection.execute(sa.delete(bookmarks).where(self._mine, bookmarks.c.digest == digest))
        values = {"scope": self._scope, "digest": digest, "run": run, "acknowledged_at": now.isoformat()}
        self._connection.execute(sa.insert(bookmarks).values(values))
        kept = sa.select(bookmarks.c.run).where(self._mine).order_by(bookmarks.c.run.desc()).offset(MAX_BOOKMARKS).limit(1)
        oldest: int | None = self._connection.scalar(kept)
        if oldest is not None:
            self._connection.execute(sa.delete(bookmarks).where(self._mine, bookmarks.c.run <= oldest))

    def withdraw(self) -> None:
        """Withdraw every acknowledgement, because the desired labels no longer match what the tap emitted."""
        self._connection.execute(sa.delete(bookmarks).where(self._mine))
