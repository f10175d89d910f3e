"""The ledger's record of imports: what was sent, what it replaced, and what dotdigital said of every row."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from target_dotdigital import bulk
from target_dotdigital.tables import contacts, deliveries, imports, runs, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# hours before a rejected contact is tried again, by how often it was rejected in a row; the last one from then on
RETRY_PAUSES = (0, 20, 68, 164)
# nothing but a change of the contact mends these (contracts/dotdigital.md 4)
PERMANENT = frozenset(
    {
        *("invalidemail", "invaliddomain", "duplicate", "duplicateidentifier", "globallysuppressed", "suppressedbydomain"),
        *("blocker", "invalidcontactid"),
    },
)


class State(enum.StrEnum):
    """The life of an import in the ledger."""

    SUBMITTING = "submitting"
    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"
    REJECTED = "rejected"
    OVER_QUOTA = "over quota"
    LOST = "lost"


class Verdict(enum.StrEnum):
    """What became of a row."""

    CREATED = "created"
    UPDATED = "updated"
    REFUSED = "refused"
    UNACCOUNTED = "unaccounted"


class Row(msgspec.Struct, frozen=True):
    """One contact in one import.

    Args:
        email: normalised.
        contact_id: to match by; None matches by address.
        before: payload that was confirmed; None where nothing was known.
        after: payload that is sent.
    """

    email: str
    contact_id: int | None
    before: str | None
    after: str


class Outcome(msgspec.Struct, frozen=True):
    """What dotdigital said of one row.

    Args:
        email: normalised, as it was sent.
        verdict: what became of it.
        contact_id: dotdigital's id, where it was told.
        reason: dotdigital's code of a refusal.
    """

    email: str
    verdict: Verdict
    contact_id: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class OpenImport:
    """An import that dotdigital accepted and may not have finished."""

    key: int
    import_id: str
    attempt: int
    rows: int


class DeliveryLog:
    """Writes down imports and their outcomes, each in a transaction of its own.

    Args:
        engine: the ledger's database.
        scope: the ledger's part.
        run: the number of the run.
    """

    def __init__(self, engine: sa.Engine, scope: int, run: int) -> None:
        """Write for one run."""
        self._engine = engine
        self._scope = scope
        self.run = run

    def begin(self, rows: Sequence[Row], now: float, attempt: int = 1) -> int:
        """Note that rows are about to be sent; from here on their fate is in doubt. Give the import's number."""
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
        """Note dotdigital's id of an import."""
        self._set(key, import_id=import_id, state=State.OPEN)

    def hold(self, key: int) -> int:
        """Hold the rows of an import that the Data Watchdog rejected until the operator releases them; return how many."""
        mine = sa.select(deliveries.c.email).where(deliveries.c["import"] == key)
        with self._engine.begin() as connection:
            connection.execute(sa.update(imports).where(imports.c.id == key).values(state=State.REJECTED))
            held = sa.update(contacts).where(contacts.c.scope == self._scope, contacts.c.email.in_(mine))
            return connection.execute(held.values(held=key, pending=False)).rowcount

    def abandoned(self, key: int, state: State) -> None:
        """Note that an import came to nothing, or that nobody knows; its rows stay in doubt and pending."""
        self._set(key, state=state)

    def finished(self, key: int, outcomes: Iterable[Outcome], now: float) -> dict[str, int]:
        """Note what dotdigital said of every row of an import.

        Args:
            key: the import's number.
            outcomes: what was said.
            now: seconds since 1970.

        Returns:
            Rejections that are news: code -> contacts that were not rejected with it before.
        """
        rows = []
        for one in outcomes:
            reason = (one.reason or "").lower()
            rows.append(
                (one.email, one.verdict.value, one.contact_id, one.reason, reason in PERMANENT, reason == "invalidcontactid")
            )
        with self._engine.begin() as connection:
            bulk.stage(connection, told, rows)
            connection.execute(self._confirm(key))
            news: dict[str, int] = {}
            if any(row[1] == Verdict.REFUSED for row in rows):
                news = self._new_rejections(connection)
                connection.execute(self._refuse(key, now))
            noted = told.c.verdict.in_((Verdict.REFUSED, Verdict.UNACCOUNTED))
            # of an import that is finished, whatever is not noted as something else was accepted
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c["import"] == key, bulk.matching(deliveries.c.email, told, noted))
                .values(outcome=told.c.verdict, reason=told.c.reason),
            )
            connection.execute(sa.update(imports).where(imports.c.id == key).values(state=State.FINISHED))
        return news

    def open_imports(self) -> list[OpenImport]:
        """Give the imports of earlier runs that dotdigital may still be working on, oldest first."""
        rows = sa.select(sa.func.count()).where(deliveries.c["import"] == imports.c.id).scalar_subquery()
        query = (
            sa.select(imports.c.id, imports.c.import_id, imports.c.attempt, rows)
            .where(imports.c.scope == self._scope, imports.c.state == State.OPEN)
            .order_by(imports.c.id)
        )
        with self._engine.begin() as connection:
            # submitted, and its id never learnt: it may run or not, and its rows are sent again
            connection.execute(
                sa.update(imports)
                .where(imports.c.scope == self._scope, imports.c.state == State.SUBMITTING)
                .values(state=State.LOST),
            )
            return [OpenImport(*row) for row in connection.execute(query)]

    def rows_of(self, key: int) -> list[Row]:
        """Give the rows of an import."""
        query = sa.select(deliveries.c.email, deliveries.c.contact_id, deliveries.c.before, deliveries.c.after).where(
            deliveries.c["import"] == key
        )
        with self._engine.begin() as connection:
            return [Row(*row) for row in connection.execute(query).all()]

    def before_images(self, run: int) -> dict[str, tuple[str | None, str]]:
        """Give what a run changed: address -> payload before its first delivery, payload of its last."""
        query = (
            sa.select(deliveries.c.email, deliveries.c.before, deliveries.c.after)
            .join(imports, imports.c.id == deliveries.c["import"])
            .where(imports.c.scope == self._scope, imports.c.run == run)
            .where(deliveries.c.outcome.is_distinct_from(Verdict.REFUSED))
            .order_by(imports.c.id)
        )
        found: dict[str, tuple[str | None, str]] = {}
        with self._engine.begin() as connection:
            for email, before, after in connection.execute(query):
                found[email] = (found[email][0] if email in found else before, after)
        return found

    def rejected(self) -> Iterator[tuple[str, str, str]]:
        """Return the contacts whose last delivery was rejected: address, JSON array of names, dotdigital's code."""
        query = (
            sa.select(contacts.c.email, contacts.c.names, contacts.c.refusal)
            .where(contacts.c.scope == self._scope, contacts.c.refusal.is_not(None), contacts.c.names.is_not(None))
            .order_by(contacts.c.email)
        )
        with self._engine.connect() as connection:
            yield from (tuple(row) for row in connection.execute(query))

    def finish_run(self, outcome: str, segments: str | None) -> None:
        """Note how the run ended, and the contacts of each segment where it delivered them."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(runs).where(runs.c.id == self.run).values(outcome=outcome, segments=segments),
            )

    def _set(self, key: int, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(imports).where(imports.c.id == key).values(**values))

    def _told(self, key: int, *verdicts: Verdict) -> sa.Update:
        return sa.update(contacts).where(
            contacts.c.scope == self._scope,
            bulk.matching(contacts.c.email, told, told.c.verdict.in_(verdicts)),
            deliveries.c["import"] == key,
            deliveries.c.email == told.c.email,
        )

    def _new_rejections(self, connection: sa.Connection) -> dict[str, int]:
        query = (
            sa.select(sa.func.coalesce(told.c.reason, "Unknown"), sa.func.count())
            .select_from(contacts)
            .join(told, bulk.matching(contacts.c.email, told, told.c.verdict == Verdict.REFUSED))
            .where(contacts.c.scope == self._scope)
            .where(contacts.c.refusal.is_distinct_from(sa.func.coalesce(told.c.reason, "Unknown")))
            .group_by(told.c.reason)
        )
        return {code: count for code, count in connection.execute(query)}

    def _confirm(self, key: int) -> sa.Update:
        return self._told(key, Verdict.CREATED, Verdict.UPDATED).values(
            confirmed=deliveries.c.after,
            in_doubt=False,
            held=None,
            refused=None,
            refusal=None,
            refusals=0,
            retry_at=None,
            contact_id=sa.func.coalesce(told.c.contact_id, contacts.c.contact_id),
            # a row that was matched by id named no address book
            listed=contacts.c.listed | deliveries.c.contact_id.is_(None),
            # another value may have been asked for since it was sent
            pending=(contacts.c.desired != deliveries.c.after)
            | ~(contacts.c.listed | deliveries.c.contact_id.is_(None) | contacts.c.vanished),
        )

    def _refuse(self, key: int, now: float) -> sa.Update:
        pauses = [(contacts.c.refusals == times, now + hours * 3600.0) for times, hours in enumerate(RETRY_PAUSES)]
        later = sa.case(*pauses, else_=now + RETRY_PAUSES[-1] * 3600.0)
        return self._told(key, Verdict.REFUSED).values(
            in_doubt=False,
            # another contact may have come into the place of one that is gone
            contact_id=sa.case((~told.c.gone, contacts.c.contact_id)),
            confirmed=sa.case((~told.c.gone, contacts.c.confirmed)),
            refused=deliveries.c.after,
            refusal=sa.func.coalesce(told.c.reason, "Unknown"),
            refusals=contacts.c.refusals + 1,
            retry_at=sa.case((~told.c.final, later)),
            pending=contacts.c.desired != deliveries.c.after,
        )


def latest_segments(connection: sa.Connection, scope: int) -> str | None:
    """Give the contacts per label of the last run that was delivered, as JSON."""
    query = (
        sa.select(runs.c.segments).where(runs.c.scope == scope, runs.c.segments.is_not(None)).order_by(runs.c.id.desc()).limit(1)
    )
    found: str | None = connection.scalar(query)
    return found


def begin_run(connection: sa.Connection, scope: int, started_at: str) -> int:
    """Open a run; give its number."""
    result: sa.CursorResult[Any] = connection.execute(sa.insert(runs).values(scope=scope, started_at=started_at))
    (key,) = result.inserted_primary_key or (0,)
    return int(key)


def end_run(connection: sa.Connection, run: int, outcome: str) -> None:
    """Note how a run ended that delivered nothing."""
    connection.execute(sa.update(runs).where(runs.c.id == run).values(outcome=outcome))
