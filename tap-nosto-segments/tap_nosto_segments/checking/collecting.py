"""Collect the evidence: fetch the export as a run would, without storing anything, and pass it through the guards of a run."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tap_nosto_segments import guards
from tap_nosto_segments.candidate import Candidate, date_export, has_same_selection, match_catalogue
from tap_nosto_segments.checking.evidence import Content, Download, Evidence
from tap_nosto_segments.errors import ExportUnavailableError, TapError
from tap_nosto_segments.nosto.catalogue import read_catalogue
from tap_nosto_segments.nosto.client import NostoClient
from tap_nosto_segments.nosto.export import EXPORT_NAME, Export, Validators, fetch_export, is_unchanged
from tap_nosto_segments.nosto.urls import is_http
from tap_nosto_segments.snapshots.database import connect, explain_storage_errors
from tap_nosto_segments.snapshots.head import count_lines, read_head, require_json_lines
from tap_nosto_segments.snapshots.parser import (
    count_without_segments,
    parse_export,
    require_complete_last_line,
)
from tap_nosto_segments.snapshots.store import open_store

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Mapping, Sequence

    from tap_nosto_segments.nosto.exchange import Exchange
    from tap_nosto_segments.settings import Settings
    from tap_nosto_segments.snapshots.manifest import Manifest


class Collector:
    """Collects what the verdicts need.

    Args:
        settings: the settings.
        sleep: injectable pause between two attempts, in seconds.
        now: injectable clock, in UTC.
        maps: what identifies the stream maps of the contacts; None if no contacts are emitted.
    """

    def __init__(
        self, settings: Settings, sleep: Callable[[float], None], now: Callable[[], datetime.datetime], maps: str | None
    ) -> None:
        self._settings = settings
        self._now = now
        self._maps = maps
        self._exchanges: list[Exchange] = []
        self._client = NostoClient(settings.request_timeout, sleep, self._note)

    def collect(self, bookmarks: Sequence[str | None], *, needs_catalogue: bool) -> Evidence:
        """Fetch and judge the export; the working folder is deleted at the end.

        The whole export is read: the guards judge its totals, so a part of it would not show what a run does.

        Args:
            bookmarks: the snapshot IDs in the bookmarks of the selected streams.
            needs_catalogue: whether a run stops if the catalogue cannot be read.

        Raises:
            SnapshotError: the snapshot folder cannot be read, or the disk is full.
        """
        settings, now = self._settings, self._now()
        store = open_store(settings.snapshot_uri, is_read_only=True)
        newest, base = store.newest(), store.base_of(bookmarks)
        with explain_storage_errors("checked"), tempfile.TemporaryDirectory(prefix="tap-nosto-segments-") as name:
            download = self._download(Path(name))
            content = self._read(Path(name), download.export) if download.export else None
        known = base.catalogue if base else {}
        catalogue, catalogue_error = read_catalogue(self._client, settings.graphql_url, settings.api_token, known)
        failure = download.failure
        if download.export and content and failure is None:
            failure = self._judge(download.export, content, catalogue, base, newest, now)
        if failure is None and needs_catalogue:
            failure = catalogue_error
        return Evidence(settings, now, download, content, catalogue, catalogue_error, base, newest, len(store), failure)

    def _note(self, url: str, exchange: Exchange) -> None:
        if url == self._settings.export_url:
            self._exchanges.clear()  # another attempt
        self._exchanges.append(exchange)

    def _download(self, folder: Path) -> Download:
        source = self._settings.export_source
        try:
            export = fetch_export(self._client, source, folder, Validators())
            if export is None:
                msg = "Nosto answered that the export has not changed, without having been asked for changes. Check export_url."
                raise ExportUnavailableError(msg)
        except TapError as error:
            return Download(tuple(self._exchanges), None, count_lines(folder / EXPORT_NAME), None, error)
        exchanges, is_recognised, failure = tuple(self._exchanges), None, None
        if is_http(source.url) and export.validators.headers():
            with contextlib.suppress(TapError):
                is_recognised = is_unchanged(self._client, source, export.validators)
        try:
            require_json_lines(export.path, export.content_encoding)
            require_complete_last_line(export.path, export.size)
        except TapError as error:
            failure = error
        return Download(exchanges, export, 0, is_recognised, failure)

    def _read(self, folder: Path, export: Export) -> Content:
        head = read_head(export.path, export.content_encoding)
        with contextlib.closing(connect(folder)) as database:
            try:
                parsed = parse_export(database, export.path, self._settings.segment_identifier)
            except TapError as error:
                return Content(head, None, 0, error)
            return Content(head, parsed, count_without_segments(database), None)

    def _judge(
        self,
        export: Export,
        content: Content,
        catalogue: Mapping[str, str],
        base: Manifest | None,
        newest: Manifest | None,
        now: datetime.datetime,
    ) -> TapError | None:
        """Return why a run would stop, in the order in which a run finds out."""
        settings = self._settings
        try:
            guards.require_fresh(settings, export.made_at, now)
            if newest is not None and newest.export_digest == export.digest and has_same_selection(settings, self._maps, newest):
                selection = settings.selection.among(newest.segment_names)
                guards.require_chosen_segment(selection, newest.contacts, newest.counts, newest.segment_names)
            elif content.parsed is not None:
                exported_at = date_export(export, newest, now)
                matched = match_catalogue(catalogue, base, content.parsed.counts)
                candidate = Candidate(content.parsed, export.digest, exported_at, matched, base, newest)
                guards.require_acceptable(settings, candidate, now.date())
            else:
                return content.unreadable
        except TapError as error:
            return error
        return None
