"""The three streams: who is in which segment, who moved, and which segments there are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, cast

from singer_sdk import Stream
from singer_sdk import typing as th
from singer_sdk.mapper import SameRecordTransform
from typing_extensions import override

from tap_nosto_segments.database import literal
from tap_nosto_segments.errors import TapError

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable

    from singer_sdk.helpers.types import Context, Record
    from singer_sdk.metrics import Counter

    from tap_nosto_segments.extraction import Extraction
    from tap_nosto_segments.tap import TapNostoSegments

SNAPSHOT = "snapshot"
VARCHAR = th.StringType(nullable=False)


class ExportStream(Stream):
    """A stream that is read off the current export. Its bookmark moves only when a whole export has been emitted."""

    _counter: Counter | None = None

    @property
    def extraction(self) -> Extraction:
        """The run that all streams share."""
        return cast("TapNostoSegments", self._tap).extraction

    @property
    def bookmark(self) -> str | None:
        """The snapshot that this stream's bookmark names; None emits everything."""
        if self.replication_method == "FULL_TABLE":
            return None
        return cast("str | None", self.stream_state.get(SNAPSHOT))

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> datetime.datetime | None:
        # an export may be "from the future" where clocks differ, and must still be acknowledged as it is
        return None

    @override
    def get_record_counter(self, **kwargs: Any) -> Counter:
        self._counter = super().get_record_counter(**kwargs)
        return self._counter

    @override
    def log(self, message: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(sys.exc_info()[1], TapError):
            return  # an error that says itself what happened needs no second line
        super().log(message, *args, **kwargs)

    def emit(self, query: str, version: int | None = None) -> Iterable[Record]:
        """Emit what a query gives.

        Where nothing asks for the records one by one (no stream map, no deselected property, no record limit), DuckDB writes
        the messages itself, and nothing is yielded.
        """
        self._stream_version = version
        if not self._is_plain():
            for rows in self.extraction.rows(query):
                columns = self.extraction.columns
                for row in rows:
                    yield dict(zip(columns, row, strict=True))
            return
        head = f'{{"type":"RECORD","stream":"{self.stream_maps[0].stream_alias}","record":'
        tail = f',"version":{version}}}\n' if version is not None else "}\n"
        messages = f"SELECT {literal(head)} || to_json(record) || {literal(tail)} FROM ({query}) AS record"  # noqa: S608 - quoted
        for rows in self.extraction.rows(messages):
            sys.stdout.write("".join(cast("str", row[0]) for row in rows))
            if self._counter is not None:
                self._counter.increment(len(rows))
        sys.stdout.flush()

    def acknowledge(self) -> None:
        """Move the bookmark to the current snapshot; called when all of it has been emitted."""
        if self.replication_method == "FULL_TABLE":
            return
        self.stream_state["replication_key"] = self.replication_key
        self.stream_state["replication_key_value"] = self.extraction.exported_at
        self.stream_state[SNAPSHOT] = self.extraction.current.id

    def _is_plain(self) -> bool:
        return (
            self.ABORT_AT_RECORD_COUNT is None
            and [type(stream_map) for stream_map in self.stream_maps] == [SameRecordTransform]
            and not self.config.get("flattening_enabled", False)
            and all(self.mask.values())
        )


class ContactSegmentsStream(ExportStream):
    """Each contact with its chosen segments, sorted; with a bookmark only those that changed or vanished."""

    name = "contact_segments"
    primary_keys: ClassVar[tuple[str, ...]] = ("email",)
    replication_key = "exported_at"
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("email", VARCHAR, required=True, description="Address, trimmed and in lower case."),
        th.Property("segments", th.ArrayType(VARCHAR), required=True, description="Names of the chosen segments, sorted."),
        th.Property("exported_at", th.DateTimeType(nullable=False), required=True, description="When the export was made (UTC)."),
        th.Property("_sdc_deleted_at", th.DateTimeType, description="Set when the contact vanished from the export."),
    ).to_dict()

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        query, everything = self.extraction.contacts(self.bookmark)
        if query is not None:
            version = self._tap.initialized_at if everything else None
            yield from self.emit(query, version)
            if version is not None:
                # after the last record: whoever the version does not hold has vanished, also without a base to compare with
                self._write_activate_version_message(version)
        self.acknowledge()


class SegmentChangesStream(ExportStream):
    """One row for each contact that entered or left a chosen segment between two exports."""

    name = "segment_changes"
    selected_by_default = False
    primary_keys: ClassVar[tuple[str, ...]] = ("email", "segment", "exported_at")
    replication_key = "exported_at"
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("email", VARCHAR, required=True, description="Address, trimmed and in lower case."),
        th.Property("segment", VARCHAR, required=True, description="Name of the segment."),
        th.Property("exported_at", th.DateTimeType(nullable=False), required=True, description="The export that shows it (UTC)."),
        th.Property(
            "change",
            th.StringType(nullable=False, allowed_values=["entered", "left"]),
            required=True,
            description="Whether the contact entered or left the segment.",
        ),
    ).to_dict()

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        query = self.extraction.moves(self.bookmark)
        if query is not None:
            yield from self.emit(query)
        self.acknowledge()


class SegmentsStream(ExportStream):
    """Every segment of the export and of Nosto's catalogue."""

    name = "segments"
    selected_by_default = False
    primary_keys: ClassVar[tuple[str, ...]] = ("name",)
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("name", VARCHAR, required=True, description="Name, as Nosto writes it."),
        th.Property("id", th.StringType, description="Nosto's id; null without api_token, or where the catalogue lacks the name."),
        th.Property("selected", th.BooleanType(nullable=False), required=True, description="Whether it is synchronised."),
        th.Property("contact_count", th.IntegerType(nullable=False), required=True, description="Contacts in this export."),
    ).to_dict()

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        if self.extraction.catalogue_error is not None:
            raise self.extraction.catalogue_error
        current = self.extraction.current
        ids: dict[str, str] = {}
        for key, name in sorted(current.catalogue.items()):
            if name in ids:
                self.logger.warning("Two segments of Nosto's catalogue are called %r; the lower id is given", name)
            ids.setdefault(name, key)
        for name in sorted({*current.counts, *ids}):
            yield {
                "name": name,
                "id": ids.get(name),
                "selected": self.config_selects(name),
                "contact_count": current.counts.get(name, 0),
            }

    def config_selects(self, name: str) -> bool:
        """Say whether the settings choose this segment."""
        return cast("TapNostoSegments", self._tap).settings.selection.chooses(name)
