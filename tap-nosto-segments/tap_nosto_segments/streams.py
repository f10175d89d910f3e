"""The three streams: contacts with their segments, changes of membership, and the catalogue of segments."""

from __future__ import annotations

import datetime
import itertools
import sys
from typing import TYPE_CHECKING, Any, ClassVar, cast

from singer_sdk import Stream
from singer_sdk import typing as th
from singer_sdk.mapper import DefaultStreamMap, RemoveRecordTransform, SameRecordTransform
from singer_sdk.singerlib import Metadata, MetadataMapping, Schema
from typing_extensions import override

from tap_nosto_segments.snapshots.diff import Changes
from tap_nosto_segments.stream_maps import MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from singer_sdk.helpers.types import Context, Record
    from singer_sdk.metrics import Counter
    from singer_sdk.singerlib import Catalog

    from tap_nosto_segments.extraction import Extraction


SNAPSHOT = "snapshot"
# key of a bookmark: contacts are missing in what was emitted, because lines of the export were malformed
SKIPPED_LINES = "skipped_lines"
REQUIRED_STRING = th.StringType(nullable=False)
REQUIRED_TIME = th.DateTimeType(nullable=False)
MAX_TRIAL_RECORDS = 1_000
MARK_BREADCRUMB = ("properties", MARK)


class ExportStream(Stream):
    """A stream of the current export. Its bookmark advances only when the whole export has been emitted.

    Attributes:
        extraction: the extraction that all streams share, set by `prepare`.
        changes: what this stream emits, set by `prepare`.
    """

    extraction: Extraction
    changes: Changes
    _counter: Counter | None = None

    @property
    def bookmark(self) -> str | None:
        """The ID of the snapshot in this stream's bookmark; None emits everything."""
        if self.replication_method == "FULL_TABLE":
            return None
        # not `stream_state`, which would create an empty entry that the SDK then emits as the starting STATE
        return cast("str | None", self.tap_state.get("bookmarks", {}).get(self.name, {}).get(SNAPSHOT))

    def prepare(self, extraction: Extraction) -> None:
        """Compare the snapshots and try custom stream maps on the first records, so that errors occur before the first message.

        Raises:
            TapError: the stream cannot be emitted.
        """
        self.extraction = extraction
        self.changes = self.compare_snapshots(extraction)
        custom_maps = [stream_map for stream_map in self.stream_maps if not isinstance(stream_map, DefaultStreamMap)]
        deselected = self.deselected
        for record in itertools.islice(self.read_records(), MAX_TRIAL_RECORDS if custom_maps else 0):
            for stream_map in custom_maps:
                stream_map.transform({name: value for name, value in record.items() if name not in deselected})

    def compare_snapshots(self, extraction: Extraction) -> Changes:  # noqa: ARG002 - for subclasses
        """Compare the current snapshot with the bookmark's."""
        return Changes()

    def read_records(self) -> Iterator[Record]:
        """Read the records of the changes, without emitting them."""
        return self.extraction.diff.read_records(self.changes)

    def emit_changes(self, version: int | None = None) -> Iterable[Record]:
        """Emit the records of the changes, and advance the bookmark.

        If no option needs the records one by one (no stream map, no deselected property, no record limit), they are written to
        standard output in bulk, and nothing is yielded.

        Args:
            version: version for ACTIVATE_VERSION; None if none follows.
        """
        self._stream_version = version
        if self.changes.query is None:
            return
        if self._can_write_in_bulk():
            for records in self.extraction.diff.read_json(self.changes):
                write_records(records, self.stream_maps[0].stream_alias, version)
                if self._counter is not None:
                    self._counter.increment(len(records))
        else:
            yield from self.read_records()

    def advance_bookmark(self) -> None:
        """Set the bookmark to the current snapshot. Call this when all of it has been emitted."""
        if self.replication_method == "FULL_TABLE":
            return
        current = self.extraction.current
        self.stream_state["replication_key"] = self.replication_key
        self.stream_state["replication_key_value"] = current.timestamp
        self.stream_state[SNAPSHOT] = current.id
        # a full input without ACTIVATE_VERSION is otherwise reported as truncated by the target
        if self.changes.is_full and not self.changes.is_proof:
            self.stream_state[SKIPPED_LINES] = True
        else:
            self.stream_state.pop(SKIPPED_LINES, None)

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        key = self.replication_key
        super().apply_catalog(catalog)
        if self.replication_method == "INCREMENTAL":
            self.replication_key = key  # the catalog may omit it

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> datetime.datetime | None:
        # if clocks differ, an export may come "from the future"; its time must be stored unchanged
        return None

    @override
    def get_record_counter(self, **kwargs: Any) -> Counter:
        self._counter = super().get_record_counter(**kwargs)
        return self._counter

    @override
    def log(self, message: str, *args: Any, **kwargs: Any) -> None:
        if sys.exc_info()[1] is not None:
            return  # a failed run ends with exactly one line
        super().log(message, *args, **kwargs)

    def _can_write_in_bulk(self) -> bool:
        return (
            self.ABORT_AT_RECORD_COUNT is None
            and [type(stream_map) for stream_map in self.stream_maps] == [SameRecordTransform]
            and not self.deselected
            and all(
                self.effective_schema["properties"][name].get("type") == self.schema["properties"][name]["type"]
                for name in self.schema["properties"]
            )
        )

    @property
    def is_dropped(self) -> bool:
        """Whether stream maps drop every record."""
        return all(isinstance(stream_map, RemoveRecordTransform) for stream_map in self.stream_maps)

    @property
    def deselected(self) -> set[str]:
        """The properties that are deselected, or missing in the catalog's schema."""
        wanted = self.effective_schema.get("properties", {})
        return {name for name in self.schema["properties"] if name not in wanted or not self.mask[("properties", name)]}


