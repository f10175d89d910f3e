"""The ledger's record of imports: what was sent, what it replaced, and what dotdigital said of every row."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.tables import contacts, deliveries, imports, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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


@dataclass(frozen=True, slots=True)
class Row:
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


@dataclass(frozen=True, slots=True)
class Outcome:
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
            connection.execute(
                sa.insert(deliveries),
                [{"import": key, "email": r.email, "contact_id": r.contact_id, "before": r.before, "after": r.after} for r in rows],
            )
            connection.execute(self._contacts(), [{"e": row.email} for row in rows])
        return int(key)

    def accepted(self, key: int, import_id: str) -> None:
        """Note dotdigital's id of an import."""
        self._set(key, import_id=import_id, state=State.OPEN)

    def abandoned(self, key: int, state: State) -> None:
        """Note that an import came to nothing, or that nobody knows; its rows stay in doubt and pending."""
        self._set(key, state=state)

    def finished(self, key: int, outcomes: Iterable[Outcome]) -> None:
        """Note what dotdigital said of every row of an import."""
        told = list(outcomes)
        confirmed = [{"k": key, "e": o.email, "i": o.contact_id} for o in told if o.verdict in {Verdict.CREATED, Verdict.UPDATED}]
        refused = [
            {
                "e": o.email,
                "c": o.reason,
                "k": key,
                "f": (o.reason or "").lower() in PERMANENT,
                "g": (o.reason or "").lower() == "invalidcontactid",
            }
            for o in told
            if o.verdict is Verdict.REFUSED
        ]
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c["import"] == key, deliveries.c.email == sa.bindparam("e"))
                .values(outcome=sa.bindparam("v"), reason=sa.bindparam("r")),
                [{"e": o.email, "v": o.verdict, "r": o.reason} for o in told],
            )
            if confirmed:
                connection.execute(self._confirm(), confirmed)
            if refused:
                connection.execute(self._refuse(), refused)
            connection.execute(sa.update(imports).where(imports.c.id == key).values(state=State.FINISHED))

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
            return [Row(*row) for row in connection.execute(query)]

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

    def refused(self) -> Iterator[tuple[str, str]]:
        """Give the contacts that this run's imports refused: address and JSON array of names."""
        query = (
            sa.select(deliveries.c.email, contacts.c.names)
            .join(imports, imports.c.id == deliveries.c["import"])
            .join(contacts, (contacts.c.scope == imports.c.scope) & (contacts.c.email == deliveries.c.email))
            .where(imports.c.scope == self._scope, imports.c.run == self.run)
            .where(deliveries.c.outcome == Verdict.REFUSED, contacts.c.names.is_not(None))
            .order_by(deliveries.c.email)
        )
        with self._engine.connect() as connection:
            yield from (tuple(row) for row in connection.execute(query))

    def finish_run(self, outcome: str, segments: str) -> None:
        """Note how the run ended."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(runs).where(runs.c.id == self.run).values(outcome=outcome, segments=segments),
            )

    def _set(self, key: int, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(imports).where(imports.c.id == key).values(**values))

    def _contacts(self) -> sa.Update:
        return (
            sa.update(contacts).where(contacts.c.scope == self._scope, contacts.c.email == sa.bindparam("e")).values(in_doubt=True)
        )

    def _confirm(self) -> sa.Update:
        sent = (
            sa.select(deliveries.c.after)
            .where(deliveries.c["import"] == sa.bindparam("k"), deliveries.c.email == contacts.c.email)
            .scalar_subquery()
        )
        return (
            sa.update(contacts)
            .where(contacts.c.scope == self._scope, contacts.c.email == sa.bindparam("e"))
            .values(
                confirmed=sent,
                contact_id=sa.func.coalesce(sa.bindparam("i", type_=sa.BigInteger), contacts.c.contact_id),
                listed=contacts.c.listed | ~contacts.c.vanished,
                in_doubt=False,
                refused=None,
                refusal=None,
                # another value may have been asked for since it was sent
                pending=contacts.c.desired != sent,
            )
        )

    def _refuse(self) -> sa.Update:
        sent = (
            sa.select(deliveries.c.after)
            .where(deliveries.c["import"] == sa.bindparam("k"), deliveries.c.email == contacts.c.email)
            .scalar_subquery()
        )
        final = sa.bindparam("f", type_=sa.Boolean)
        gone = sa.bindparam("g", type_=sa.Boolean)
        return (
            sa.update(contacts)
            .where(contacts.c.scope == self._scope, contacts.c.email == sa.bindparam("e"))
            .values(
                in_doubt=False,
                # the id leads nowhere any more; another contact may have come into its place
                contact_id=sa.case((~gone, contacts.c.contact_id)),
                refused=sa.case((final, sent)),
                refusal=sa.bindparam("c"),
                pending=sa.case((final, contacts.c.desired != sent), else_=sa.true()),
            )
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
