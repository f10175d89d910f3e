"""One run: fetch the export, check it, store it as a snapshot, and prepare its comparison with earlier ones."""

from __future__ import annotations

import datetime
import logging
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tap_nosto_segments import guards
from tap_nosto_segments.errors import CatalogueError, SnapshotError
from tap_nosto_segments.nosto.catalogue import fetch_catalogue, renamed_segments
from tap_nosto_segments.nosto.credential import Credential
from tap_nosto_segments.nosto.export import Export, ExportSource, Validators, fetch_export
from tap_nosto_segments.snapshots.database import connect, explain_out_of_space
from tap_nosto_segments.snapshots.diff import SnapshotDiff
from tap_nosto_segments.snapshots.manifest import Manifest
from tap_nosto_segments.snapshots.parser import parse_export, require_complete_last_line, write_contacts
from tap_nosto_segments.snapshots.store import SnapshotStore, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import duckdb

    from tap_nosto_segments.nosto.client import NostoClient
    from tap_nosto_segments.settings import Selection, Settings

LOGGER = logging.getLogger("tap-nosto-segments")


@dataclass(frozen=True, slots=True, weakref_slot=True)
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


@dataclass(frozen=True, slots=True)
class _Workspace:
    """The resources of one extraction."""

    folder: Path
    database: duckdb.DuckDBPyConnection
    store: SnapshotStore


@dataclass(frozen=True, slots=True)
class _Resolved:
    """The current snapshot; with its Parquet file, if this run has made it."""

    manifest: Manifest
    path: Path | None = None
    catalogue_error: CatalogueError | None = None


