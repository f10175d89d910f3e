"""Labels before and after: what a run would change, and what dotdigital confirmed. Nothing is written here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from target_dotdigital.ledger.contact_queries import to_send
from target_dotdigital.ledger.imports import ImportState
from target_dotdigital.ledger.schema import contacts, deliveries, imports

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS_PER_PAGE = 10_000


def planned_changes(connection: sa.Connection, scope: int, restored: int | None = None) -> Iterator[tuple[str | None, str, int]]:
    """Yield the distinct changes of labels that are pending: payload before, payload after, number of contacts.

    Args:
        connection: the transaction.
        scope: number of the ledger scope.
        restored: number of a restoring run, which sends only the contacts that it restores; None for any other run.
    """
    before, after = contacts.c.confirmed, contacts.c.desired
    query = (
        sa.select(before, after, sa.func.count())
        .where(contacts.c.scope == scope, to_send(restored), before.is_distinct_from(after))
        .group_by(before, after)
    )
    yield from (tuple(row) for row in connection.execute(query.execution_options(yield_per=ROWS_PER_PAGE)))


def delivered_changes(connection: sa.Connection, run: int) -> Iterator[tuple[str | None, str, int]]:
    """Yield the distinct changes of labels that a run delivered: payload before, payload after, number of contacts.

    Args:
        connection: the transaction.
        run: the run that received the outcome.
    """
    before, after = deliveries.c.before, deliveries.c.after
    query = sa.select(before, after, sa.func.count()).where(*_delivered(run)).group_by(before, after)
    yield from (tuple(row) for row in connection.execute(query.execution_options(yield_per=ROWS_PER_PAGE)))


def changed_contacts(connection: sa.Connection, run: int, limit: int) -> Iterator[tuple[str, str | None, str]]:
    """Yield contacts whose labels a run changed: address, payload before, payload after.

    Args:
        connection: the transaction.
        run: the run that received the outcome.
        limit: maximum number of contacts.
    """
    query = sa.select(deliveries.c.email, deliveries.c.before, deliveries.c.after).where(*_delivered(run)).limit(limit)
    yield from (tuple(row) for row in connection.execute(query.execution_options(yield_per=ROWS_PER_PAGE)))


def _delivered(run: int) -> tuple[sa.ColumnElement[bool], ...]:
    # not a join, for which SQLite would scan the deliveries of all runs
    settled = sa.select(imports.c.id).where(imports.c.result_run == run, imports.c.state == ImportState.FINISHED)
    differs = deliveries.c.before.is_distinct_from(deliveries.c.after)
    return deliveries.c["import"].in_(settled), deliveries.c.outcome.is_(None), differs
