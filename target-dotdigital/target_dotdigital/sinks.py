"""The Singer sink: passes each record of a stream to the collector. Independent of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from singer_sdk import BatchSink
from singer_sdk.helpers.conform import DatetimeErrorTreatmentEnum
from typing_extensions import override

from target_dotdigital.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from singer_sdk import Target

    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.run import SyncRun

SHOWN = 20


class ContactTarget(Protocol):
    """The interface of the target that a sink uses."""

    @property
    def settings(self) -> Settings:
        """The validated settings."""
        ...

    @property
    def sync_run(self) -> SyncRun:
        """The run; the first stream opens it."""
        ...


class ContactSink(BatchSink):
    """Receives the contacts of one stream."""

    def __init__(self, target: Target, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None) -> None:
        """Check that the stream contains contacts, and register it.

        Raises:
            StreamError: the address or segments property is missing.
        """
        self._target = cast("ContactTarget", target)
        settings = self._target.settings
        self._email, self._segments = settings.email_property, settings.segments_property
        there = sorted(name for name in schema["properties"] if not name.startswith("_sdc_"))
        for name, setting in ((self._email, "email_property"), (self._segments, "segments_property")):
            if name not in there:
                shown = ", ".join(there[:SHOWN]) or "none"
                msg = (
                    f"The stream {stream_name!r} has no property {name!r} (it has: {shown}): it holds no contacts that this target "
                    f"could label. Deselect the stream in the tap, name the property in {setting}, or rename it with stream_maps."
                )
                raise StreamError(msg)
        super().__init__(target, stream_name, schema, key_properties)
        self._target.sync_run.collector.streams.add(stream_name)

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
        self._target.sync_run.collector.add(
            self.stream_name,
            record.get(self._email),
            record.get(self._segments),
            deleted=record.get("_sdc_deleted_at") is not None,
        )

    @override
    def process_batch(self, context: dict[str, Any]) -> None:
        """Do nothing: delivery starts after the end of the input."""

    @override
    def activate_version(self, new_version: int) -> None:
        self._target.sync_run.collector.activate(self.stream_name)
