"""What was delivered, as the ledger recorded it. Nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from target_dotdigital.ledger.imports import State
from target_dotdigital.ledger.tables import deliveries, imports, runs
from target_dotdigital.payloads import EMPTY
from target_dotdigital.records import Verdict


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One contact in one import.

    Args:
        run: run that sent it.
        started_at: start of that run (ISO 8601, UTC).
        submitted_at: seconds since 1970.
        import_id: dotdigital's ID; None if it was not received.
        state: state of the import.
        before: confirmed payload at the time; None if unknown.
        after: payload that was sent.
        outcome: rejected or unconfirmed; None in a finished import means created or updated.
        reason: dotdigital's code of a rejection.
        settled_run: run that received the outcome; None if none has yet.
    """

    run: int
    started_at: str | None
    submitted_at: float
    import_id: str | None
    state: str
    before: str | None
    after: str
    outcome: str | None
    reason: str | None
    settled_run: int | None


BeforeImages = dict[str, tuple[str | None, str]]


def before_images(connection: sa.Connection, scope: int, run: int) -> BeforeImages:
    """Return what a run changed: address -> payload before its first delivery, payload of its last delivery."""
    query = (
        sa.select(deliveries.c.email, deliveries.c.before, deliveries.c.after)
        .join(imports, imports.c.id == deliveries.c["import"])
        .where(imports.c.scope == scope, imports.c.run == run)
        .where(deliveries.c.outcome.is_distinct_from(Verdict.REJECTED))
        .order_by(imports.c.id)
    )
    found: BeforeImages = {}
    for email, before, after in connection.execute(query):
        found[email] = (found[email][0] if email in found else before, after)
    return found


def count_cleared(connection: sa.Connection, run: int) -> int:
    """Count the contacts that lost all labels in the imports whose outcome a run received."""
    labelled = deliveries.c.before.is_not(None) & (deliveries.c.before != EMPTY)
    # not a join, for which SQLite would scan the deliveries of all runs
    settled = sa.select(imports.c.id).where(imports.c.settled_run == run, imports.c.state == State.FINISHED)
    query = (
        sa.select(sa.func.count())
        .select_from(deliveries)
        .where(deliveries.c["import"].in_(settled), labelled, deliveries.c.after == EMPTY, deliveries.c.outcome.is_(None))
    )
    return connection.scalar(query) or 0


def deliveries_of(connection: sa.Connection, scope: int, email: str, limit: int) -> list[DeliveryRecord]:
    """Return the last deliveries of a contact, newest first.

    The primary key of the deliveries begins with the import, so one look-up per import of the scope needs no other index.

    Args:
        connection: the transaction.
        scope: number of the ledger scope.
        email: normalised address.
        limit: maximum number of deliveries.
    """
    i, d = imports.c, deliveries.c
    query = (
        sa.select(
            i.run, runs.c.started_at, i.submitted_at, i.import_id, i.state, d.before, d.after, d.outcome, d.reason, i.settled_run
        )
        .select_from(imports)
        .join(deliveries, (d["import"] == i.id) & (d.email == email))
        .outerjoin(runs, runs.c.id == i.run)
        .where(i.scope == scope)
        .order_by(i.id.desc())
        .limit(limit)
    )
    return [DeliveryRecord(*row) for row in connection.execute(query)]
