"""The three streams: who is in which segment, who entered or left one, and which segments there are."""

from __future__ import annotations

import datetime
import itertools
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from singer_sdk import Stream
from singer_sdk import typing as th
from singer_sdk.mapper import DefaultStreamMap, SameRecordTransform
from typing_extensions import override

from tap_nosto_segments.database import literal
from tap_nosto_segments.differences import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk.helpers.types import Context, Record
    from singer_sdk.metrics import Counter
    from singer_sdk.singerlib import Catalog

    from tap_nosto_segments.extraction import Extraction
    from tap_nosto_segments.tap import TapNostoSegments

SNAPSHOT = "snapshot"
VARCHAR = th.StringType(nullable=False)
MAX_TRIED_RECORDS = 1_000


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
        # not by way of `stream_state`: that makes an empty entry, which the SDK would then emit as a starting STATE
        return cast("str | None", self.tap_state.get("bookmarks", {}).get(self.name, {}).get(SNAPSHOT))

    @cached_property
    def plan(self) -> Plan:
        """What is to be emitted. Compares snapshots when it is first asked for."""
        return self.compare()

    def compare(self) -> Plan:
        """Compare the current snapshot with the bookmark's."""
        return Plan()

    def prepare(self) -> None:
        """Do everything that can fail before the first message: compare, and try the stream maps on the first records."""
        _ = self.plan
        custom = [stream_map for stream_map in self.stream_maps if not isinstance(stream_map, DefaultStreamMap)]
        kept = self._kept_properties
        for record in itertools.islice(self.records(), MAX_TRIED_RECORDS if custom else 0):
            for stream_map in custom:
                stream_map.transform({name: value for name, value in record.items() if name in kept})

    def records(self) -> Iterator[Record]:
        """Read the records of the plan, one by one, without emitting anything."""
        if self.plan.query is None:
            return
        for rows in self.extraction.differences.rows(self.plan.query):
            columns = self.extraction.differences.columns
            for row in rows:
                yield dict(zip(columns, row, strict=True))

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        key = self.replication_key
        super().apply_catalog(catalog)
        if self.replication_method == "INCREMENTAL":
            self.replication_key = key  # which the catalog may have left out

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
        if sys.exc_info()[1] is not None:
            return  # the run ends with one line about what happened, and this would be a second one
        super().log(message, *args, **kwargs)

    def emit(self, version: int | None = None) -> Iterable[Record]:
        """Emit the records of the plan.

        Where nothing asks for the records one by one (no stream map, no property left out, no record limit), DuckDB writes the
        messages itself, and nothing is yielded.
        """
        self._stream_version = version
        if not self._is_plain():
            yield from self.records()
            return
        head = f'{{"type":"RECORD","stream":"{self.stream_maps[0].stream_alias}","record":'
        messages = f"SELECT {literal(head)} || to_json(record) FROM ({self.plan.query}) AS record"  # noqa: S608 - quoted
        for rows in self.extraction.differences.rows(messages):
            numbered = f'"version":{version},' if version is not None else ""
            tail = f',{numbered}"time_extracted":"{datetime.datetime.now(datetime.UTC).isoformat()}"}}\n'
            sys.stdout.write(tail.join([cast("str", row[0]) for row in rows]) + tail)
            if self._counter is not None:
                self._counter.increment(len(rows))
        sys.stdout.flush()

    def acknowledge(self) -> None:
        """Move the bookmark to the current snapshot; called when all of it has been emitted."""
        if self.replication_method == "FULL_TABLE":
            return
        current = self.extraction.current
        self.stream_state["replication_key"] = self.replication_key
        self.stream_state["replication_key_value"] = current.stamp
        self.stream_state[SNAPSHOT] = current.id

    def _is_plain(self) -> bool:
        return (
            self.ABORT_AT_RECORD_COUNT is None
            and [type(stream_map) for stream_map in self.stream_maps] == [SameRecordTransform]
            and not self.config.get("flattening_enabled", False)
            and self._kept_properties == set(self.schema["properties"])
            and all(
                self.effective_schema["properties"][name].get("type") == self.schema["properties"][name]["type"]
                for name in self.schema["properties"]
            )
        )

    @property
    def _kept_properties(self) -> set[str]:
        """The names of the properties that are selected and in the catalog's schema."""
        wanted = self.effective_schema.get("properties", {})
        return {name for name in self.schema["properties"] if name in wanted and self.mask[("properties", name)]}


class ContactSegmentsStream(ExportStream):
    """Each contact with its chosen segments, sorted; with a bookmark only those that changed or were removed."""

    name = "contact_segments"
    primary_keys: ClassVar[tuple[str, ...]] = ("email",)
    replication_key = "exported_at"
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("email", VARCHAR, required=True, description="Address: trimmed, in lower case and in Unicode's form NFC."),
        th.Property("segments", th.ArrayType(VARCHAR), required=True, description="Names of the chosen segments, sorted."),
        th.Property("exported_at", th.DateTimeType(nullable=False), required=True, description="When the export was made (UTC)."),
        th.Property("_sdc_deleted_at", th.DateTimeType, description="Set when the contact is no longer in the export."),
    ).to_dict()

    @override
    def compare(self) -> Plan:
        return self.extraction.differences.contacts(self.extraction.current, self.bookmark)

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        if self.plan.query is not None:
            version = self._tap.initialized_at if self.plan.everything else None
            yield from self.emit(version)
            if version is not None:
                # after the last record: a contact that the version does not hold was removed, also without a base to compare with
                self._write_activate_version_message(version)
        self.acknowledge()


class SegmentChangesStream(ExportStream):
    """One row for each contact that entered or left a chosen segment between two exports.

    Without a bookmark there is nothing to compare with: the first run, and every full refresh, emit each membership as entered.
    """

    name = "segment_changes"
    selected_by_default = False
    primary_keys: ClassVar[tuple[str, ...]] = ("email", "segment", "exported_at")
    replication_key = "exported_at"
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("email", VARCHAR, required=True, description="Address: trimmed, in lower case and in Unicode's form NFC."),
        th.Property("segment", VARCHAR, required=True, description="Name of the segment."),
        th.Property("exported_at", th.DateTimeType(nullable=False), required=True, description="The export that shows it (UTC)."),
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
    def compare(self) -> Plan:
        return self.extraction.differences.memberships(self.extraction.current, self.bookmark)

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        if self.plan.query is not None:
            yield from self.emit()
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
    def compare(self) -> Plan:
        if self.extraction.catalogue_error is not None:
            raise self.extraction.catalogue_error
        return Plan()

    @override
    def records(self) -> Iterator[Record]:
        current = self.extraction.current
        ids: dict[str, str] = {}
        for key, name in sorted(current.catalogue.items()):
            ids.setdefault(name, key)
        for name in sorted({*current.counts, *ids}):
            yield {
                "name": name,
                "id": ids.get(name),
                "selected": cast("TapNostoSegments", self._tap).settings.selection.chooses(name),
                "contact_count": current.counts.get(name, 0),
            }

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        _ = self.plan  # fails where the catalogue could not be read
        names = sorted(self.extraction.current.catalogue.values())
        for name in sorted({one for one, other in itertools.pairwise(names) if one == other}):
            self.logger.warning("Two segments of Nosto's catalogue are called %r; the lower id is emitted", name)
        return self.records()


STREAMS: tuple[type[ExportStream], ...] = (ContactSegmentsStream, SegmentChangesStream, SegmentsStream)
