"""The ledger's record of runs."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from target_dotdigital.ledger.tables import runs


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


def end_run(connection: sa.Connection, run: int, outcome: str, segments: dict[str, int] | None = None) -> None:
    """Record the outcome of a run and, if it delivered, the contacts per segment."""
    text = None if segments is None else msgspec.json.encode(segments).decode()
    connection.execute(sa.update(runs).where(runs.c.id == run).values(outcome=outcome, segments=text))
