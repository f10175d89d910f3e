"""What deliveries did to contacts: sent, confirmed, rejected, held, released, forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contacts.pending import MAX_MEMBERSHIP_TRIES, NOT_REJECTED, is_pending, may_create
from target_dotdigital.ledger.tables import accepted_rows, contacts, deliveries, imports, row_results, scopes
from target_dotdigital.payloads import EMPTY
from target_dotdigital.records import Uploads, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Accepted = tuple[str, str, int | None, bool]  # address, payload, contact ID, whether the row was matched by address
# hours before a rejected contact is retried, by the number of consecutive rejections; the last value applies from then on
RETRY_PAUSES = (0, 20, 68, 164)


class ContactOutcomes:
    """Applies what became of deliveries to the contacts of one ledger scope, within one transaction.

    Args:
        connection: the transaction.
        scope: number of the ledger scope.
        uploads: which contacts are created.
    """

    def __init__(self, connection: sa.Connection, scope: int, uploads: Uploads) -> None:
        """Create the view of one scope's contacts."""
        self._uploads = uploads
        self._connection = connection
        self._mine = contacts.c.scope == scope
        self._scope = scope

    def mark_import_unknown(self, key: int) -> None:
        """Mark the contacts of an import whose result is not known and will not be: their labels are not known either."""
        self._mark_unknown(_sent_in(key))

    def mark_unconfirmed(self) -> None:
        """Mark the contacts among the staged results of an import that its report does not name."""
        self._mark_unknown(bulk.matching(contacts.c.email, row_results, row_results.c.verdict == Verdict.UNCONFIRMED))

    def hold(self, key: int) -> int:
        """Hold the contacts of an import that the Data Watchdog rejected, and return their number."""
        held = sa.update(contacts).where(self._mine, _sent_in(key)).values(held=key, pending=False, result_unknown=True)
        return self._connection.execute(held).rowcount

    def release_held(self) -> int:
        """Make held contacts pending again, and return their number."""
        held = sa.update(contacts).where(self._mine, contacts.c.held.is_not(None))
        return self._connection.execute(held.values(held=None, pending=is_pending(self._uploads, held=sa.null()))).rowcount

    def release_due(self, now: float) -> None:
        """Make rejected contacts pending whose pause is over.

        Args:
            now: seconds since 1970.
        """
        due = sa.update(contacts).where(self._mine, contacts.c.rejection.is_not(None), contacts.c.retry_at <= now)
        self._connection.execute(due.values(rejected=None, retry_at=None, pending=is_pending(self._uploads, rejected=sa.null())))

    def confirm(self, rows: Sequence[Accepted]) -> None:
        """Apply the rows of an import that created or updated a contact."""

        def values(given: Mapping[str, sa.ColumnElement[Any]]) -> dict[str, Any]:
            # rows matched by ID carry no address book
            joined = given["by_address"] & (contacts.c.membership_tries < MAX_MEMBERSHIP_TRIES)
            in_address_book = contacts.c.in_address_book | joined
            return {
                **NOT_REJECTED,
                "confirmed": given["payload"],
                "result_unknown": False,
                "held": None,
                "contact_id": sa.func.coalesce(given["contact_id"], contacts.c.contact_id),
                "in_address_book": in_address_book,
                # the desired labels may have changed since the row was sent
                "pending": is_pending(
                    self._uploads,
                    confirmed=given["payload"],
                    in_address_book=in_address_book,
                    result_unknown=sa.false(),
                    rejected=sa.null(),
                    held=sa.null(),
                ),
            }

        bulk.update_each(self._connection, contacts, self._mine, accepted_rows, values, rows)

    def count_created_again(self, created: Iterable[str], run: int) -> int:
        """Count the created contacts that were read back in this run.

        Such a contact was deleted meanwhile, or dotdigital takes two spellings of an address for two contacts.

        Args:
            created: addresses of the rows that created a contact.
            run: number of the run.
        """
        again = contacts.c.contact_id.is_not(None) & (contacts.c.checked_run == run)
        found = (
            sa.select(sa.func.count())
            .select_from(contacts)
            .where(self._mine, bulk.among(self._connection, contacts.c.email, created))
        )
        return self._connection.scalar(found.where(again)) or 0

    def mark_mistaken(self, emails: Sequence[str], others: Sequence[str], run: int, *, clears: bool) -> None:
        """Mark the contacts of rows that reached other contacts than they were meant for: what both hold is looked up.

        Another contact that the ledger does not have is added to it, because it holds labels that were sent to it by mistake.

        Args:
            emails: addresses of the rows.
            others: addresses of the contacts that they reached.
            run: number of the run.
            clears: whether contacts that are not in the source lose their labels; otherwise such a contact keeps what it holds.
        """
        if not others:
            return
        self._forget_held(bulk.among(self._connection, contacts.c.email, [*emails, *others]))
        known = sa.select(contacts.c.email).where(self._mine, bulk.among(self._connection, contacts.c.email, others))
        whole = self._connection.scalar(sa.select(scopes.c.whole).where(scopes.c.id == self._scope))
        new = {
            "scope": self._scope,
            "desired": EMPTY,
            "removed": True,
            "in_address_book": False,
            "result_unknown": True,
            # not before it was looked up
            "pending": False,
            "rejections": 0,
            "membership_tries": 0,
            "excluded": False,
            # labels that no run has desired are kept
            "changed_run": run if whole and clears else None,
        }
        rows = [(email, *new.values()) for email in set(others).difference(self._connection.scalars(known))]
        bulk.put(self._connection, contacts, rows, ("email", *new), replace=False)

    def mark_unverified(self) -> None:
        """Mark every contact of imports that were not verified, and forget its ID: what it holds is looked up."""
        unverified = sa.select(imports.c.id).where(imports.c.scope == self._scope, ~imports.c.verified)
        delivered = sa.select(deliveries.c.email).where(deliveries.c["import"].in_(unverified), deliveries.c.outcome.is_(None))
        self._forget_held(contacts.c.email.in_(delivered))

    def _forget_held(self, which: sa.ColumnElement[bool]) -> None:
        unknown: dict[str, Any] = {"confirmed": sa.null(), "in_address_book": sa.false(), "result_unknown": sa.true()}
        pending = is_pending(self._uploads, **unknown)
        self._connection.execute(sa.update(contacts).where(self._mine, which).values(contact_id=None, pending=pending, **unknown))

    def forget_gone(self, key: int) -> int:
        """Forget what dotdigital held of contacts whose ID it no longer knows, and return their number.

        Another contact may have the address by now, so it is looked up. Contacts that may be created were matched by ID only to
        restore them; for these, the row counts as rejected.
        """
        gone = self._of_verdict(key, Verdict.REJECTED).where(row_results.c.gone, ~may_create(self._uploads))
        absent: dict[str, Any] = {"confirmed": sa.null(), "in_address_book": sa.false(), "result_unknown": sa.false()}
        pending = is_pending(self._uploads, **absent)
        return self._connection.execute(gone.values(contact_id=None, pending=pending, **absent)).rowcount

    def reject(self, key: int, now: float) -> dict[str, int]:
        """Apply the rejected rows among the staged results of an import, except those that `forget_gone` handles.

        Args:
            key: number of the import.
            now: seconds since 1970.

        Returns:
            New rejections: code -> number of contacts that were not rejected with this code before.
        """
        reason = sa.func.coalesce(row_results.c.reason, "Unknown")
        query = (
            sa.select(reason, sa.func.count())
            .select_from(contacts)
            .join(row_results, bulk.matching(contacts.c.email, row_results, row_results.c.verdict == Verdict.REJECTED))
            .where(self._mine, contacts.c.rejection.is_distinct_from(reason), self._counts)
            .group_by(row_results.c.reason)
        )
        news = {code: count for code, count in self._connection.execute(query)}
        pauses = [(contacts.c.rejections == times, now + hours * 3600.0) for times, hours in enumerate(RETRY_PAUSES)]
        later = sa.case(*pauses, else_=now + RETRY_PAUSES[-1] * 3600.0)
        # if the contact was deleted, its ID and confirmed labels are no longer valid
        confirmed = sa.case((~row_results.c.gone, contacts.c.confirmed))
        rejected = (
            self._of_verdict(key, Verdict.REJECTED)
            .where(self._counts)
            .values(
                result_unknown=False,
                contact_id=sa.case((~row_results.c.gone, contacts.c.contact_id)),
                confirmed=confirmed,
                rejected=deliveries.c.after,
                rejection=reason,
                rejections=contacts.c.rejections + 1,
                rejected_since=sa.case((contacts.c.rejection == reason, contacts.c.rejected_since), else_=now),
                rejected_at=now,
                retry_at=sa.case((~row_results.c.final, later)),
                # the desired labels may have changed since the row was sent
                pending=is_pending(self._uploads, confirmed=confirmed, result_unknown=sa.false(), rejected=deliveries.c.after),
            )
        )
        self._connection.execute(rejected)
        return news

    @property
    def _counts(self) -> sa.ColumnElement[bool]:
        """The condition for rejected rows that count as rejected."""
        return ~row_results.c.gone | may_create(self._uploads)

    def _mark_unknown(self, *conditions: sa.ColumnElement[bool]) -> None:
        pending = is_pending(self._uploads, result_unknown=sa.true())
        self._connection.execute(sa.update(contacts).where(self._mine, *conditions).values(result_unknown=True, pending=pending))

    def _of_verdict(self, key: int, verdict: Verdict) -> sa.Update:
        return sa.update(contacts).where(
            self._mine,
            bulk.matching(contacts.c.email, row_results, row_results.c.verdict == verdict),
            deliveries.c["import"] == key,
            deliveries.c.email == row_results.c.email,
        )


def forget_address(connection: sa.Connection, email: str) -> tuple[int, dict[int, bool]]:
    """Delete an address from every ledger scope.

    Returns:
        The number of rows; and the scopes whose source may still have the contact, each with whether the result of a delivery of it
        is outstanding, so that only a complete input can tell what it should have.
    """
    c = contacts.c
    open_delivery = (
        sa.exists()
        .where(imports.c.scope == c.scope, imports.c.settled_run.is_(None) | imports.c.lost_at.is_not(None) | ~imports.c.verified)
        .where(deliveries.c["import"] == imports.c.id, deliveries.c.email == c.email)
    )
    outstanding = c.pending | c.result_unknown | c.held.is_not(None) | c.rejection.is_not(None) | open_delivery
    in_source = sa.select(c.scope, outstanding).where(c.email == email, ~c.removed, ~c.excluded)
    found = {scope: bool(is_outstanding) for scope, is_outstanding in connection.execute(in_source)}
    return connection.execute(sa.delete(contacts).where(c.email == email)).rowcount, found


def _sent_in(key: int) -> sa.ColumnElement[bool]:
    return contacts.c.email.in_(sa.select(deliveries.c.email).where(deliveries.c["import"] == key))
