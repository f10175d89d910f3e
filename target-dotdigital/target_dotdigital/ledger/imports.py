"""The ledger's record of imports: the rows that were sent, the labels they replaced, and the outcome of every row."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contacts import ContactLedger
from target_dotdigital.ledger.schema import contacts, deliveries, imports, row_results, runs, scopes
from target_dotdigital.models import EMPTY, ID_NOT_FOUND, PERMANENT, UNKNOWN, Row, RowResult, Uploads, Verdict, letters_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


# scope of imports that are being deleted; no scope has this number
EXPIRED_SCOPE = 0
# before-images that are deleted in one transaction
ROWS_PER_PIECE = 20_000
# before-images that a run deletes at most, so that it is not much longer than others; the next runs delete the rest
MAX_ROWS_PER_RUN = 2_000_000


class ImportState(enum.StrEnum):
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
    """The changes that the report of an import made in the ledger.

    Args:
        new_rejections: code -> number of contacts that were not rejected with this code before.
        created_again: contacts that were created although this run had read them back.
        gone: contacts that are looked up by address, because their ID no longer exists.
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
                    scope=self._scope, run=self.run, state=ImportState.SUBMITTING, attempt=attempt, submitted_at=now
                ),
            )
            (key,) = inserted.inserted_primary_key or (0,)
            sent = [(key, row.email, row.contact_id, row.before, row.after) for row in rows]
            bulk.bulk_insert(connection, deliveries, sent, ("import", "email", "contact_id", "before", "after"))
        return int(key)

    def accepted(self, key: int, import_id: str) -> None:
        """Record dotdigital's ID of an accepted import."""
        self._set(key, import_id=import_id, state=ImportState.OPEN)

    def quarantine(self, key: int) -> int:
        """Hold the rows of an import that the Data Watchdog rejected until the operator releases them, and return their number."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(imports).where(imports.c.id == key).values(state=ImportState.REJECTED, result_run=self.run)
            )
            return self._contacts(connection).quarantine(key)

    def record_lost_response(self, key: int, now: float) -> None:
        """Record that dotdigital may have accepted an attempt at an import whose response was lost; the import is submitted again.

        Args:
            key: the import's number.
            now: seconds since 1970.
        """
        self._set(key, lost_at=now)

    def mark_failed(self, key: int, state: ImportState, now: float) -> None:
        """Record that an import failed or that its result is unknown; the result of its rows is unknown, and they stay pending.

        Args:
            key: the import's number.
            state: its last state.
            now: seconds since 1970.
        """
        with self._engine.begin() as connection:
            self._end_without_result(connection, key, state, now)

    def refused(self, key: int) -> None:
        """Forget an import that dotdigital refused: nothing was written, unless it accepted an earlier attempt."""
        with self._engine.begin() as connection:
            lost_at = connection.scalar(sa.select(imports.c.lost_at).where(imports.c.id == key))
            if lost_at is not None:
                self._end_without_result(connection, key, ImportState.LOST, lost_at)
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
            found = connection.execute(query.where(bulk.in_values(connection, c.email, emails)))
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
        for key in connection.scalars(self._without_result()).all():
            self._contacts(connection).mark_import_unknown(key)

    def finished(self, key: int, rows: Sequence[Row], outcomes: Sequence[RowResult], now: float) -> Recorded:
        """Record the outcome of every row of a finished import.

        Args:
            key: the import's number.
            rows: the rows.
            outcomes: one outcome per row, in the same order.
            now: seconds since 1970.
        """
        accepted, rejected_or_missing = [], []
        reasons: Counter[str] = Counter()
        with self._engine.begin() as connection:
            has_rejected = any(result.verdict is Verdict.REJECTED for result in outcomes)
            spelled = self._known_spellings(connection) if has_rejected else {}
            for row, result in zip(rows, outcomes, strict=True):
                if result.verdict is Verdict.CREATED or result.verdict is Verdict.UPDATED:
                    accepted.append((row.email, row.after, result.contact_id, row.contact_id is None))
                    continue
                letters = letters_of(result.reason)
                reason = spelled.setdefault(letters, result.reason or UNKNOWN) if result.verdict is Verdict.REJECTED else None
                reasons[reason or ""] += 1
                is_final, id_not_found = letters in PERMANENT, letters == ID_NOT_FOUND
                rejected_or_missing.append(
                    (result.email, result.verdict.value, result.contact_id, reason, is_final, id_not_found),
                )
            ledger = self._contacts(connection)
            again = ledger.count_unexpectedly_created(result.email for result in outcomes if result.verdict is Verdict.CREATED)
            ledger.confirm(accepted)
            ledger.mark_wrong_contact(
                [(result.email, result.other_email) for result in outcomes if result.other_email], clears=self._clears
            )
            new_rejections: dict[str, int] = {}
            gone = 0
            if rejected_or_missing:
                bulk.replace_staged(connection, row_results, rejected_or_missing)
                gone = ledger.forget_missing_ids(key)
                new_rejections = ledger.reject(key, now)
                ledger.mark_unconfirmed()
                # rows of a finished import without an outcome were accepted, so only the others are written
                unaccepted = bulk.joins_staged(deliveries.c.email, row_results)
                connection.execute(
                    sa.update(deliveries)
                    .where(deliveries.c["import"] == key, unaccepted)
                    .values(outcome=row_results.c.verdict, reason=row_results.c.reason),
                )
            connection.execute(
                sa.update(imports).where(imports.c.id == key).values(state=ImportState.FINISHED, result_run=self.run)
            )
        del reasons[""]
        reasons[spelled.get(ID_NOT_FOUND, "")] -= gone
        return Recorded(new_rejections, again, gone, dict(+reasons))

    def unverified_rows(self, connection: sa.Connection) -> list[Row]:
        """Return confirmed rows of the last import without verification, if the ledger still has the same labels.

        The runs of these imports ended before they could look up a sample. Rows of one import are enough for that.
        """
        d, c = deliveries.c, contacts.c
        last = (
            sa.select(sa.func.max(imports.c.id))
            .where(imports.c.scope == self._scope, imports.c.state == ImportState.FINISHED, ~imports.c.verified)
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
        self._contacts(connection).mark_unverified()
        self.mark_verified(connection)

    def mark_verified(self, connection: sa.Connection) -> None:
        """Record that the imports so far need no verification any more."""
        unverified = imports.c.scope == self._scope, ~imports.c.verified
        connection.execute(sa.update(imports).where(*unverified).values(verified=True))

    def expire_lost_imports(self, connection: sa.Connection, before: float) -> bool:
        """Return whether an import with an unknown ID may still be applied, and expire those older than `before`.

        An attempt whose response was lost counts however its import ended, because the retry that succeeded is another import to
        dotdigital.

        Args:
            connection: the transaction of a run that reads the whole account if there is such an import.
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
            .where(imports.c.scope == self._scope, imports.c.state == ImportState.OPEN)
            .order_by(imports.c.id)
        )
        with self._engine.begin() as connection:
            # submitted, but the ID was never received: the import may or may not run, and its rows are sent again
            for key in connection.scalars(self._without_result().where(imports.c.state == ImportState.SUBMITTING)).all():
                self._end_without_result(
                    connection, key, ImportState.LOST, sa.func.coalesce(imports.c.lost_at, imports.c.submitted_at)
                )
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

    def _without_result(self) -> sa.Select[tuple[int]]:
        """Select the imports of the scope that have no result."""
        return sa.select(imports.c.id).where(imports.c.scope == self._scope, imports.c.result_run.is_(None))

    def _end_without_result(
        self, connection: sa.Connection, key: int, state: ImportState, at: float | sa.ColumnElement[float]
    ) -> None:
        lost = {"lost_at": at} if state is ImportState.LOST else {}
        connection.execute(sa.update(imports).where(imports.c.id == key).values(state=state, result_run=self.run, **lost))
        self._contacts(connection).mark_import_unknown(key)

    def _contacts(self, connection: sa.Connection) -> ContactLedger:
        return ContactLedger(connection, self._scope, uploads=self._uploads, run=self.run)

    def _set(self, key: int, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(imports).where(imports.c.id == key).values(**values))


