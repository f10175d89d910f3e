"""Imports as dotdigital defines them: rows and bodies of a call, and how a report is matched with the rows sent. No I/O."""

from __future__ import annotations

import collections
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.models import Row, RowResult, Verdict, main_code
from target_dotdigital.text import normalise, spelled_alike

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from target_dotdigital.dotdigital.messages import ContactReference, ImportStatus
    from target_dotdigital.models import Row

_payload = msgspec.json.Decoder(dict[str, str]).decode
MAX_BODY_BYTES = 40_000_000
HEAD, TAIL = b'{"mergeOption":"overwrite","contacts":[', b"]}"


class WireRow(msgspec.Struct, omit_defaults=True, rename="camel"):
    """One contact in an import. By design there is no member for consent, status, opt-in or preferences."""

    match_identifier: str
    identifiers: dict[str, str | int]
    data_fields: dict[str, str | None]
    lists: list[int] | None = None


@dataclass(frozen=True, slots=True)
class RowEncoder:
    """Encodes rows as JSON.

    Args:
        book: ID of the address book; None adds contacts to no address book.
        spelled: configured data field -> name as the account spells it.
        field: data field that is part of every row.
        stamp: data field and value that record when labels were written.
    """

    book: int | None
    spelled: Mapping[str, str]
    field: str
    stamp: tuple[str, str] | None = None

    def encode(self, row: Row) -> bytes:
        """Return a row's JSON; a field that has to become empty is sent as null, which clears it."""
        spelled = self.spelled
        values: dict[str, str | None] = {spelled[name]: value for name, value in _payload(row.after).items()}
        # if the contact's current values are unknown, every label field of the account is set or cleared
        for name in (self.field, *_payload(row.before)) if row.before is not None else spelled:
            if name in spelled:
                values.setdefault(spelled[name], None)
        if self.stamp is not None:
            values[self.stamp[0]] = self.stamp[1]
        if row.contact_id is not None:
            return msgspec.json.encode(WireRow("contactId", {"contactId": row.contact_id}, values))
        lists = [self.book] if self.book is not None else None
        return msgspec.json.encode(WireRow("email", {"email": row.email}, values, lists))


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of one import, each with its JSON."""

    rows: list[Row]
    encoded: list[bytes]


def body(chunk: Chunk) -> bytes:
    """Return the body of an import call."""
    return HEAD + b",".join(chunk.encoded) + TAIL


def chunks(rows: Iterable[Row], shape: RowEncoder, most: int, most_bytes: int = MAX_BODY_BYTES) -> Iterator[Chunk]:
    """Group rows into chunks of at most `most` rows and `most_bytes` bytes of body."""
    chunk = Chunk([], [])
    size = len(HEAD) + len(TAIL)
    for row in rows:
        encoded = shape.encode(row)
        if chunk.rows and (len(chunk.rows) >= most or size + len(encoded) + 1 > most_bytes):
            yield chunk
            chunk, size = Chunk([], []), len(HEAD) + len(TAIL)
        chunk.rows.append(row)
        chunk.encoded.append(encoded)
        size += len(encoded) + 1
    if chunk.rows:
        yield chunk


def prefetch(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Prepare the next chunk in a background thread while the current one is sent."""
    with ThreadPoolExecutor(1, "chunks") as pool:
        prepared = pool.submit(next, chunks, None)
        while (chunk := prepared.result()) is not None:
            prepared = pool.submit(next, chunks, None)
            yield chunk


# dotdigital's code for rows that repeat a contact of the same import (docs/assumptions.md, dotdigital 5)
DUPLICATE = "duplicateIdentifier"


def match_report(
    rows: Sequence[Row], status: ImportStatus, ids_of: Callable[[Collection[str]], Mapping[str, int]] = lambda _emails: {}
) -> list[RowResult]:
    """Return the outcome of each row that was sent, from an import's report.

    The report may list a row both as imported and as failed, if only an attachment of the row failed. Such a row counts as
    imported, and keeps the reason (docs/assumptions.md, dotdigital 5). If the report has another address for the ID of a row, the outcome
    is unconfirmed. A row whose address the report spells differently is matched by the ASCII form of its domain, and then by the contact
    ID that was known before.

    Args:
        rows: the rows.
        status: the report.
        ids_of: returns the known contact IDs of addresses.
    """
    by_email: dict[str, RowResult] = {}
    by_id: dict[int, RowResult] = {}

    def note(verdict: Verdict, reference: ContactReference, reason: str | None = None) -> None:
        email, number = normalise(reference.identifiers.email or ""), reference.contact_id
        known = by_email.get(email) or (by_id.get(number) if number is not None else None)
        email = email or (known.email if known else "")
        reasons = [code for code in (reason, known.reason if known else None) if code]
        result = RowResult(email, verdict, number, main_code(reasons) if reasons else None)
        if email:
            by_email[email] = result
        if number is not None:
            by_id[number] = result

    for failure in status.failures or ():
        note(Verdict.REJECTED, failure, main_code(cause.failure_code for cause in failure.failures))
    for verdict, references in ((Verdict.UPDATED, status.updated), (Verdict.CREATED, status.created)):
        for reference in references or ():
            note(verdict, reference)
    found = [_outcome(row, by_id.get(row.contact_id) if row.contact_id is not None else None, by_email) for row in rows]
    missing = {result.email for result in found if result.verdict is Verdict.UNCONFIRMED and result.other_email is None}
    if not missing:
        return found
    others = _respelled(rows, missing, by_email) | _by_known_id(rows, by_id, ids_of(missing))
    return [others.get(result.email, result) for result in found]


def _outcome(row: Row, named: RowResult | None, by_email: Mapping[str, RowResult]) -> RowResult:
    """Return the outcome of one row.

    Args:
        row: the row.
        named: the report's result for its contact ID.
        by_email: results of the report, by address.
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
    """Return the outcomes of rows whose address the report spells differently, by the address as it was sent.

    If the report has one address for several rows, dotdigital treats them as one contact. The row with this spelling counts, or else the
    last row; the other rows are duplicates.
    """
    sent, reported = collections.defaultdict(list), collections.defaultdict(list)
    for row in rows:
        sent[spelled_alike(row.email)].append(row.email)
    for email, result in by_email.items():
        reported[spelled_alike(email)].append(result)
    found = {}
    for email in missing:
        form = spelled_alike(email)
        if len(results := reported.get(form, [])) == 1:
            is_duplicate = results[0].email in sent[form] or email != sent[form][-1]
            found[email] = RowResult(email, Verdict.REJECTED, reason=DUPLICATE) if is_duplicate else _as_sent(email, results[0])
    return found


def _by_known_id(rows: Sequence[Row], by_id: Mapping[int, RowResult], known: Mapping[str, int]) -> dict[str, RowResult]:
    """Return the outcomes of rows that the report lists by contact ID alone; an ID that several rows share is ambiguous.

    Args:
        rows: the rows.
        by_id: results of the report, by contact ID.
        known: the contact IDs of addresses that are missing in the report.
    """
    shared = collections.Counter([*known.values(), *(row.contact_id for row in rows)])
    return {
        email: RowResult(email, result.verdict, number, result.reason)
        for email, number in known.items()
        if shared[number] == 1 and (result := by_id.get(number)) is not None and not result.email
    }


def _as_sent(email: str, found: RowResult) -> RowResult:
    return RowResult(email, found.verdict, found.contact_id, found.reason, is_respelled=True)