class ContactSegmentsStream(ExportStream):
    """Each contact with its chosen segments; with a bookmark, only contacts that changed or were removed."""

    name = "contact_segments"
    primary_keys: ClassVar[tuple[str, ...]] = ("email",)
    replication_key = "exported_at"
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("email", REQUIRED_STRING, required=True, description="Address: trimmed, in lower case, in Unicode form NFC."),
        th.Property("segments", th.ArrayType(REQUIRED_STRING), required=True, description="Names of the chosen segments, sorted."),
        th.Property("exported_at", REQUIRED_TIME, required=True, description="When the export was made (UTC)."),
        th.Property(MARK, th.DateTimeType, description="Set if the contact is no longer in the export. Always selected."),
    ).to_dict()

    @property
    @override
    def metadata(self) -> MetadataMapping:
        metadata = super().metadata
        if metadata:  # without metadata, everything is selected
            metadata[MARK_BREADCRUMB] = Metadata(inclusion=Metadata.InclusionType.AUTOMATIC)
        return metadata

    @override
    def compare_snapshots(self, extraction: Extraction) -> Changes:
        return extraction.diff.compare_contacts(self.bookmark)

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        # without a version, the records do not announce an ACTIVATE_VERSION
        version = self._tap.initialized_at if self.changes.is_proof else None
        yield from self.emit_changes(version)
        if version is not None:
            # after the last record: contacts without this version were removed, which no comparison could show
            self._write_activate_version_message(version)
        self.advance_bookmark()


