"""The description of a snapshot, stored as JSON beside its Parquet file."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a snapshot.

    Attributes:
        id: the snapshot's name, as bookmarks hold it.
        sequence: position in the order of the folder's snapshots.
        exported_at: when the export was made, or fetched if Nosto does not send the time.
        export_digest: SHA-256 of the export, hexadecimal.
        parquet_digest: SHA-256 of the Parquet file, hexadecimal.
        etag: the server's ETag.
        last_modified: the server's Last-Modified.
        identifier: the key that held the segment names.
        include: patterns of the chosen segments.
        exclude: patterns of the excluded segments.
        lines: lines of the export.
        invalid: malformed lines.
        duplicates: lines whose address an earlier line had already.
        contacts: distinct addresses.
        counts: segment name -> number of contacts, for every segment of the export, chosen or not.
        catalogue: ID -> name of Nosto's segments; empty if the catalogue was not read.
        chosen: the chosen segments among all that were known to exist, including those without contacts.
        exact: the patterns with brackets that were the name of a segment.
        maps: what identifies the stream maps with which the contacts were emitted; empty without maps, None if none were emitted.
        is_complete: whether no contact is missing because its line was malformed.
    """

    id: str
    sequence: int
    exported_at: Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    export_digest: str
    parquet_digest: str
    etag: str | None
    last_modified: str | None
    identifier: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    lines: int
    invalid: int
    duplicates: int = 0
    contacts: int
    counts: dict[str, int]
    catalogue: dict[str, str]
    chosen: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    maps: str | None = ""
    is_complete: bool = True

    @property
    def segment_names(self) -> set[str]:
        """Every segment that was known to exist."""
        return {*self.counts, *self.catalogue.values(), *self.chosen, *self.exact}

    @property
    def timestamp(self) -> str:
        """When the export was made: ISO 8601 in UTC, to the second."""
        return self.exported_at.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
