"""The ledger's record of imports: the rows that were sent, the labels they replaced, and the outcome of every row."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.tables import contacts, deliveries, imports, row_results, runs
from target_dotdigital.records import Row, RowResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# hours before a rejected contact is retried, by the number of consecutive rejections; the last value applies from then on
RETRY_PAUSES = (0, 20, 68, 164)
# rejections that are not retried until the contact changes (contracts/dotdigital.md 4)
PERMANENT = frozenset(
    {
        *("invalidemail", "invaliddomain", "duplicate", "duplicateidentifier", "globallysuppressed", "suppressedbydomain"),
        *("blocker", "invalidcontactid"),
    },
)


class State(enum.StrEnum):
    """State of an import in the ledger."""

    SUBMITTING = "submitting"
    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"
    REJECTED = "rejected"
    OVER_QUOTA = "over quota"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class OpenImport:
    """An import that dotdigital accepted and may still be processing."""

    key: int
    import_id: str
    attempt: int
    rows: int


class ImportLog:
    """Records imports and their outcomes, one transaction per call.

    Args:
        engine: the ledger's database.
        scope: number of the ledger scope.
        run: number of the run.
    """

    def __init__(self, engine: sa.Engine, scope: int, run: int) -> None:
        """Create the log of one run."""
        self._engine = engine
        self._scope = scope
        self.run = run

    def begin(self, rows: Sequence[Row], now: float, attempt: int = 1) -> int:
        """Record rows that are about to be sent, mark them as in doubt, and return the import's number."""
        with self._engine.begin() as connection:
            inserted = connection.execute(
                sa.insert(imports).values(
                    scope=self._scope, run=self.run, state=State.SUBMITTING, attempt=attempt, submitted_at=now
                ),
            )
            (key,) = inserted.inserted_primary_key or (0,)
            sent = [(key, row.email, row.contact_id, row.before, row.after) for row in rows]
            bulk.put(connection, deliveries, sent, ("import", "email", "contact_id", "before", "after"))
            mine = sa.select(deliveries.c.email).where(deliveries.c["import"] == key)
            connection.execute(
                sa.update(contacts).where(contacts.c.scope == self._scope, contacts.c.email.in_(mine)).values(in_doubt=True)
            )
        return int(key)

    def accepted(self, key: int, import_id: str) -> None:
        """Record dotdigital's ID of an accepted import."""
        self._set(key, import_id=import_id, state=State.OPEN)

    def hold(self, key: int) -> int:
        """Hold the rows of an import that the Data Watchdog rejected until the operator releases them, and return their number."""
        mine = sa.select(deliveries.c.email).where(deliveries.c["import"] == key)
        with self._engine.begin() as connection:
            connection.execute(sa.update(imports).where(imports.c.id == key).values(state=State.REJECTED))
            held = sa.update(contacts).where(contacts.c.scope == self._scope, contacts.c.email.in_(mine))
            return connection.execute(held.values(held=key, pending=False)).rowcount

    def abandoned(self, key: int, state: State) -> None:
        """Record that an import failed or that its result is unknown; its rows stay in doubt and pending."""
        self._set(key, state=state)

    def finished(self, key: int, outcomes: Iterable[RowResult], now: float) -> dict[str, int]:
        """Record the outcome of every row of a finished import.

        Args:
            key: the import's number.
            outcomes: one outcome per row.
            now: seconds since 1970.

        Returns:
            New rejections: code -> number of contacts that were not rejected with this code before.
        """
        rows = []
        for one in outcomes:
            reason = (one.reason or "").lower()
            rows.append(
                (one.email, one.verdict.value, one.contact_id, one.reason, reason in PERMANENT, reason == "invalidcontactid")
            )
        with self._engine.begin() as connection:
            bulk.stage(connection, row_results, rows)
            connection.execute(self._confirm(key))
            news: dict[str, int] = {}
            if any(row[1] == Verdict.REJECTED for row in rows):
                news = self._new_rejections(connection)
                connection.execute(self._reject(key, now))
            noted = row_results.c.verdict.in_((Verdict.REJECTED, Verdict.UNCONFIRMED))
            # rows of a finished import without an outcome were accepted, so only the others are written
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c["import"] == key, bulk.matching(deliveries.c.email, row_results, noted))
                .values(outcome=row_results.c.verdict, reason=row_results.c.reason),
            )
            connection.execute(sa.update(imports).where(imports.c.id == key).values(state=State.FINISHED))
        return news

    def open_imports(self) -> list[OpenImport]:
        """Return the imports that dotdigital may still be processing, oldest first, and mark those without an ID as lost."""
        rows = sa.select(sa.func.count()).where(deliveries.c["import"] == imports.c.id).scalar_subquery()
        query = (
            sa.select(imports.c.id, imports.c.import_id, imports.c.attempt, rows)
            .where(imports.c.scope == self._scope, imports.c.state == State.OPEN)
            .order_by(imports.c.id)
        )
        with self._engine.begin() as connection:
            # submitted, but the ID was never received: the import may or may not run, and its rows are sent again
            connection.execute(
                sa.update(imports)
                .where(imports.c.scope == self._scope, imports.c.state == State.SUBMITTING)
                .values(state=State.LOST),
            )
            return [OpenImport(*row) for row in connection.execute(query)]

    def rows_of(self, key: int) -> list[Row]:
        """Return the rows of an import."""
        query = sa.select(deliveries.c.email, deliveries.c.contact_id, deliveries.c.before, deliveries.c.after).where(
            deliveries.c["import"] == key
        )
        with self._engine.begin() as connection:
            return [Row(*row) for row in connection.execute(query).all()]

    def before_images(self, run: int) -> dict[str, tuple[str | None, str]]:
        """Return what a run changed: address -> payload before its first delivery, payload of its last delivery."""
        query = (
            sa.select(deliveries.c.email, deliveries.c.before, deliveries.c.after)
            .join(imports, imports.c.id == deliveries.c["import"])
            .where(imports.c.scope == self._scope, imports.c.run == run)
            .where(deliveries.c.outcome.is_distinct_from(Verdict.REJECTED))
            .order_by(imports.c.id)
        )
        found: dict[str, tuple[str | None, str]] = {}
        with self._engine.begin() as connection:
            for email, before, after in connection.execute(query):
                found[email] = (found[email][0] if email in found else before, after)
        return found

    def rejected(self) -> Iterator[tuple[str, str, str]]:
        """Yield the contacts whose last delivery was rejected: address, JSON array of names, dotdigital's code."""
        query = (
            sa.select(contacts.c.email, contacts.c.names, contacts.c.rejection)
            .where(contacts.c.scope == self._scope, contacts.c.rejection.is_not(None), contacts.c.names.is_not(None))
            .order_by(contacts.c.email)
        )
        with self._engine.connect() as connection:
            yield from (tuple(row) for row in connection.execute(query))

    def finish_run(self, outcome: str, segments: str | None) -> None:
        """Record the outcome of the run and, if it delivered, the number of contacts per segment."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(runs).where(runs.c.id == self.run).values(outcome=outcome, segments=segments),
            )

    def _set(self, key: int, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(imports).where(imports.c.id == key).values(**values))

    def _of_verdict(self, key: int, *verdicts: Verdict) -> sa.Update:
        return sa.update(contacts).where(
            contacts.c.scope == self._scope,
            bulk.matching(contacts.c.email, row_results, row_results.c.verdict.in_(verdicts)),
            deliveries.c["import"] == key,
            deliveries.c.email == row_results.c.email,
        )

    def _new_rejections(self, connection: sa.Connection) -> dict[str, int]:
        query = (
            sa.select(sa.func.coalesce(row_results.c.reason, "Unknown"), sa.func.count())
            .select_from(contacts)
            .join(row_results, bulk.matching(contacts.c.email, row_results, row_results.c.verdict == Verdict.REJECTED))
            .where(contacts.c.scope == self._scope)
            .where(contacts.c.rejection.is_distinct_from(sa.func.coalesce(row_results.c.reason, "Unknown")))
            .group_by(row_results.c.reason)
        )
        return {code: count for code, count in connection.execute(query)}

    def _confirm(self, key: int) -> sa.Update:
        return self._of_verdict(key, Verdict.CREATED, Verdict.UPDATED).values(
            confirmed=deliveries.c.after,
            in_doubt=False,
            held=None,
            rejected=None,
            rejection=None,
            rejections=0,
            retry_at=None,
            contact_id=sa.func.coalesce(row_results.c.contact_id, contacts.c.contact_id),
            # rows matched by ID carry no address book
            in_address_book=contacts.c.in_address_book | deliveries.c.contact_id.is_(None),
            # the desired value may have changed since the row was sent
            pending=(contacts.c.desired != deliveries.c.after)
            | ~(contacts.c.in_address_book | deliveries.c.contact_id.is_(None) | contacts.c.removed),
        )

    def _reject(self, key: int, now: float) -> sa.Update:
        pauses = [(contacts.c.rejections == times, now + hours * 3600.0) for times, hours in enumerate(RETRY_PAUSES)]
        later = sa.case(*pauses, else_=now + RETRY_PAUSES[-1] * 3600.0)
        return self._of_verdict(key, Verdict.REJECTED).values(
            in_doubt=False,
            # the contact was deleted, so its ID and confirmed labels are no longer valid
            contact_id=sa.case((~row_results.c.gone, contacts.c.contact_id)),
            confirmed=sa.case((~row_results.c.gone, contacts.c.confirmed)),
            rejected=deliveries.c.after,
            rejection=sa.func.coalesce(row_results.c.reason, "Unknown"),
            rejections=contacts.c.rejections + 1,
            retry_at=sa.case((~row_results.c.final, later)),
            pending=contacts.c.desired != deliveries.c.after,
        )
