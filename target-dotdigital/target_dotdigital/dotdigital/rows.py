"""Encodes rows as the JSON of an import call. No I/O."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from target_dotdigital.records import Row

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
