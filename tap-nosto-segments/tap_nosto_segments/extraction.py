"""One run: fetch the export, check it, store it as a snapshot, and prepare its comparison with earlier ones."""

from __future__ import annotations

import contextlib
import datetime
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tap_nosto_segments import guards
from tap_nosto_segments.errors import CatalogueError, SnapshotError
from tap_nosto_segments.guards import Candidate, date_export, has_same_selection, match_catalogue
from tap_nosto_segments.nosto.catalogue import read_catalogue
from tap_nosto_segments.nosto.export import Export, Validators, fetch_export
from tap_nosto_segments.snapshots.database import connect, explain_storage_errors
from tap_nosto_segments.snapshots.diff import SnapshotDiff
from tap_nosto_segments.snapshots.parser import (
    ParsedExport,
    keep_unknown_contacts,
    parse_export,
    require_complete_last_line,
    require_json_lines,
    write_contacts,
)
from tap_nosto_segments.snapshots.store import Manifest, SnapshotStore, open_store
from tap_nosto_segments.text import nearest_name, shown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import duckdb

    from tap_nosto_segments.nosto.client import NostoClient
    from tap_nosto_segments.settings import Selection, Settings

LOGGER = logging.getLogger("tap-nosto-segments")
MAX_UNDATED_AGE = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The result of a run's extraction, shared by its streams.

    Args:
        current: the current snapshot.
        diff: its comparison with earlier ones.
        selection: the chosen segments.
        catalogue_error: why Nosto's catalogue could not be read; None if it was read, or not requested.
    """

    current: Manifest
    diff: SnapshotDiff
    selection: Selection
    catalogue_error: CatalogueError | None


@contextlib.contextmanager
def open_extraction(
    settings: Settings,
    client: NostoClient,
    now: Callable[[], datetime.datetime],
    *,
    maps: str | None,
    bookmarks: Sequence[str | None],
) -> Iterator[Extraction]:
    """Fetch the export and store it as a snapshot, unless the newest snapshot is of the same export.

    The block owns the working folder: its end deletes it.

    Args:
        settings: the settings.
        client: the client for Nosto.
        now: injectable clock, in UTC.
        maps: digest of the stream maps of the contacts; None if no contacts are emitted.
        bookmarks: the snapshot IDs in the bookmarks of the selected streams.

    Raises:
        TapError: the run cannot continue; nothing was emitted.
    """
    store = open_store(settings.snapshot_uri)
    if orphans := store.delete_orphans(now()):
        LOGGER.info("Snapshots: %d files that a killed run left behind deleted", orphans)
    with contextlib.ExitStack() as stack:
        with explain_storage_errors("stored"):
            name = tempfile.TemporaryDirectory(prefix="tap-nosto-segments-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(name))
            database = connect(folder)
            resolved = _Run(settings, client, now, maps, bookmarks, store, folder, database).resolve_snapshot()
        selection = settings.selection.among(resolved.manifest.segment_names)
        _warn_of_unmatched_patterns(selection, resolved.manifest)
        _prune_snapshots(store, bookmarks, resolved.manifest)
        diff = SnapshotDiff(store, database, folder, resolved.manifest, resolved.path)
        yield Extraction(resolved.manifest, diff, selection, resolved.catalogue_error)


@dataclass(frozen=True, slots=True)
class _Resolved:
    """The current snapshot; with its Parquet file, if this run has made it."""

    manifest: Manifest
    path: Path | None = None
    catalogue_error: CatalogueError | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """The steps from Nosto's export to the current snapshot, with the arguments and resources of `open_extraction`."""

    settings: Settings
    client: NostoClient
    now: Callable[[], datetime.datetime]
    maps: str | None
    bookmarks: Sequence[str | None]
    store: SnapshotStore
    folder: Path
    database: duckdb.DuckDBPyConnection

    def resolve_snapshot(self) -> _Resolved:
        """Return the newest snapshot if the export has not changed since, and a new one otherwise."""
        newest = self.store.newest()
        # the download may be skipped only if every stream has acknowledged the newest snapshot, made with the same selection
        acknowledged = newest if all(self.store.get(bookmark) == newest for bookmark in self.bookmarks) else None
        export = fetch_export(self.client, self.settings.export_source, self.folder, self._trusted_validators(acknowledged))
        if export is None:
            if acknowledged is None:
                msg = "Nosto answered that the export has not changed, but there is no earlier one. Nothing was emitted. Run again."
                raise SnapshotError(msg)
            guards.require_fresh(self.settings, acknowledged.exported_at if acknowledged.last_modified else None, self.now())
            LOGGER.info("Export: unchanged since %s", acknowledged.exported_at.isoformat())
            return self._reuse_snapshot(acknowledged)
        require_json_lines(export.path, export.content_encoding)
        require_complete_last_line(export.path, export.size)
        made_at = export.made_at.isoformat() if export.made_at else "at an unknown time"
        LOGGER.info("Export: %d bytes, made %s", export.size, made_at)
        guards.require_fresh(self.settings, export.made_at, self.now())
        if newest is not None and newest.export_digest == export.digest and has_same_selection(self.settings, self.maps, newest):
            LOGGER.info("Export: identical to that of %s", newest.exported_at.isoformat())
            return self._reuse_snapshot(newest)
        return self._create_snapshot(export, self.store.base_of(self.bookmarks), newest)

    def _create_snapshot(self, export: Export, base: Manifest | None, newest: Manifest | None) -> _Resolved:
        settings = self.settings
        parsed = parse_export(self.database, export.path, settings.segment_identifier)
        export.path.unlink()
        known = base.catalogue if base else {}
        catalogue, catalogue_error = read_catalogue(self.client, settings.graphql_url, settings.api_token, known)
        if catalogue_error is not None:
            # the catalogue only serves to recognise renamed segments, so the contacts are emitted without it
            LOGGER.warning("%s The run continues without it, and does not recognise renamed segments.", catalogue_error)
        catalogue = match_catalogue(catalogue, base, parsed.counts)
        exported_at = date_export(export, newest, self.now())
        candidate = Candidate(parsed, export.digest, exported_at, catalogue, base, newest)
        guards.require_acceptable(settings, candidate, self.now().date())
        selection = settings.selection.among(candidate.known_names)
        _warn_of_renames(selection, candidate.renamed)
        kept_names, is_complete = self._keep_unknown_contacts(parsed, newest)
        path = self.folder / "snapshot.parquet"
        names = {*parsed.counts, *kept_names}
        chosen = selection.chosen(names)
        write_contacts(self.database, path, chosen, is_every_segment=len(chosen) == len(names) and not parsed.blank)
        manifest = self.store.add(
            path,
            lambda snapshot_id, sequence, parquet_digest: Manifest(
                id=snapshot_id,
                sequence=sequence,
                exported_at=exported_at,
                export_digest=export.digest,
                parquet_digest=parquet_digest,
                etag=export.validators.etag,
                last_modified=export.validators.last_modified,
                identifier=parsed.identifier,
                include=selection.include,
                exclude=selection.exclude,
                lines=parsed.lines,
                invalid=parsed.invalid,
                duplicates=parsed.duplicates,
                contacts=parsed.contacts,
                counts=dict(parsed.counts),
                catalogue=catalogue,
                chosen=tuple(selection.chosen(candidate.known_names)),
                exact=tuple(sorted(selection.exact)),
                maps=self.maps,
                is_complete=is_complete,
            ),
        )
        LOGGER.info(
            "Snapshot: %d contacts, %d of %d segments chosen, %d malformed lines skipped, %d duplicates merged",
            parsed.contacts,
            len(selection.chosen(parsed.counts)),
            len(parsed.counts),
            parsed.invalid,
            parsed.duplicates,
        )
        return _Resolved(manifest, path, catalogue_error)

    def _keep_unknown_contacts(self, parsed: ParsedExport, newest: Manifest | None) -> tuple[set[str], bool]:
        """Keep the newest snapshot's contacts whose lines in the export cannot be read.

        The bookmark's snapshot may have older segments of a contact than the newest one.

        Returns:
            The names of their segments, and whether no contact is missing now.
        """
        earlier = self.store.fetch(newest, self.folder) if parsed.invalid and newest is not None else None
        kept, names = keep_unknown_contacts(self.database, parsed, earlier)
        if parsed.invalid:
            LOGGER.warning(
                "%d of %d lines of the export are malformed, so nothing is known of their contacts. %d contacts keep the segments of the "
                "snapshot before%s.",
                parsed.invalid,
                parsed.lines,
                kept,
                ": no contact that is missing in the export counts as removed" if parsed.unreadable and earlier is not None else "",
            )
        if parsed.blank:
            LOGGER.warning(
                "%d contacts are in a segment whose name is blank: it can never be a label, so it is left out.", parsed.blank
            )
        return names, not parsed.invalid or (earlier is not None and newest is not None and newest.is_complete)

    def _reuse_snapshot(self, manifest: Manifest) -> _Resolved:
        selection = self.settings.selection.among(manifest.segment_names)
        guards.require_chosen_segment(selection, manifest.contacts, manifest.counts, manifest.segment_names)
        return _Resolved(manifest)

    def _trusted_validators(self, acknowledged: Manifest | None) -> Validators:
        """Return the validators of a conditional request; none if the whole export has to be downloaded."""
        if acknowledged is None or not has_same_selection(self.settings, self.maps, acknowledged):
            return Validators()
        # An ETag alone does not show whether the server still renews it, and Nosto makes a new export every day.
        if acknowledged.last_modified is None and self.now() - acknowledged.exported_at > MAX_UNDATED_AGE:
            return Validators()
        return Validators(acknowledged.etag, acknowledged.last_modified)


