"""What the check has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_nosto_segments.nosto.urls import is_http

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    from tap_nosto_segments.errors import CatalogueError, TapError
    from tap_nosto_segments.nosto.exchange import Exchange
    from tap_nosto_segments.nosto.export import Export
    from tap_nosto_segments.settings import Settings
    from tap_nosto_segments.snapshots.head import Head
    from tap_nosto_segments.snapshots.manifest import Manifest
    from tap_nosto_segments.snapshots.parser import ParsedExport


@dataclass(frozen=True, slots=True)
class Download:
    """How the export arrived.

    Args:
        exchanges: the responses of the last attempt; none if nothing answered, or if the export is not fetched over HTTP.
        export: the export; None if it did not arrive.
        lines_so_far: complete lines that had arrived when the download failed.
        is_unchanged_recognised: whether a conditional request was answered with 304; None if it was not sent.
        failure: why the export did not arrive, or is damaged.
    """

    exchanges: tuple[Exchange, ...]
    export: Export | None
    lines_so_far: int
    is_unchanged_recognised: bool | None
    failure: TapError | None


@dataclass(frozen=True, slots=True)
class Content:
    """What the export holds.

    Args:
        head: its first lines.
        parsed: its numbers; None if it cannot be read.
        without_segments: contacts that are in no segment.
        unreadable: why it cannot be read.
    """

    head: Head
    parsed: ParsedExport | None
    without_segments: int
    unreadable: TapError | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the check has seen.

    Args:
        settings: the settings.
        now: when the check started, in UTC.
        download: how the export arrived.
        content: what it holds; None if it did not arrive, or is not an export.
        catalogue: ID -> name of Nosto's segments; empty if unknown.
        catalogue_error: why the catalogue could not be read.
        base: the snapshot that a run would compare with; None if there is none.
        newest: the snapshot that was written last; None if there is none.
        snapshots: number of snapshots.
        failure: why a run would stop; None if it would get past its guards.
    """

    settings: Settings
    now: datetime.datetime
    download: Download
    content: Content | None
    catalogue: Mapping[str, str]
    catalogue_error: CatalogueError | None
    base: Manifest | None
    newest: Manifest | None
    snapshots: int
    failure: TapError | None

    @property
    def is_http(self) -> bool:
        """Whether the export is fetched over HTTP."""
        return is_http(self.settings.export_url)

    @property
    def last(self) -> Exchange | None:
        """The last response to the request for the export."""
        return self.download.exchanges[-1] if self.download.exchanges else None

    @property
    def known_names(self) -> set[str]:
        """Every segment known to exist."""
        return {*self.counts, *self.catalogue.values(), *(self.base.segment_names if self.base else ())}

    @property
    def counts(self) -> Mapping[str, int]:
        """Segment name -> number of contacts, for every segment in the export."""
        return self.content.parsed.counts if self.content and self.content.parsed else {}
