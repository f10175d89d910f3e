"""What deliveries did to contacts: sent, confirmed, rejected, held, released, forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from target_dotdigital.ledger import bulk
from target_dotdigital.ledger.contacts.pending import is_pending, may_create
from target_dotdigital.ledger.tables import accepted_rows, contacts, deliveries, imports, row_results
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

    def doubt_import(self, key: int) -> None:
        """Mark the contacts of an import whose result is not known and will not be: their labels are not known either."""
        self._leave_in_doubt(_sent_in(key))

    def doubt_unconfirmed(self) -> None:
        """Mark the contacts among the staged results of an import that its report does not name."""
        self._leave_in_doubt(bulk.matching(contacts.c.email, row_results, row_results.c.verdict == Verdict.UNCONFIRMED))

    def hold(self, key: int) -> int:
        """Hold the contacts of an import that the Data Watchdog rejected, and return their number."""
        held = sa.update(contacts).where(self._mine, _sent_in(key)).values(held=key, pending=False, in_doubt=True)
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
            in_address_book = contacts.c.in_address_book | given["by_address"]
            return {
                "confirmed": given["payload"],
                "in_doubt": False,
                "held": None,
                "rejected": None,
                "rejection": None,
                "rejections": 0,
                "retry_at": None,
                "rejected_since": None,
                "rejected_at": None,
                "contact_id": sa.func.coalesce(given["contact_id"], contacts.c.contact_id),
                "in_address_book": in_address_book,
                # the desired labels may have changed since the row was sent
                "pending": (contacts.c.desired != given["payload"]) | (~in_address_book & may_create(self._uploads)),
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

    def doubt(self, emails: Sequence[str]) -> None:
        """Mark contacts as in doubt, and forget their IDs: they are looked up by address."""
        if emails:
            self._doubt(bulk.among(self._connection, contacts.c.email, emails))

    def doubt_unverified(self) -> None:
        """Mark every contact of imports that were not verified as in doubt, and forget its ID."""
        unverified = sa.select(imports.c.id).where(imports.c.scope == self._scope, ~imports.c.verified)
        delivered = sa.select(deliveries.c.email).where(deliveries.c["import"].in_(unverified), deliveries.c.outcome.is_(None))
        self._doubt(contacts.c.email.in_(delivered))

    def _doubt(self, which: sa.ColumnElement[bool]) -> None:
        doubted = sa.update(contacts).where(self._mine, which)
        self._connection.execute(doubted.values(contact_id=None, confirmed=None, in_doubt=True, pending=contacts.c.held.is_(None)))

    def forget_gone(self, key: int) -> int:
        """Forget what dotdigital held of contacts whose ID it no longer knows, and return their number.

        Another contact may have the address by now, so it is looked up. Contacts that may be created were matched by ID only to
        restore them; for these, the row counts as rejected.
        """
        gone = self._of_verdict(key, Verdict.REJECTED).where(row_results.c.gone, ~may_create(self._uploads))
        forgotten = gone.values(
            contact_id=None, confirmed=None, in_address_book=False, in_doubt=False, pending=contacts.c.held.is_(None)
        )
        return self._connection.execute(forgotten).rowcount

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
        rejected = (
            self._of_verdict(key, Verdict.REJECTED)
            .where(self._counts)
            .values(
                in_doubt=False,
                # if the contact was deleted, its ID and confirmed labels are no longer valid
                contact_id=sa.case((~row_results.c.gone, contacts.c.contact_id)),
                confirmed=sa.case((~row_results.c.gone, contacts.c.confirmed)),
                rejected=deliveries.c.after,
                rejection=reason,
                rejections=contacts.c.rejections + 1,
                rejected_since=sa.case((contacts.c.rejection == reason, contacts.c.rejected_since), else_=now),
                rejected_at=now,
                retry_at=sa.case((~row_results.c.final, later)),
                pending=contacts.c.desired != deliveries.c.after,
            )
        )
        self._connection.execute(rejected)
        return news

    @property
    def _counts(self) -> sa.ColumnElement[bool]:
        """The condition for rejected rows that count as rejected."""
        return ~row_results.c.gone | may_create(self._uploads)

    def _leave_in_doubt(self, *conditions: sa.ColumnElement[bool]) -> None:
        pending = is_pending(self._uploads, in_doubt=sa.true())
        self._connection.execute(sa.update(contacts).where(self._mine, *conditions).values(in_doubt=True, pending=pending))

    def _of_verdict(self, key: int, verdict: Verdict) -> sa.Update:
        return sa.update(contacts).where(
            self._mine,
            bulk.matching(contacts.c.email, row_results, row_results.c.verdict == verdict),
            deliveries.c["import"] == key,
            deliveries.c.email == row_results.c.email,
        )


def forget_address(connection: sa.Connection, email: str) -> int:
    """Delete an address from every ledger scope, and return the number of rows."""
    return connection.execute(sa.delete(contacts).where(contacts.c.email == email)).rowcount


def _sent_in(key: int) -> sa.ColumnElement[bool]:
    return contacts.c.email.in_(sa.select(deliveries.c.email).where(deliveries.c["import"] == key))
