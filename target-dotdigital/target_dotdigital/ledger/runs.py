"""The ledger's record of runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from target_dotdigital.ledger.tables import deliveries, imports, runs
from target_dotdigital.records import Verdict


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
        restored_run: run whose changes this one put back; None for any other run.
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
    """A run as the ledger remembers it; times are ISO 8601 in UTC.

    Args:
        run: number of the run.
        started_at: its start.
        finished_at: its end; None if it was killed or has not ended.
        outcome: how it ended; None likewise.
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
        restorable: whether to return only runs that delivered something that can be put back.
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
    """Return a run by its number; None if the ledger does not know it."""
    row = connection.execute(_RUNS.where(runs.c.id == run)).one_or_none()
    return None if row is None else _to_record(row)


def latest_run(connection: sa.Connection, scope: int) -> int | None:
    """Return the number of a scope's last run; None if there is none."""
    found: int | None = connection.scalar(sa.select(sa.func.max(runs.c.id)).where(runs.c.scope == scope))
    return found


def count_runs(connection: sa.Connection) -> dict[int, int]:
    """Count the runs of each scope."""
    query = sa.select(runs.c.scope, sa.func.count()).group_by(runs.c.scope)
    return {scope: count for scope, count in connection.execute(query)}


_RUNS = sa.select(runs.c.id, runs.c.started_at, runs.c.finished_at, runs.c.outcome, runs.c.figures)


def _to_record(row: sa.Row[Any]) -> RunRecord:
    figures = None if row.figures is None else msgspec.json.decode(row.figures, type=RunFigures)
    return RunRecord(row.id, row.started_at, row.finished_at, row.outcome, figures)