def history_start(connection: sa.Connection, scope: int) -> float | None:
    """Return when the oldest import was submitted that the ledger still has, in seconds since 1970; None if it has none."""
    start: float | None = connection.scalar(sa.select(sa.func.min(imports.c.submitted_at)).where(imports.c.scope == scope))
    return start


def delete_old_imports(
    engine: sa.Engine, account_id: int, before: float, *, rows_per_piece: int = ROWS_PER_PIECE, most: int = MAX_ROWS_PER_RUN
) -> int:
    """Delete the imports of an account that no rule needs any more, with their before-images, and return the number of these.

    An import is needed as long as it has no result, may be applied late, has not been verified, or holds contacts.

    Args:
        engine: the ledger's database.
        account_id: the account; its lock is held.
        before: imports that were submitted before this time are deleted, in seconds since 1970.
        rows_per_piece: before-images that are deleted in one transaction.
        most: before-images that are deleted at most, apart from the rest of a piece.
    """
    i = imports.c
    mine = i.scope.in_(sa.select(scopes.c.id).where(scopes.c.account_id == account_id))
    holds = sa.exists().where(contacts.c.scope == i.scope, contacts.c.held.is_not(None), contacts.c.held == i.id)
    needed = i.result_run.is_(None) | i.lost_at.is_not(None) | ~i.verified | holds
    with engine.begin() as connection:
        # all at once, so that no run keeps only some of its before-images, and is restored only in part
        connection.execute(sa.update(imports).where(mine, i.submitted_at < before, ~needed).values(scope=EXPIRED_SCOPE))
        keys = connection.scalars(sa.select(i.id).where(i.scope == EXPIRED_SCOPE).order_by(i.id)).all()
    deleted = 0
    for key in keys:
        piece = sa.select(deliveries.c.email).where(deliveries.c["import"] == key).limit(rows_per_piece)
        rows = rows_per_piece
        while rows == rows_per_piece:
            if deleted >= most:
                return deleted
            # one transaction per piece, so that other runs do not wait longer than for one piece
            with engine.begin() as connection:
                rows = connection.execute(
                    sa.delete(deliveries).where(deliveries.c["import"] == key, deliveries.c.email.in_(piece))
                ).rowcount
                if rows < rows_per_piece:
                    connection.execute(sa.delete(imports).where(i.id == key))
            deleted += rows
    return deleted


def forget_deliveries(connection: sa.Connection, email: str) -> int:
    """Delete the before-images of an address, and return their number."""
    return connection.execute(sa.delete(deliveries).where(deliveries.c.email == email)).rowcount


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
        result_run: run that received the outcome; None if none has yet.
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
    result_run: int | None


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
    settled = sa.select(imports.c.id).where(imports.c.result_run == run, imports.c.state == ImportState.FINISHED)
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
            i.run, runs.c.started_at, i.submitted_at, i.import_id, i.state, d.before, d.after, d.outcome, d.reason, i.result_run
        )
        .select_from(imports)
        .join(deliveries, (d["import"] == i.id) & (d.email == email))
        .outerjoin(runs, runs.c.id == i.run)
        .where(i.scope == scope)
        .order_by(i.id.desc())
        .limit(limit)
    )
    return [DeliveryRecord(*row) for row in connection.execute(query)]
