"""The ledger's record of imports: the rows that were sent, the labels they replaced, and the outcome of every row."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.codes import GONE_ID, PERMANENT, UNKNOWN, letters_of
from target_dotdigital.ledger.contacts.outcomes import ContactOutcomes
from target_dotdigital.ledger.tables import contacts, deliveries, imports, row_results
from target_dotdigital.records import Row, RowResult, Uploads, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


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


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the ledger learned from an import's report.

    Args:
        new_rejections: code -> number of contacts that were not rejected with this code before.
        created_again: contacts that were read back in this run, and yet created.
        gone: contacts that are looked up by address, because dotdigital no longer knows their ID.
        reasons: code -> number of rejected rows, without those of contacts that are gone.
    """

    new_rejections: dict[str, int]
    created_again: int
    gone: int
    reasons: dict[str, int]


class ImportLog:
    """Records imports and their outcomes, one transaction per call.

    Args:
        engine: the ledger's database.
        scope: number of the ledger scope.
        run: number of the run.
        uploads: which contacts are created.
        clears: whether contacts that are not in the source lose their labels.
    """

    def __init__(self, engine: sa.Engine, scope: int, run: int, uploads: Uploads, *, clears: bool = False) -> None:
        """Create the log of one run."""
        self._uploads = uploads
        self._clears = clears
        self._engine = engine
        self._scope = scope
        self.run = run

    def begin(self, rows: Sequence[Row], now: float, attempt: int = 1) -> int:
        """Record rows that are about to be sent, and return the import's number; until it ends, their labels are not known."""
        with self._engine.begin() as connection:
            inserted = connection.execute(
                sa.insert(imports).values(
                    scope=self._scope, run=self.run, state=State.SUBMITTING, attempt=attempt, submitted_at=now
                ),
            )
            (key,) = inserted.inserted_primary_key or (0,)
            sent = [(key, row.email, row.contact_id, row.before, row.after) for row in rows]
            bulk.put(connection, deliveries, sent, ("import", "email", "contact_id", "before", "after"))
        return int(key)

    def accepted(self, key: int, import_id: str) -> None:
        """Record dotdigital's ID of an accepted import."""
        self._set(key, import_id=import_id, state=State.OPEN)

    def hold(self, key: int) -> int:
        """Hold the rows of an import that the Data Watchdog rejected until the operator releases them, and return their number."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(imports).where(imports.c.id == key).values(state=State.REJECTED, settled_run=self.run))
            return ContactOutcomes(connection, self._scope, self._uploads).hold(key)

    def note_unanswered(self, key: int, now: float) -> None:
        """Record that dotdigital may have accepted an attempt at an import whose response was lost; the import is submitted again.

        Args:
            key: the import's number.
            now: seconds since 1970.
        """
        self._set(key, lost_at=now)

    def abandoned(self, key: int, state: State, now: float) -> None:
        """Record that an import failed or that its result is unknown; the result of its rows is unknown, and they stay pending.

        Args:
            key: the import's number.
            state: its last state.
            now: seconds since 1970.
        """
        with self._engine.begin() as connection:
            self._abandon(connection, key, state, now)

    def refused(self, key: int) -> None:
        """Forget an import that dotdigital refused: nothing was written, unless it accepted an earlier attempt."""
        with self._engine.begin() as connection:
            lost_at = connection.scalar(sa.select(imports.c.lost_at).where(imports.c.id == key))
            if lost_at is not None:
                self._abandon(connection, key, State.LOST, lost_at)
                return
            connection.execute(sa.delete(deliveries).where(deliveries.c["import"] == key))
            connection.execute(sa.delete(imports).where(imports.c.id == key))

    def reject(self, rows: Sequence[Row], outcomes: Sequence[RowResult], now: float) -> Recorded:
        """Record rows as rejected for which dotdigital refuses every import.

        Args:
            rows: the rows.
            outcomes: one outcome per row, in the same order.
            now: seconds since 1970.
        """
        key = self.begin(rows, now)
        recorded = self.finished(key, rows, outcomes, now)
        # there is nothing in dotdigital that could be looked up
        self._set(key, verified=True)
        return recorded

    def contact_ids(self, emails: Collection[str]) -> dict[str, int]:
        """Return the known contact IDs of addresses."""
        c = contacts.c
        query = sa.select(c.email, c.contact_id).where(c.scope == self._scope, c.contact_id.is_not(None))
        with self._engine.connect() as connection:
            found = connection.execute(query.where(bulk.among(connection, c.email, emails)))
            return {email: int(number) for email, number in found}

    def accepted_row(self) -> Row | None:
        """Return a row that would change nothing, because dotdigital has confirmed it before; None if there is none.

        It is matched by ID, so that it does not create a contact that was deleted meanwhile.
        """
        c = contacts.c
        confirmed = c.confirmed.is_not(None) & ~c.result_unknown & ~c.pending & c.held.is_(None) & c.rejection.is_(None)
        query = sa.select(c.email, c.contact_id, c.confirmed, c.confirmed)
        query = query.where(c.scope == self._scope, c.contact_id.is_not(None), confirmed).limit(1)
        with self._engine.connect() as connection:
            found = connection.execute(query).first()
        return None if found is None else Row(*found)

    def mark_open_unknown(self, connection: sa.Connection) -> None:
        """Mark the rows of imports without a result, within a transaction of a run that may not wait for them."""
        for key in connection.scalars(self._unsettled()).all():
            ContactOutcomes(connection, self._scope, self._uploads).mark_import_unknown(key)

    def finished(self, key: int, rows: Sequence[Row], outcomes: Sequence[RowResult], now: float) -> Recorded:
        """Record the outcome of every row of a finished import.

        Args:
            key: the import's number.
            rows: the rows.
            outcomes: one outcome per row, in the same order.
            now: seconds since 1970.
        """
        accepted, others = [], []
        reasons: Counter[str] = Counter()
        with self._engine.begin() as connection:
            spelled = self._known_spellings(connection) if any(one.verdict is Verdict.REJECTED for one in outcomes) else {}
            for row, one in zip(rows, outcomes, strict=True):
                if one.verdict is Verdict.CREATED or one.verdict is Verdict.UPDATED:
                    accepted.append((row.email, row.after, one.contact_id, row.contact_id is None))
                    continue
                letters = letters_of(one.reason)
                reason = spelled.setdefault(letters, one.reason or UNKNOWN) if one.verdict is Verdict.REJECTED else None
                reasons[reason or ""] += 1
                others.append((one.email, one.verdict.value, one.contact_id, reason, letters in PERMANENT, letters == GONE_ID))
            applied = ContactOutcomes(connection, self._scope, self._uploads)
            again = applied.count_created_again((one.email for one in outcomes if one.verdict is Verdict.CREATED), self.run)
            applied.confirm(accepted)
            mistaken = [(one.email, one.other_email) for one in outcomes if one.other_email]
            applied.mark_mistaken([email for email, _ in mistaken], [other for _, other in mistaken], self.run, clears=self._clears)
            news: dict[str, int] = {}
            gone = 0
            if others:
                bulk.stage(connection, row_results, others)
                gone = applied.forget_gone(key)
                news = applied.reject(key, now)
                applied.mark_unconfirmed()
                # rows of a finished import without an outcome were accepted, so only the others are written
                unaccepted = bulk.matching(deliveries.c.email, row_results)
                connection.execute(
                    sa.update(deliveries)
                    .where(deliveries.c["import"] == key, unaccepted)
                    .values(outcome=row_results.c.verdict, reason=row_results.c.reason),
                )
            connection.execute(sa.update(imports).where(imports.c.id == key).values(state=State.FINISHED, settled_run=self.run))
        del reasons[""]
        reasons[spelled.get(GONE_ID, "")] -= gone
        return Recorded(news, again, gone, dict(+reasons))

    def unverified_rows(self, connection: sa.Connection) -> list[Row]:
        """Return the rows that imports without verification confirmed, as far as they are still what the ledger knows.

        These are of earlier runs that ended before they could look: of the last import, because a few of its rows are enough.
        """
        d, c = deliveries.c, contacts.c
        last = (
            sa.select(sa.func.max(imports.c.id))
            .where(imports.c.scope == self._scope, imports.c.state == State.FINISHED, ~imports.c.verified)
            .scalar_subquery()
        )
        query = (
            sa.select(d.email, d.contact_id, d.before, d.after)
            .join(contacts, (c.scope == self._scope) & (c.email == d.email))
            .where(d["import"] == last, d.outcome.is_(None), c.confirmed == d.after, ~c.result_unknown)
        )
        return [Row(*row) for row in connection.execute(query)]

    def mark_unverified(self, connection: sa.Connection) -> None:
        """Mark every contact of imports without verification, and forget its ID: the next plan looks it up."""
        ContactOutcomes(connection, self._scope, self._uploads).mark_unverified()
        self.mark_verified(connection)

    def mark_verified(self, connection: sa.Connection) -> None:
        """Record that the imports so far need no verification any more."""
        unverified = imports.c.scope == self._scope, ~imports.c.verified
        connection.execute(sa.update(imports).where(*unverified).values(verified=True))

    def take_lost(self, connection: sa.Connection, before: float) -> bool:
        """Return whether dotdigital may apply a lost attempt at an import late, or has done so since the last run.

        An attempt counts whatever its import ended with, because the retry that succeeded is another import to dotdigital. Attempts
        before `before` are forgotten after this: they are not applied any more.

        Args:
            connection: the transaction of a run that reads the whole account if there is one.
            before: seconds since 1970.
        """
        lost = imports.c.scope == self._scope, imports.c.lost_at.is_not(None)
        is_lost = bool(connection.scalar(sa.select(sa.exists().where(*lost))))
        if is_lost:
            connection.execute(sa.update(imports).where(*lost, imports.c.lost_at < before).values(lost_at=None))
        return is_lost

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
            for key in connection.scalars(self._unsettled().where(imports.c.state == State.SUBMITTING)).all():
                self._abandon(connection, key, State.LOST, sa.func.coalesce(imports.c.lost_at, imports.c.submitted_at))
            return [OpenImport(*row) for row in connection.execute(query)]

    def rows_of(self, key: int) -> list[Row]:
        """Return the rows of an import."""
        query = sa.select(deliveries.c.email, deliveries.c.contact_id, deliveries.c.before, deliveries.c.after).where(
            deliveries.c["import"] == key
        )
        with self._engine.begin() as connection:
            return [Row(*row) for row in connection.execute(query).all()]

    def _known_spellings(self, connection: sa.Connection) -> dict[str, str]:
        """Return the codes of the rejected contacts by their letters, because another spelling of a code is not a new rejection."""
        query = sa.select(contacts.c.rejection).where(contacts.c.scope == self._scope, contacts.c.rejection.is_not(None))
        return {letters_of(code): code for code in sorted(connection.scalars(query.distinct()))}

    def _unsettled(self) -> sa.Select[tuple[int]]:
        """Select the imports of the scope that have no result."""
        return sa.select(imports.c.id).where(imports.c.scope == self._scope, imports.c.settled_run.is_(None))

    def _abandon(self, connection: sa.Connection, key: int, state: State, at: float | sa.ColumnElement[float]) -> None:
        lost = {"lost_at": at} if state is State.LOST else {}
        connection.execute(sa.update(imports).where(imports.c.id == key).values(state=state, settled_run=self.run, **lost))
        ContactOutcomes(connection, self._scope, self._uploads).mark_import_unknown(key)

    def _set(self, key: int, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(imports).where(imports.c.id == key).values(**values))


def forget_deliveries(connection: sa.Connection, email: str) -> int:
    """Delete the before-images of an address, and return their number."""
    return connection.execute(sa.delete(deliveries).where(deliveries.c.email == email)).rowcount
