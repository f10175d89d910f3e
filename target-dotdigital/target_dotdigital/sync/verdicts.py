"""Matches an import's report with the rows that were sent. No I/O."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from target_dotdigital.addresses import normalise, spelled_alike
from target_dotdigital.records import Row, RowResult, Verdict, main_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_dotdigital.dotdigital.messages import ContactReference, ImportStatus


def verdicts(rows: Sequence[Row], status: ImportStatus) -> list[RowResult]:
    """Return the outcome of each row that was sent, from an import's report.

    The report may list a row both as imported and as failed, if only an attachment of the row failed. Such a row counts as
    imported, and keeps the reason (contracts/dotdigital.md 4). If the report names another address for the ID of a row, the outcome is
    unconfirmed. A row that the report does not name as it was sent is matched by the ASCII form of its domain.
    """
    by_email: dict[str, RowResult] = {}
    by_id: dict[int, RowResult] = {}

    def note(verdict: Verdict, reference: ContactReference, reason: str | None = None) -> None:
        email, number = normalise(reference.identifiers.email or ""), reference.contact_id
        known = by_email.get(email) or (by_id.get(number) if number is not None else None)
        reasons = [one for one in (reason, known.reason if known else None) if one]
        result = RowResult(email, verdict, number, main_code(reasons) if reasons else None)
        if email:
            by_email[email] = result
        if number is not None:
            by_id[number] = result

    for failure in status.failures or ():
        note(Verdict.REJECTED, failure, main_code(one.failure_code for one in failure.failures))
    for verdict, references in ((Verdict.UPDATED, status.updated), (Verdict.CREATED, status.created)):
        for reference in references or ():
            note(verdict, reference)
    found = [_outcome(row, by_id.get(row.contact_id) if row.contact_id is not None else None, by_email) for row in rows]
    missing = {one.email for one in found if one.verdict is Verdict.UNCONFIRMED and one.other_email is None}
    if not missing:
        return found
    respelled = _respelled(rows, missing, by_email)
    return [_as_sent(one.email, respelled[one.email]) if one.email in respelled else one for one in found]


def _outcome(row: Row, named: RowResult | None, by_email: Mapping[str, RowResult]) -> RowResult:
    """Return the outcome of one row.

    Args:
        row: the row.
        named: what the report says of its contact ID.
        by_email: what the report says, by address.
    """
    if named is not None and named.email not in {"", row.email} and named.verdict is not Verdict.REJECTED:
        if spelled_alike(named.email) == spelled_alike(row.email):
            return _as_sent(row.email, named)
        return RowResult(row.email, Verdict.UNCONFIRMED, other_email=named.email)
    # a reference without a usable ID can still be matched by address
    found = named or by_email.get(row.email)
    return (
        RowResult(row.email, Verdict.UNCONFIRMED)
        if found is None
        else RowResult(row.email, found.verdict, found.contact_id, found.reason)
    )


def _respelled(rows: Sequence[Row], missing: set[str], by_email: Mapping[str, RowResult]) -> dict[str, RowResult]:
    """Return what the report says of rows whose address it spells otherwise, by the address as it was sent.

    Only where one row and one address of the report have the same form: of two rows, the report may mean either.
    """
    sent = collections.Counter(spelled_alike(row.email) for row in rows)
    reported = collections.defaultdict(list)
    for email, result in by_email.items():
        reported[spelled_alike(email)].append(result)
    return {
        email: reported[form][0]
        for email in missing
        if sent[form := spelled_alike(email)] == 1 and len(reported.get(form, ())) == 1
    }


def _as_sent(email: str, found: RowResult) -> RowResult:
    return RowResult(email, found.verdict, found.contact_id, found.reason, is_respelled=True)