def _warn_of_unmatched_patterns(selection: Selection, current: Manifest) -> None:
    for setting, pattern in selection.unmatched_patterns(current.segment_names):
        nearest = nearest_name(pattern, current.segment_names)
        LOGGER.warning(
            "The pattern %s in %s matches no segment in Nosto, so it has no effect.%s Correct it, unless its segment is yet to be created "
            "or filled; patterns are case-sensitive, and brackets enclose a set of characters.",
            shown_name(pattern),
            setting,
            "" if nearest is None else f" The nearest name is {shown_name(nearest)}.",
        )


def _warn_of_renames(selection: Selection, renamed: Mapping[str, str]) -> None:
    for old, new in sorted(renamed.items()):
        if selection.chooses(old) or selection.chooses(new):
            LOGGER.warning(
                "Segment renamed in Nosto: %r is now %r. Its contacts get the new name in this run. Change what depends on the old name: "
                "dotdigital segments, exclusion rules, dynamic content, program start rules%s.",
                old,
                new,
                "" if selection.chooses(new) else ", and the patterns in segments, which do not choose the new name",
            )


def _prune_snapshots(store: SnapshotStore, bookmarks: Sequence[str | None], current: Manifest) -> None:
    """Delete the snapshots that no bookmark needs; keep all if a bookmark is unknown, or if no selected stream has one."""
    bookmarked = [manifest for manifest in map(store.get, bookmarks) if manifest]
    if bookmarks and len(bookmarked) == len(bookmarks) and (pruned := store.prune([*bookmarked, current])):
        LOGGER.info("Snapshots: %d older than the bookmark deleted", pruned)