class Extractor:
    """The way from Nosto's export to the current snapshot.

    Args:
        settings: the settings.
        client: the client for Nosto.
        now: injectable clock, in UTC.
    """

    def __init__(self, settings: Settings, client: NostoClient, now: Callable[[], datetime.datetime]) -> None:
        self._settings = settings
        self._client = client
        self._now = now

    def extract(self, bookmarks: Sequence[str | None]) -> Extraction:
        """Fetch the export and store it as a snapshot, unless the newest snapshot is of the same export.

        The working folder is deleted together with the result.

        Args:
            bookmarks: the snapshot IDs in the bookmarks of the selected streams.

        Raises:
            TapError: the run cannot continue; nothing was emitted.
        """
        store = open_store(self._settings.snapshot_uri)
        with explain_out_of_space("stored"):
            folder = Path(tempfile.mkdtemp(prefix="tap-nosto-segments-"))
        try:
            with explain_out_of_space("stored"):
                workspace = _Workspace(folder, connect(folder), store)
                resolved = self._resolve_snapshot(workspace, [store.get(bookmark) for bookmark in bookmarks])
            _warn_of_unmatched_patterns(self._settings.selection, resolved.manifest)
            _prune_snapshots(store, bookmarks, resolved.manifest)
            diff = SnapshotDiff(store, workspace.database, folder, resolved.manifest, resolved.path)
            extraction = Extraction(resolved.manifest, diff, self._settings.selection, resolved.catalogue_error)
            # the SDK has no hook for the end of a run
            weakref.finalize(extraction, shutil.rmtree, folder, ignore_errors=True)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return extraction

    def _resolve_snapshot(self, workspace: _Workspace, bookmarked: Sequence[Manifest | None]) -> _Resolved:
        """Return the newest snapshot if the export has not changed since, and a new one otherwise."""
        newest = workspace.store.newest()
        # the download may be skipped only if every stream has acknowledged the newest snapshot, made with the same selection
        acknowledged = newest if newest is not None and all(manifest == newest for manifest in bookmarked) else None
        is_reusable = acknowledged is not None and self._has_same_selection(acknowledged)
        known = Validators(acknowledged.etag, acknowledged.last_modified) if acknowledged and is_reusable else Validators()
        export = fetch_export(self._client, self._export_source(), workspace.folder, known)
        if export is None:
            if acknowledged is None:
                msg = "Nosto answered that the export has not changed, but there is no earlier one. Nothing was emitted. Run again."
                raise SnapshotError(msg)
            guards.require_fresh(self._settings, acknowledged.exported_at if acknowledged.last_modified else None, self._now())
            LOGGER.info("Export: unchanged since %s", acknowledged.exported_at.isoformat())
            return self._reuse_snapshot(acknowledged)
        require_complete_last_line(export.path, export.size)
        LOGGER.info(
            "Export: %d bytes, made %s", export.size, export.made_at.isoformat() if export.made_at else "at an unknown time"
        )
        guards.require_fresh(self._settings, export.made_at, self._now())
        if newest is not None and newest.export_digest == export.digest and self._has_same_selection(newest):
            LOGGER.info("Export: identical to that of %s", newest.exported_at.isoformat())
            return self._reuse_snapshot(newest)
        base = max((manifest for manifest in bookmarked if manifest), key=lambda manifest: manifest.sequence, default=newest)
        return self._create_snapshot(workspace, export, base, newest)

    def _create_snapshot(self, workspace: _Workspace, export: Export, base: Manifest | None, newest: Manifest | None) -> _Resolved:
        parsed = parse_export(workspace.database, export.path, self._settings.segment_identifier)
        export.path.unlink()
        guards.require_plausible_content(self._settings, parsed)
        exported_at = self._exported_at(export, newest)
        if newest is not None and export.digest != newest.export_digest:
            guards.require_newer(exported_at, newest)
        catalogue, catalogue_error = self._read_catalogue(base)
        if base is not None:
            renamed = renamed_segments(base.catalogue, catalogue)
            guards.require_size(self._settings, parsed, base, renamed, self._now().date())
            _warn_of_renames(self._settings.selection, renamed)
        known_names = {*parsed.counts, *catalogue.values(), *(base.segment_names if base else ())}
        guards.require_chosen_segment(self._settings.selection, parsed.contacts, parsed.counts, known_names)
        path = workspace.folder / "snapshot.parquet"
        chosen = self._settings.selection.chosen(parsed.counts)
        write_contacts(workspace.database, path, chosen, is_every_segment=len(chosen) == len(parsed.counts))
        manifest = workspace.store.add(
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
                include=self._settings.selection.include,
                exclude=self._settings.selection.exclude,
                lines=parsed.lines,
                invalid=parsed.invalid,
                duplicates=parsed.duplicates,
                contacts=parsed.contacts,
                counts=dict(parsed.counts),
                catalogue=catalogue,
                chosen=tuple(self._settings.selection.chosen(known_names)),
            ),
        )
        LOGGER.info(
            "Snapshot: %d contacts, %d of %d segments chosen, %d malformed lines skipped, %d duplicates merged",
            parsed.contacts,
            len(chosen),
            len(parsed.counts),
            parsed.invalid,
            parsed.duplicates,
        )
        return _Resolved(manifest, path, catalogue_error)

    def _reuse_snapshot(self, manifest: Manifest) -> _Resolved:
        guards.require_chosen_segment(self._settings.selection, manifest.contacts, manifest.counts, manifest.segment_names)
        return _Resolved(manifest)

    def _export_source(self) -> ExportSource:
        settings = self._settings
        credential = Credential(settings.export_url, settings.export_auth, settings.export_auth_name, settings.export_token)
        return ExportSource(settings.export_url, credential, settings.export_link_pointer)

    def _exported_at(self, export: Export, newest: Manifest | None) -> datetime.datetime:
        if export.made_at is not None:
            return export.made_at.replace(microsecond=0)
        now = self._now().replace(microsecond=0)
        # this is our time, not Nosto's: the export must not look old only because our clock was set back
        return max(now, newest.exported_at + datetime.timedelta(seconds=1)) if newest else now

    def _has_same_selection(self, manifest: Manifest) -> bool:
        selection = self._settings.selection
        identifiers = {None, manifest.identifier}
        return (manifest.include, manifest.exclude) == (selection.include, selection.exclude) and (
            self._settings.segment_identifier in identifiers
        )

    def _read_catalogue(self, base: Manifest | None) -> tuple[dict[str, str], CatalogueError | None]:
        """Return Nosto's segments as ID -> name, and why they could not be read; the base's are used then."""
        if self._settings.api_token is None:
            return {}, None
        try:
            return fetch_catalogue(self._client, self._settings.graphql_url, self._settings.api_token), None
        except CatalogueError as error:
            # the catalogue only serves to recognise renamed segments, so the contacts do not wait for it
            LOGGER.warning("%s The run continues without it, and does not recognise renamed segments.", error)
            return base.catalogue if base else {}, error


def _warn_of_unmatched_patterns(selection: Selection, current: Manifest) -> None:
    for pattern in selection.unmatched_patterns(current.segment_names):
        # "*" is right even if there are no segments
        if pattern != "*":
            LOGGER.warning(
                "The pattern %r in segments matches no segment in Nosto, so it has no effect. Correct it, unless its segment is yet to be "
                "created or filled; patterns are case-sensitive.",
                pattern,
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
    """Delete the snapshots that no bookmark needs; keep all if a bookmark is unknown."""
    bookmarked = [manifest for manifest in map(store.get, bookmarks) if manifest]
    if len(bookmarked) == len(bookmarks) and (pruned := store.prune([*bookmarked, current])):
        LOGGER.info("Snapshots: %d older than the bookmark deleted", pruned)
