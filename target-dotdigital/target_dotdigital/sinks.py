"""The Singer sink: passes each record of a stream to the collector. Independent of HTTP."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

from singer_sdk import BatchSink
from singer_sdk.helpers.conform import DatetimeErrorTreatmentEnum
from typing_extensions import override

from target_dotdigital.errors import StreamError
from target_dotdigital.reader import is_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from singer_sdk import Target

    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.run import Run

MAX_LISTED_PROPERTIES = 20


class ContactTarget(Protocol):
    """The interface of the target that a sink uses."""

    @property
    def settings(self) -> Settings:
        """The validated settings."""
        ...

    @property
    def run(self) -> Run:
        """The run."""
        ...

    @property
    def skipped(self) -> dict[str, str]:
        """Streams without contacts, and the reason for each."""
        ...

    def is_mapped_to_null(self, stream_name: str) -> bool:
        """Return whether stream_maps drop the whole stream."""
        ...


class ContactSink(BatchSink):
    """Receives the contacts of one stream. A stream without addresses or segment names is skipped."""

    def __init__(self, target: Target, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None) -> None:
        """Register the stream.

        Raises:
            StreamError: the stream lacks a property that an earlier schema of this input had.
        """
        self._target = cast("ContactTarget", target)
        settings, skipped = self._target.settings, self._target.skipped
        self._email, self._segments = settings.email_property, settings.segments_property
        if self._target.is_mapped_to_null(stream_name):
            lack: str | None = f"The stream {stream_name!r} is dropped by stream_maps"
        else:
            lack = _missing_property(stream_name, schema, {"email_property": self._email, "segments_property": self._segments})
        super().__init__(target, stream_name, schema, key_properties)
        self.has_contacts = lack is None
        if lack is not None:
            if not skipped.keys() & {stream_name}:
                if self._had_contacts():
                    msg = f"{lack}, although its schema had it before. Nothing was written. Check the tap."
                    raise StreamError(msg)
                self.logger.warning("%s, so the stream is skipped.", lack)
            skipped[stream_name] = lack
        else:
            self._target.run.collector.streams.add(stream_name)

    def _had_contacts(self) -> bool:
        """Return whether an earlier schema in this input declared a stream of contacts."""
        return self.stream_name in self._target.run.collector.streams

    @property
    def include_sdc_metadata_properties(self) -> bool:
        """Keep `_sdc_deleted_at`, which marks removed contacts and which the SDK would strip otherwise."""
        return True

    @property
    def max_size(self) -> int:
        """No limit: records go straight to the ledger."""
        return 1 << 62

    @property
    def datetime_error_treatment(self) -> DatetimeErrorTreatmentEnum:
        """Replace invalid dates instead of failing; only the presence of `_sdc_deleted_at` matters."""
        return DatetimeErrorTreatmentEnum.MAX

    @override
    def get_validator(self) -> None:
        # The collector checks the two properties that matter, and leaves out invalid records without quoting them.
        # The SDK's validation would end the run and log the record.
        return None

    @override
    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        if not self.has_contacts:
            return
        self._target.run.collector.add_record(
            self.stream_name,
            record.get(self._email),
            record.get(self._segments),
            deleted=is_removed(record),
        )

    @override
    def process_batch(self, context: dict[str, Any]) -> None:
        """Do nothing: delivery starts after the end of the input."""

    @override
    def activate_version(self, new_version: int) -> None:
        if self.has_contacts:
            self._target.run.collector.on_activate_version(self.stream_name, new_version)


def is_removed(record: Mapping[str, Any]) -> bool:
    """Return whether a record marks its contact as removed.

    Raises:
        StreamError: the mark is neither a time nor null, so that its meaning is unknown.
    """
    mark = record.get("_sdc_deleted_at")
    if mark is None or isinstance(mark, datetime.datetime) or (isinstance(mark, str) and is_time(mark)):
        return mark is not None
    msg = (
        "stream_maps give '_sdc_deleted_at' a value that is neither a time nor null, so it is not known whether a contact was removed. "
        "Nothing was written, and the bookmark stays. Correct the expression."
    )
    raise StreamError(msg)


def _missing_property(stream: str, schema: dict[str, Any], needed: dict[str, str]) -> str | None:
    """Return which property a stream of contacts is missing, as the beginning of a sentence; None if it is missing none.

    Args:
        stream: name of the stream.
        schema: its schema.
        needed: setting -> required property.
    """
    there = sorted(name for name in schema["properties"] if not name.startswith("_sdc_"))
    for setting, name in needed.items():
        if name not in there:
            shown = ", ".join(there[:MAX_LISTED_PROPERTIES]) or "none"
            return f"The stream {stream!r} has no property {name!r} ({setting}; it has: {shown})"
    return None
