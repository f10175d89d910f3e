"""An export that has been fetched and parsed, before the guards have accepted it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_nosto_segments.nosto.catalogue import renamed_segments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tap_nosto_segments.nosto.export import Export
    from tap_nosto_segments.settings import Settings
    from tap_nosto_segments.snapshots.manifest import Manifest
    from tap_nosto_segments.snapshots.parser import ParsedExport


@dataclass(frozen=True, slots=True)
class Candidate:
    """A parsed export and what it is compared with.

    Args:
        parsed: the export in numbers.
        digest: SHA-256 of the export, hexadecimal.
        exported_at: when the export was made, or fetched if Nosto does not send the time.
        catalogue: ID -> name of Nosto's segments; empty if unknown.
        base: the snapshot that the bookmark names, else the newest; None if there is none.
        newest: the snapshot that was written last; None if there is none.
    """

    parsed: ParsedExport
    digest: str
    exported_at: datetime.datetime
    catalogue: Mapping[str, str]
    base: Manifest | None
    newest: Manifest | None

    @property
    def renamed(self) -> dict[str, str]:
        """The segments that were renamed since the base: old name -> new name."""
        return renamed_segments(self.base.catalogue, self.catalogue) if self.base else {}

    @property
    def known_names(self) -> set[str]:
        """Every segment known to exist."""
        return {*self.parsed.counts, *self.catalogue.values(), *(self.base.segment_names if self.base else ())}


def match_catalogue(catalogue: Mapping[str, str], base: Manifest | None, counts: Mapping[str, int]) -> dict[str, str]:
    """Return the catalogue as it was when the export was made.

    The catalogue is current, and the export up to a day old: a segment that was renamed in between keeps its old name here, so that
    its renaming is recognised with the first export that has the new one.

    Args:
        catalogue: ID -> name of Nosto's segments.
        base: the snapshot that the export is compared with.
        counts: segment name -> number of contacts, for every segment in the export.
    """
    before = base.catalogue if base else {}
    return {key: before[key] if before.get(key) in counts and name not in counts else name for key, name in catalogue.items()}


def date_export(export: Export, newest: Manifest | None, now: datetime.datetime) -> datetime.datetime:
    """Return when the export was made; if Nosto does not say so, the current time.

    Args:
        export: the export.
        newest: the snapshot that was written last.
        now: the current time in UTC.
    """
    if export.made_at is not None:
        return export.made_at.replace(microsecond=0)
    now = now.replace(microsecond=0)
    # this is our time, not Nosto's: the export must not look old only because our clock was set back
    return max(now, newest.exported_at + datetime.timedelta(seconds=1)) if newest else now


def has_same_selection(settings: Settings, maps: str | None, manifest: Manifest) -> bool:
    """Return whether a snapshot was made with the segments, the identifier and the stream maps that the settings choose now.

    Args:
        settings: the settings.
        maps: what identifies the stream maps of the contacts; None if no contacts are emitted.
        manifest: the snapshot.
    """
    selection = settings.selection
    return (
        (manifest.include, manifest.exclude) == (selection.include, selection.exclude)
        and settings.segment_identifier in {None, manifest.identifier}
        and maps in {None, manifest.maps}
    )