class SegmentChangesStream(ExportStream):
    """One row for each contact that entered or left a chosen segment between two exports.

    Without a bookmark there is nothing to compare with: the first run, and every full refresh, emit each membership as entered.
    """

    name = "segment_changes"
    selected_by_default = False
    primary_keys: ClassVar[tuple[str, ...]] = ("email", "segment", "exported_at")
    replication_key = "exported_at"
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("email", REQUIRED_STRING, required=True, description="Address: trimmed, in lower case, in Unicode form NFC."),
        th.Property("segment", REQUIRED_STRING, required=True, description="Name of the segment."),
        th.Property(
            "exported_at", REQUIRED_TIME, required=True, description="When the export that shows the change was made (UTC)."
        ),
        th.Property(
            "change",
            th.StringType(nullable=False, allowed_values=["entered", "left"]),
            required=True,
            description=(
                "Whether the contact entered or left the segment. The first run, and every full refresh, emit each membership as entered."
            ),
        ),
    ).to_dict()

    @override
    def compare_snapshots(self, extraction: Extraction) -> Changes:
        return extraction.diff.compare_memberships(self.bookmark)

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        yield from self.emit_changes()
        self.advance_bookmark()


class SegmentsStream(ExportStream):
    """Every segment of the export and of Nosto's catalogue."""

    name = "segments"
    selected_by_default = False
    # one row for each export, so that a warehouse keeps the history of sizes
    primary_keys: ClassVar[tuple[str, ...]] = ("name", "exported_at")
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("name", REQUIRED_STRING, required=True, description="Name, spelled as in Nosto."),
        th.Property("id", th.StringType, description="Nosto's ID; null without api_token, or if the catalogue lacks the name."),
        th.Property("selected", th.BooleanType(nullable=False), required=True, description="Whether the segment is synchronised."),
        th.Property("contact_count", th.IntegerType(nullable=False), required=True, description="Contacts in this export."),
        th.Property("exported_at", REQUIRED_TIME, required=True, description="When the export was made (UTC)."),
    ).to_dict()

    @override
    def compare_snapshots(self, extraction: Extraction) -> Changes:
        if extraction.catalogue_error is not None:
            raise extraction.catalogue_error
        return Changes()

    @override
    def read_records(self) -> Iterator[Record]:
        extraction = self.extraction
        current = extraction.current
        ids: dict[str, str] = {}
        for segment_id, name in sorted(current.catalogue.items()):
            ids.setdefault(name, segment_id)
        for name in sorted({*current.counts, *ids}):
            yield {
                "name": name,
                "id": ids.get(name),
                "selected": extraction.selection.chooses(name),
                "contact_count": current.counts.get(name, 0),
                "exported_at": current.timestamp,
            }

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        names = sorted(self.extraction.current.catalogue.values())
        for name in sorted({name for name, following in itertools.pairwise(names) if name == following}):
            self.logger.warning("Two segments in Nosto's catalogue are named %r; the lower ID is emitted", name)
        yield from self.read_records()


def include_marks_of_removal(catalog: Catalog) -> Catalog:
    """Select the mark of removal in a catalog, even if the catalog does not: without it, a removed contact looks like one in no segment."""
    entry = catalog.get_stream(ContactSegmentsStream.name)
    if entry is not None:
        schema = Schema.from_dict(ContactSegmentsStream.schema["properties"][MARK])
        entry.schema.properties = {**(entry.schema.properties or {}), MARK: schema}
        if entry.metadata:  # without metadata, everything is selected
            entry.metadata[MARK_BREADCRUMB] = Metadata(inclusion=Metadata.InclusionType.AUTOMATIC)
    return catalog


def write_records(records: Sequence[str], stream: str, version: int | None) -> None:
    """Write a RECORD message for each record.

    Args:
        records: at least one record, as JSON objects.
        stream: name of the stream.
        version: version for ACTIVATE_VERSION; None leaves it out.
    """
    version_part = f'"version":{version},' if version is not None else ""
    extracted_at = datetime.datetime.now(datetime.UTC).isoformat()
    head = f'{{"type":"RECORD","stream":"{stream}","record":'
    tail = f',{version_part}"time_extracted":"{extracted_at}"}}\n'
    sys.stdout.write(head + f"{tail}{head}".join(records) + tail)
    sys.stdout.flush()


STREAMS: tuple[type[ExportStream], ...] = (ContactSegmentsStream, SegmentChangesStream, SegmentsStream)
