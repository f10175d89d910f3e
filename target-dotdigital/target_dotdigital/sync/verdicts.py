"""Matches an import's report with the rows that were sent. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.addresses import normalise
from target_dotdigital.ledger.codes import main_code
from target_dotdigital.records import Row, RowResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_dotdigital.dotdigital.messages import ContactReference, ImportStatus


def verdicts(rows: Sequence[Row], status: ImportStatus) -> list[RowResult]:
    """Return the outcome of each row that was sent, from an import's report.

    The report may list a row both as imported and as failed, if only an attachment of the row failed. Such a row counts as
    imported (contracts/dotdigital.md 4). If the report names another address for the ID of a row, the outcome is unconfirmed.
    """
    by_email: dict[str, RowResult] = {}
    by_id: dict[int, RowResult] = {}

    def note(verdict: Verdict, reference: ContactReference, reason: str | None = None) -> None:
        result = RowResult(normalise(reference.identifiers.email or ""), verdict, reference.contact_id, reason)
        if result.email:
            by_email[result.email] = result
        if result.contact_id is not None:
            by_id[result.contact_id] = result

    # reversed, so that the first of several failures of one row counts
    for failure in reversed(status.failures or ()):
        note(Verdict.REJECTED, failure, main_code(one.failure_code for one in failure.failures))
    for verdict, references in ((Verdict.UPDATED, status.updated), (Verdict.CREATED, status.created)):
        for reference in references or ():
            note(verdict, reference)
    return [_outcome(row, by_id.get(row.contact_id) if row.contact_id is not None else None, by_email) for row in rows]


def _outcome(row: Row, named: RowResult | None, by_email: Mapping[str, RowResult]) -> RowResult:
    """Return the outcome of one row.

    Args:
        row: the row.
        named: what the report says of its contact ID.
        by_email: what the report says, by address.
    """
    if named is not None and named.email not in {"", row.email} and named.verdict is not Verdict.REJECTED:
        return RowResult(row.email, Verdict.UNCONFIRMED, other_email=named.email)
    # a reference without a usable ID can still be matched by address
    found = named or by_email.get(row.email)
    return (
        RowResult(row.email, Verdict.UNCONFIRMED)
        if found is None
        else RowResult(row.email, found.verdict, found.contact_id, found.reason)
    )
