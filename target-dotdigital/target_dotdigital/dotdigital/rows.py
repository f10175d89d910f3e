"""Contacts on the wire: the one form in which this target can speak of a contact. Pure: rows in, JSON out."""

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


class WireRow(msgspec.Struct, omit_defaults=True):
    """One contact on the wire. Nothing else can be said: no consent, no status, no opt-in, no preference."""

    matchIdentifier: str  # noqa: N815 - dotdigital's spelling
    identifiers: dict[str, str | int]
    dataFields: dict[str, str | None]  # noqa: N815 - dotdigital's spelling
    lists: list[int] | None = None


@dataclass(frozen=True, slots=True)
class RowEncoder:
    """How rows look on the wire.

    Args:
        book: id of the address book; None puts contacts into none.
        spelled: data field as configured -> as the account spells it.
        field: the data field that every row names.
        stamp: data field and value that tell when labels were written.
    """

    book: int | None
    spelled: Mapping[str, str]
    field: str
    stamp: tuple[str, str] | None = None

    def encode(self, row: Row) -> bytes:
        """Give a row's JSON. A field that was filled and is to be empty is sent as null, which clears it."""
        spelled = self.spelled
        values: dict[str, str | None] = {spelled[name]: value for name, value in _payload(row.after).items()}
        # where it is not known what the contact holds, every field of labels that the account has is emptied or filled
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
    """Rows that go into one import, each with its JSON."""

    rows: list[Row]
    encoded: list[bytes]


def body(chunk: Chunk) -> bytes:
    """Give the body of an import call."""
    return HEAD + b",".join(chunk.encoded) + TAIL


def chunks(rows: Iterable[Row], shape: RowEncoder, most: int, most_bytes: int = MAX_BODY_BYTES) -> Iterator[Chunk]:
    """Group rows so that no import has more than `most` of them, or a body of more than `most_bytes`."""
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
    """Prepare each chunk in a thread of its own while the one before it is sent."""
    with ThreadPoolExecutor(1, "chunks") as pool:
        prepared = pool.submit(next, chunks, None)
        while (chunk := prepared.result()) is not None:
            prepared = pool.submit(next, chunks, None)
            yield chunk
