"""One run: the export is fetched, proven, parsed, guarded and stored once; every stream then asks what changed for it."""

from __future__ import annotations

import datetime
import logging
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from tap_nosto_segments import catalogue, comparison, guards
from tap_nosto_segments.database import connect, literal, space_for
from tap_nosto_segments.differences import Differences
from tap_nosto_segments.errors import CatalogueError, SnapshotError
from tap_nosto_segments.export import Export, Validators, fetch
from tap_nosto_segments.parsing import Parsed, parse
from tap_nosto_segments.snapshots import Manifest, SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tap_nosto_segments.nosto import Nosto
    from tap_nosto_segments.settings import Settings

LOGGER = logging.getLogger("tap-nosto-segments")


class Extraction:
    """The current snapshot, and how it differs from the bookmarks'.

    Args:
        settings: the settings.
        bookmarks: the snapshot ids that the bookmarks of the selected streams name.
        nosto: the connection.
        now: the time, in UTC.
    """

    def __init__(
        self,
        settings: Settings,
        bookmarks: Sequence[str | None],
        nosto: Nosto,
        now: Callable[[], datetime.datetime],
    ) -> None:
        """Fetch the export and store its snapshot, unless it is the one that is known."""
        self._settings = settings
        self._now = now
        self._nosto = nosto
        self._store = SnapshotStore(settings.snapshot_uri)
        self.catalogue_error: CatalogueError | None = None
        with space_for("stored"):
            self._folder = Path(tempfile.mkdtemp(prefix="tap-nosto-segments-"))
        # the SDK tells nobody that a run has ended: whoever lets go of this object cleans up
        self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        try:
            with space_for("stored"):
                self._database = connect(self._folder)
                self.differences = Differences(self._store, self._database, self._folder)
                self.current = self._take([self._store.get(bookmark) for bookmark in bookmarks])
        except BaseException:
            self.close()
            raise
        self._warn_of_patterns()
        known = [manifest for manifest in map(self._store.get, bookmarks) if manifest]
        if pruned := self._store.prune([*known, self.current] if len(known) == len(bookmarks) else []):
            LOGGER.info("Snapshots: %d older than the bookmark removed", pruned)

    def _take(self, bookmarked: Sequence[Manifest | None]) -> Manifest:
        newest = self._store.newest()
        # only an export that every stream has acknowledged may be passed over unread
        acknowledged = newest if newest is not None and all(manifest == newest for manifest in bookmarked) else None
        reusable = acknowledged is not None and self._same_selection(acknowledged)
        known = Validators(acknowledged.etag, acknowledged.last_modified) if acknowledged and reusable else Validators()
        export = fetch(self._settings, self._folder, known, self._nosto)
        if export is None:
            if acknowledged is None:
                msg = "Nosto says that the export has not changed, but none is known. Nothing was emitted. Run again."
                raise SnapshotError(msg)
            guards.require_fresh(self._settings, acknowledged.exported_at if acknowledged.last_modified else None, self._now())
            LOGGER.info("Export: not changed at Nosto since %s", acknowledged.exported_at.isoformat())
            return self._chosen(acknowledged)
        LOGGER.info("Export: %d bytes, made %s", export.size, export.made.isoformat() if export.made else "at an unknown time")
        guards.require_fresh(self._settings, export.made, self._now())
        if newest is not None and newest.export_digest == export.digest and self._same_selection(newest):
            LOGGER.info("Export: the same as that of %s", newest.exported_at.isoformat())
            return self._chosen(newest)
        base = max((manifest for manifest in bookmarked if manifest), key=lambda manifest: manifest.sequence, default=newest)
        return self._snapshot(export, base, newest)

    def _snapshot(self, export: Export, base: Manifest | None, newest: Manifest | None) -> Manifest:
        parsed = parse(export.path, self._settings.segment_identifier, self._database)
        export.path.unlink()
        guards.require_sane(self._settings, parsed)
        exported_at = self._made(export, newest)
        if newest is not None and export.digest != newest.export_digest:
            guards.require_newer(exported_at, newest)
        segments = self._catalogue(base)
        if base is not None:
            renamed = catalogue.renamed(base.catalogue, segments)
            guards.require_size(self._settings, parsed, base, renamed, self._now().date())
            self._warn_of_renames(renamed)
        selection = self._settings.selection
        names = {*parsed.counts, *segments.values(), *(base.names if base else ())}
        guards.require_choice(selection, parsed.contacts, parsed.counts, names)
        chosen = selection.chosen(parsed.counts)
        path = self._folder / "snapshot.parquet"
        query = comparison.selected(chosen, everything=len(chosen) == len(parsed.counts))
        self._database.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
        self._database.execute("DROP VIEW contacts; DROP TABLE IF EXISTS doubled; DROP TABLE lines")
        manifest = self._store.add(path, lambda *place: self._manifest(export, parsed, exported_at, segments, names, place))
        self.differences.add_file(manifest, path)
        LOGGER.info(
            "Snapshot: %d contacts, %d of %d segments chosen, %d malformed lines left out, %d lines merged into another of the "
            "same address",
            parsed.contacts,
            len(chosen),
            len(parsed.counts),
            parsed.invalid,
            parsed.doubled,
        )
        return manifest

    def _chosen(self, known: Manifest) -> Manifest:
        """Return a snapshot that is emitted as it is, if the settings choose a segment of it."""
        guards.require_choice(self._settings.selection, known.contacts, known.counts, known.names)
        return known

    def _made(self, export: Export, newest: Manifest | None) -> datetime.datetime:
        if export.made is not None:
            return export.made.replace(microsecond=0)
        now = self._now().replace(microsecond=0)
        # the time is only ours, not Nosto's: a clock that was put back must not make the export look old
        return max(now, newest.exported_at + datetime.timedelta(seconds=1)) if newest else now

    def _same_selection(self, manifest: Manifest) -> bool:
        selection = self._settings.selection
        identifier = self._settings.segment_identifier
        return (manifest.include, manifest.exclude) == (selection.include, selection.exclude) and identifier in {
            None,
            manifest.identifier,
        }

    def _catalogue(self, base: Manifest | None) -> dict[str, str]:
        try:
            return catalogue.fetch_catalogue(self._settings, self._nosto)
        except CatalogueError as error:
            # ids only help to recognise renames; the contacts must not wait for them
            self.catalogue_error = error
            LOGGER.warning("%s The run goes on without it: renamed segments are not recognised today.", error)
            return base.catalogue if base else {}

    def _warn_of_patterns(self) -> None:
        for pattern in self._settings.selection.unmatched(self.current.names):
            # "*" is right whatever there is
            if pattern != "*":
                LOGGER.warning(
                    "The pattern %r in segments matches no segment of Nosto's: nothing is synchronised by it. Correct it, unless its "
                    "segment has yet to be made or to be filled; patterns are case-sensitive.",
                    pattern,
                )

    def _warn_of_renames(self, renamed: dict[str, str]) -> None:
        chooses = self._settings.selection.chooses
        for old, new in sorted(renamed.items()):
            if chooses(old) or chooses(new):
                LOGGER.warning(
                    "Segment renamed in Nosto: %r is now %r. Its contacts get the new name in this run; change what depends on the old "
                    "text: dotdigital segments, exclusion rules, dynamic content, program start rules%s.",
                    old,
                    new,
                    "" if chooses(new) else " - and the patterns in segments, which do not choose the new name",
                )

    def _manifest(
        self,
        export: Export,
        parsed: Parsed,
        exported_at: datetime.datetime,
        segments: dict[str, str],
        names: Collection[str],
        place: tuple[str, int, str],
    ) -> Manifest:
        return Manifest(
            id=place[0],
            sequence=place[1],
            exported_at=exported_at,
            export_digest=export.digest,
            parquet_digest=place[2],
            etag=export.validators.etag,
            last_modified=export.validators.last_modified,
            identifier=parsed.identifier,
            include=self._settings.selection.include,
            exclude=self._settings.selection.exclude,
            lines=parsed.lines,
            invalid=parsed.invalid,
            doubled=parsed.doubled,
            contacts=parsed.contacts,
            counts=dict(parsed.counts),
            catalogue=segments,
            chosen=tuple(self._settings.selection.chosen(names)),
        )
